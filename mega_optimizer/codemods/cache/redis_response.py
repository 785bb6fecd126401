"""Keep the answers of public GET routes in Redis.

The cache stands in a route class of FastAPI, around validation, dependencies and serialization
(https://fastapi.tiangolo.com/how-to/custom-request-and-route/), so that a hit costs none of them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.cache.redis_place import Wanted, redis_for
from mega_optimizer.codemods.cache.routes import Cacheable, cacheable_routes
from mega_optimizer.codemods.cache.settings_field import (
    add_field,
    has_settings,
    reading,
    settings_field,
)
from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.startup import Startup, startup_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.cache.settings_field import SettingsField
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.finding import Outcome

MODULE = "response_cache"
OURS = b"def open_response_cache("
OWN_ROUTE = b"class CachedRoute(APIRoute)"
OWN_CACHES = (
    rb"(?m)^[ \t]*(?:from|import)[ \t]+(?:redis|aioredis|fastapi_cache|aiocache|cashews|cachetools"
    rb"|fastapi_redis_cache|starlette_caches|async_lru)\b"
)
REQUIRED = "redis>=5.0.1"  # aclose; a cancelled command no longer leaves its answer behind


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each route whose answers may be kept, and why others may not be."""
    if not context.service.deployments:
        return
    for found in cacheable_routes(context, own_cache(context)):
        if isinstance(found, Skip):
            yield found
            continue
        place = found.place
        objection = startup_of(context, found.facts.path)
        if isinstance(objection, Skip):
            yield Skip(place, objection.code, objection.reason)
            continue
        seconds = seconds_for(context, found.kind)
        yield Fix(
            place,
            f"Keep the answers of GET {found.path} in Redis for {seconds} seconds",
            partial(_edits, context, found, objection, seconds),
            requires=(REQUIRED,),
            beside="fastapi",
        )


def seconds_for(context: Context, kind: str) -> int:
    """Return how long answers of a kind are kept, as the parameters of the rule say."""
    return int(context.parameters[f"{kind}_seconds"])


def own_cache(context: Context) -> tuple[str, str] | None:
    """Return (code, reason) where the service has a cache, or talks to a Redis, already."""
    for path in context.program.containing(OWN_CACHES, context.program.product, b"import"):
        if OWN_ROUTE not in (context.program.read(path) or b""):
            return "has-a-cache", f"{path} uses a cache or Redis of its own"
    return None


def _edits(
    context: Context, found: Cacheable, startup: Startup, seconds: int
) -> tuple[Edit, ...] | Skip:
    from mega_optimizer.codemods.cache.generated_module import context_with, module_beside
    from mega_optimizer.codemods.cache.marked_routes import mark_route
    from mega_optimizer.codemods.draft import Draft

    path = module_beside(context, startup.path, MODULE, OURS)
    if isinstance(path, Skip):
        return path
    field = settings_field(context.program, "redis_url")
    variable = field.variable if field is not None else "REDIS_URL"
    content = context.program.read(path)
    is_new = content is None
    if content is None:
        generated = _generated(context, startup, field, variable)
        if isinstance(generated, Skip):
            return generated
        content = generated
    extended = context_with(context, path, content)
    draft = Draft(extended)
    objection = mark_route(extended, draft, found, path, seconds)
    if objection is None and is_new:
        objection = _opened(extended, draft, startup, path, field)
    if objection is not None:
        return objection
    wanted = Wanted(
        variable,
        str(context.parameters["redis_image"]),
        int(context.parameters["redis_megabytes"]),
        in_example=field is not None or not has_settings(context.program),
    )
    manifests = redis_for(context, wanted)
    if isinstance(manifests, Skip):
        return manifests
    new = (Edit(path, 0, 0, content),) if is_new else ()
    return (*new, *draft.edits(), *manifests)


def _generated(
    context: Context, startup: Startup, field: SettingsField | None, variable: str
) -> bytes | Skip:
    from mega_optimizer.codemods.cache.rendered import rendered

    read = (
        ("", f'os.environ.get("{variable}")') if field is None else reading(context, startup, field)
    )
    if isinstance(read, Skip):
        return read
    name = context.service.name.rpartition("/")[2]
    text = rendered(
        "cache/redis_response.py.j2",
        prefix=f"cache:{name}",
        settings_import=read[0],
        settings_value=read[1],
    )
    return text.encode()


def _opened(
    context: Context, draft: Draft, startup: Startup, path: str, field: SettingsField | None
) -> Skip | None:
    """Open the cache around serving, and add the setting that says where Redis is."""
    from mega_optimizer.codemods.lifespan import Resource, open_around_serving

    objection = open_around_serving(
        context, draft, startup, Resource(path, "open_response_cache", is_new=True)
    )
    if objection is not None or field is None or field.is_there:
        return objection
    return add_field(draft, field, "answers are kept where it is set")
