"""Keep the answers of public GET routes in the memory of the process, where nothing runs a Redis.

Bounded in number and bytes. Each process keeps its own answers: with several, two requests in a
row may get answers of different age.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.cache.redis_response import own_cache, seconds_for
from mega_optimizer.codemods.cache.routes import Cacheable, cacheable_routes
from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.startup import Startup, startup_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome

MODULE = "response_cache"
OURS = b"class CachedRoute(APIRoute)"


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each route whose answers may be kept, and why others may not be."""
    service = context.service
    if service.deployments or not (service.dockerfile or service.launch):
        return  # cache/redis-response is for what manifests run; a library serves nothing
    for found in cacheable_routes(context, own_cache(context)):
        if isinstance(found, Skip):
            yield found
            continue
        place = found.place
        objection = _tested(context, found) or startup_of(context, found.facts.path)
        if isinstance(objection, Skip):
            yield Skip(place, objection.code, objection.reason)
            continue
        seconds = seconds_for(context, found.kind)
        yield Fix(
            place,
            f"Keep the answers of GET {found.path} in memory for {seconds} seconds",
            partial(_edits, context, found, objection, seconds),
        )


def _tested(context: Context, found: Cacheable) -> Skip | None:
    """Return a skip where tests ask the route more than once, and may want different answers."""
    fixed = found.path.partition("{")[0].rstrip("/")
    if not fixed:
        return None
    pattern = re.compile(re.escape(fixed.encode()) + rb"\b")
    asked = {
        path: len(pattern.findall(context.program.read(path) or b""))
        for path in context.program.tests
    }
    if sum(asked.values()) > 1:
        path = max(asked, key=lambda each: asked[each])
        reason = f"{path} asks it more than once, and may want different answers"
        return Skip(found.place, "tested-more-than-once", reason)
    return None


def _edits(
    context: Context, found: Cacheable, startup: Startup, seconds: int
) -> tuple[Edit, ...] | Skip:
    from mega_optimizer.codemods.cache.generated_module import context_with, module_beside
    from mega_optimizer.codemods.cache.marked_routes import mark_route
    from mega_optimizer.codemods.cache.rendered import rendered
    from mega_optimizer.codemods.draft import Draft

    path = module_beside(context, startup.path, MODULE, OURS)
    if isinstance(path, Skip):
        return path
    content = context.program.read(path)
    new: tuple[Edit, ...] = ()
    if content is None:
        content = rendered(
            "cache/local_cache.py.j2",
            entries=int(context.parameters["entries"]),
            megabytes=int(context.parameters["megabytes"]),
        ).encode()
        new = (Edit(path, 0, 0, content),)
    extended = context_with(context, path, content)
    draft = Draft(extended)
    objection = mark_route(extended, draft, found, path, seconds)
    return objection or (*new, *draft.edits())
