"""One HTTP client for the application instead of one for each request.

A client owns a pool of connections and, for HTTPS, a parsed set of certificates. Made per request,
every request pays for both (https://www.python-httpx.org/advanced/clients/#why-use-a-client,
https://docs.aiohttp.org/en/stable/client_quickstart.html#make-a-request).
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.bodies import bodies, position
from mega_optimizer.codemods.database.constants import Inputs, is_constant
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.http.client_use import use_objection, waits_long
from mega_optimizer.codemods.http.clients import PURE, client_of
from mega_optimizer.codemods.http.hazards import hazard
from mega_optimizer.codemods.http.per_request import NOTHING, per_request
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_per_request
from mega_optimizer.codemods.startup import startup_of
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.bodies import Bodies
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.http.clients import Client
    from mega_optimizer.codemods.http.per_request import Moved
    from mega_optimizer.codemods.startup import Startup
    from mega_optimizer.repository.python import Argument, Call, PythonFacts, Value

LITERALS = (b"AsyncClient", b"ClientSession", b"httpx.Client")
PATTERN = rb"\b(?:AsyncClient|ClientSession|httpx\.Client)\s*\("


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each module that makes clients in functions, skips where it may not."""
    program = context.program
    for path in program.containing(PATTERN, program.product, *LITERALS):
        facts = context.python(path)
        if isinstance(facts, Problem):
            yield Skip(Place(path, facts.line), facts.code, facts.message)
            continue
        made = [(call, client) for call in facts.calls if (client := client_of(call))]
        yield from _of_module(context, facts, [one for one in made if one[0].scope])


def _of_module(
    context: Context, facts: PythonFacts, made: list[tuple[Call, Client]]
) -> Iterator[Outcome]:
    program = context.program
    content = context.read(facts.path)
    if not made or not isinstance(content, bytes):
        return
    standing = bodies(facts.path, content)
    groups: dict[tuple[Client, Value], list[Call]] = {}
    moved: dict[Call, Moved] = {}
    for call, client in made:
        goes = _goes_with_requests(context, facts, content, call, client)
        objection = _objection(context, facts, call, client, standing, goes)
        if objection is not None or goes is None:
            if objection is not None:
                yield objection
            continue
        moved[call] = goes
        stays = call.value._replace(arguments=_staying(call, goes))
        groups.setdefault((client, stays), []).append(call)
    if not groups:
        return
    (client, _), calls = max(groups.items(), key=lambda group: len(group[1]))
    place = Place(facts.path, calls[0].line, calls[0].column)
    startup = startup_of(context, facts.path)
    if isinstance(startup, Skip):
        yield Skip(place, startup.code, f"{startup.reason} ({startup.place})")
        return
    objection = hazard(context, facts, startup, client, place)
    if objection is not None:
        yield objection
        return
    if not any(
        runs_per_request(program, Definition(facts.path, scope), by_name=True)
        for scope in dict.fromkeys(call.scope for call in calls)
    ):
        reason = f"no route, dependency or task was seen to use {calls[0].scope}"
        yield Skip(place, "not-per-request", reason)
        return
    unlimited = any(
        waits_long(program, facts, call, standing.entered[position(call)].bound) for call in calls
    )
    uses = {call: moved[call] for call in calls}
    edits = partial(_edits, context, startup, facts, client, uses, unlimited)
    yield Fix(place, f"share one {client.package} client between requests", edits)
    for others in groups.values():
        if others is not calls:
            reason = "a client with other arguments is shared in this module"
            yield Skip(Place(facts.path, others[0].line), "several-clients", reason)


def _goes_with_requests(
    context: Context, facts: PythonFacts, content: bytes, call: Call, client: Client
) -> Moved | None:
    """Return what of ``call`` has to go to the requests, None where something may stay nowhere."""
    if call.unpacks:
        return None
    varying = [each for each in call.arguments if not _is_constant(context, facts, call, each)]
    return per_request(facts, content, call, client, varying) if varying else NOTHING


def _staying(call: Call, moved: Moved) -> tuple[Argument, ...]:
    return tuple(each for each in call.arguments if each.keyword not in moved.keywords)


def _objection(
    context: Context,
    facts: PythonFacts,
    call: Call,
    client: Client,
    standing: Bodies,
    moved: Moved | None,
) -> Skip | None:
    place = Place(facts.path, call.line, call.column)
    program = context.program
    function = facts.function(call.scope)
    entered = standing.entered.get(position(call))
    if function is None:
        return Skip(place, "shape-not-known", "stands in a class body, or in one of many functions")
    if facts.resolve(call.text) != call.name:
        return Skip(place, "import-in-function", f"{call.text} is imported in {call.scope} only")
    if entered is None or entered.is_async != client.is_async:
        return Skip(place, "not-entered", "no with statement bounds the life of this client")
    if "cookies" in _keywords(call) or "cookie_jar" in _keywords(call):
        return Skip(place, "cookie-state", "the client begins with cookies of its own")
    if moved is None:
        return Skip(place, "arguments-not-constant", "its arguments may differ from call to call")
    varied = _varied_by_tests(context, facts, call, moved)
    if varied is not None:
        return Skip(place, "tests-vary-arguments", f"{varied} changes what the client is made of")
    objection = use_objection(program, facts, call, client, standing)
    if objection is not None:
        return objection
    return None


def _keywords(call: Call) -> set[str | None]:
    return {each.keyword for each in call.arguments}


def _is_constant(context: Context, facts: PythonFacts, call: Call, given: Argument) -> bool:
    """Whether an argument means the same at the top level of the module, at any time."""
    return is_constant(
        context.program, facts, given.value, call.scope, Inputs(pure=PURE)
    ) and _is_global(facts, given.value)


def _varied_by_tests(context: Context, facts: PythonFacts, call: Call, moved: Moved) -> str | None:
    """Return a test module that names, in a string, a setting that the client is made of."""
    inputs = Inputs(pure=PURE)
    for each in _staying(call, moved):
        is_constant(context.program, facts, each.value, call.scope, inputs)
    words = sorted(word for word in inputs.words if word)
    if not words:
        return None
    named = "|".join(re.escape(word) for word in words)
    pattern = rf"(?i)[\"'](?:[\w.]+\.)?(?:{named})[\"']".encode()
    return next(context.program.containing(pattern, context.program.tests), None)


def _is_global(facts: PythonFacts, value: Value) -> bool:
    named = value.text and not value.text.startswith(".")
    builtin = (value.name or "").startswith("builtins.")
    if named and not builtin and facts.resolve(value.text) != value.name:
        return False
    return all(_is_global(facts, each.value) for each in value.arguments)


def _edits(
    context: Context,
    startup: Startup,
    facts: PythonFacts,
    client: Client,
    calls: dict[Call, Moved],
    unlimited: bool,
) -> Edits | Skip:
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.http.client_code import share_client
    from mega_optimizer.codemods.lifespan import open_around_serving

    draft = Draft(context)
    try:
        resource = share_client(context, draft, startup, facts, client, calls, unlimited)
        if isinstance(resource, Skip):
            return resource
        objection = open_around_serving(context, draft, startup, resource)
        return draft.edits() if objection is None else objection
    except RecursionError:
        place = Place(facts.path, min(call.line for call in calls))
        return Skip(place, "too-deep", "is nested too deeply to be rewritten safely")
