"""A FastAPI application as its service's modules show it: its routers and all of its routes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mega_optimizer.codemods.program import Definition
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.python import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, PythonFacts, Value

FASTAPI = ("fastapi.FastAPI", "fastapi.applications.FastAPI")
ROUTER = ("fastapi.APIRouter", "fastapi.routing.APIRouter")
DEFAULT = "default_response_class"
RESPONSES = frozenset(
    {
        "Response", "JSONResponse", "HTMLResponse", "PlainTextResponse", "RedirectResponse",
        "StreamingResponse", "FileResponse", "ORJSONResponse", "UJSONResponse",
    }
)  # fmt: skip
SMALL = 16  # keys and values of a literal
# Methods that register no route of their own with the default response class.
HARMLESS = frozenset(
    {
        "add_middleware", "middleware", "add_exception_handler", "exception_handler", "on_event",
        "add_event_handler", "mount", "state", "dependency_overrides", "openapi", "websocket",
        "url_path_for", "title", "version", "description", "logger", "debug", "extra",
    }
)  # fmt: skip
ADDING = (
    rb"\.(get|post|put|delete|patch|options|head|trace|api_route|include_router|add_api_route|"
    rb"add_route|router|routes|default_response_class)\b"
)


@dataclass(frozen=True, slots=True)
class ServedRoute:
    """A route, and the response classes set around it, the nearest first, with their modules."""

    path: str
    route: Route
    classes: tuple[tuple[str, Value], ...]


@dataclass(slots=True)
class Application:
    """What is served by one ``FastAPI(...)``; ``hidden`` is a place that may add more routes."""

    path: str
    call: Call
    routes: list[ServedRoute] = field(default_factory=list)
    defaults: list[tuple[str, Call]] = field(default_factory=list)
    hidden: Place | None = None
    open: list[Definition] = field(default_factory=list)  # routers that are being collected


def read_application(program: Program, facts: PythonFacts, call: Call) -> Application:
    """Collect the routes of the application that ``call`` makes, through all included routers."""
    application = Application(facts.path, call)
    name = assigned_name(facts, call)
    if name is None:
        application.hidden = Place(facts.path, call.line)
        return application
    _collect(program, application, facts, call, name, ())
    return application


def assigned_name(facts: PythonFacts, call: Call) -> str | None:
    """Return the resolved name of the variable that ``call`` is assigned to, else None."""
    for each in facts.assignments:
        same = each.scope == call.scope and each.line == call.line and each.value == call.value
        if same and "." not in each.target:
            return f":{each.scope}.{each.target}" if each.scope else f":{each.target}"
    return None


def _collect(
    program: Program,
    application: Application,
    facts: PythonFacts,
    call: Call,
    name: str,
    outer: tuple[tuple[str, Value], ...],
) -> None:
    default = call.argument(DEFAULT)
    classes = outer if default is None else ((facts.path, default), *outer)
    if default is not None:
        application.defaults.append((facts.path, call))
    if call.unpacks:
        application.hidden = Place(facts.path, call.line)
    for home, bound in ((facts, name), *_returned_as(program, facts, name)):
        local = bound.rpartition(".")[2].lstrip(":")
        if "." not in bound and home.bindings.get(local) != bound:
            application.hidden = Place(home.path, call.line)  # bound anew, by a wrapper say
        for path, own in _seen_as(program, home, bound, local):
            uses = program.once(_uses, path).get(Definition(home.path, bound.removeprefix(":")))
            for route in uses.routes if uses is not None else ():
                _add_route(application, path, route, classes)
            for each, is_method in uses.calls if uses is not None else ():
                _follow(program, application, own, each, is_method, classes)


def _returned_as(
    program: Program, facts: PythonFacts, name: str
) -> Iterator[tuple[PythonFacts, str]]:
    """Yield the module-level variables that hold what a factory returns as ``name``."""
    scope, _, local = name.removeprefix(":").rpartition(".")
    factory = facts.function(scope) if scope else None
    returned = factory is not None and any(each and each.text == local for each in factory.returns)
    if not returned or "." in scope:
        return
    word = scope.encode()
    for path in program.containing(rb"\b" + word + rb"\b", program.product, word):
        own = program.facts(path)
        for each in own.assignments if own else ():
            found = program.definition(path, each.value.name) if each.value.kind == "call" else None
            made_here = found is not None and (found.path, found.name) == (facts.path, scope)
            if own and made_here and not each.scope and "." not in each.target:
                yield own, f":{each.target}"


def _add_route(
    application: Application, path: str, route: Route, classes: tuple[tuple[str, Value], ...]
) -> None:
    if "WEBSOCKET" in route.methods:
        return
    if any(each.star for each in route.decorator.arguments):
        application.hidden = Place(path, route.line)
    own = route.response_class
    around = classes if own is None else ((path, own), *classes)
    application.routes.append(ServedRoute(path, route, around))


def _seen_as(
    program: Program, facts: PythonFacts, name: str, local: str
) -> Iterator[tuple[str, PythonFacts]]:
    """Yield the modules that may add routes to ``name``: its own, and those that import it."""
    yield facts.path, facts
    if "." in name:
        return
    for path in program.containing(
        rb"\b" + local.encode() + ADDING, program.product, local.encode()
    ):
        other = program.facts(path) if path != facts.path else None
        if other is not None:
            yield path, other


@dataclass(slots=True)
class _Uses:
    """What one module does with a variable: its routes, calls of its methods, and of it."""

    routes: list[Route] = field(default_factory=list)
    calls: list[tuple[Call, bool]] = field(default_factory=list)


def _uses(program: Program, path: str) -> dict[Definition, _Uses]:
    """Return what a module does with each variable of the service, in source order.

    Calls come with whether they are of a method of the variable; else they hand it to a function
    of the service, which may add routes.
    """
    facts = program.facts(path)
    found: defaultdict[Definition, _Uses] = defaultdict(_Uses)
    for route in facts.routes if facts is not None else ():
        owner = program.definition(path, route.owner)
        if owner is not None:
            found[owner].routes.append(route)
    for call in facts.calls if facts is not None else ():
        owner = program.definition(path, (call.name or "").rpartition(".")[0] or None)
        if owner is not None:
            found[owner].calls.append((call, True))
        if facts is None or not _may_add_routes(program, facts, call):
            continue
        handed = {program.definition(path, each.value.name) for each in call.arguments}
        for each in handed - {owner, None}:
            if each is not None:
                found[each].calls.append((call, False))
    return found


def _follow(
    program: Program,
    application: Application,
    facts: PythonFacts,
    call: Call,
    is_method: bool,
    classes: tuple[tuple[str, Value], ...],
) -> None:
    if is_method:
        method = (call.name or "").rpartition(".")[2]
        if method == "include_router":
            _include(program, application, facts, call, classes)
        elif method == "add_api_route" and (route := _added_route(program, facts, call)):
            _add_route(application, facts.path, route, classes)
        elif method not in HARMLESS and not _is_decorator(facts, call):
            application.hidden = Place(facts.path, call.line)
    else:
        application.hidden = Place(facts.path, call.line)


def _may_add_routes(program: Program, facts: PythonFacts, call: Call) -> bool:
    """Whether what is called may be code of the service that adds routes to its arguments."""
    if call.text.rpartition(".")[2] in ("include_router", "mount"):
        return False
    return call.name is None or program.definition(facts.path, call.name) is not None


def _added_route(program: Program, facts: PythonFacts, call: Call) -> Route | None:
    """Return the route of ``add_api_route(path, endpoint)``, where the endpoint can be seen."""
    endpoint = call.argument("endpoint")
    if endpoint is None and len(call.positional) > 1:
        endpoint = call.positional[1]
    found = program.definition(facts.path, endpoint.name) if endpoint is not None else None
    home = program.facts(found.path) if found is not None else None
    handler = home.function(found.name) if home is not None and found is not None else None
    if handler is None:
        return None
    return Route(None, call.text, ("GET",), None, handler, call.value, call.line)


def _is_decorator(facts: PythonFacts, call: Call) -> bool:
    return any(call.value == route.decorator for route in facts.routes)


def _include(
    program: Program,
    application: Application,
    facts: PythonFacts,
    call: Call,
    classes: tuple[tuple[str, Value], ...],
) -> None:
    router = call.positional[0] if call.positional else call.argument("router")
    found = program.definition(facts.path, router.name) if router is not None else None
    made = _made_by(program, found) if found is not None else None
    if found is None or made is None or call.unpacks:
        application.hidden = Place(facts.path, call.line)
        return
    default = call.argument(DEFAULT)
    if default is not None:
        application.defaults.append((facts.path, call))
        classes = ((facts.path, default), *classes)
    own, constructor = made
    if found in application.open:
        return  # a router that includes itself
    application.open.append(found)
    _collect(program, application, own, constructor, f":{found.name}", classes)
    application.open.pop()


def _made_by(program: Program, found: Definition) -> tuple[PythonFacts, Call] | None:
    facts = program.facts(found.path)
    if facts is None:
        return None
    for call in facts.called(*ROUTER):
        if assigned_name(facts, call) == f":{found.name}":
            return facts, call
    return None


def answers_json(route: Route) -> bool:
    """Whether the handler may return something that the default response class turns into JSON."""
    handler = route.handler
    if handler.annotation is not None and is_response(handler.annotation):
        return False
    if handler.is_generator or not handler.returns:
        return True
    return not all(each is not None and is_response(each) for each in handler.returns)


def answers_little(route: Route) -> bool:
    """Whether all that the handler returns are small literals, which no serialiser speeds up."""
    handler = route.handler
    if handler.is_generator:
        return False
    return all(
        each is None or is_response(each) or _is_small_literal(each) for each in handler.returns
    )


def _is_small_literal(value: Value) -> bool:
    if value.kind in ("constant", "fstring"):
        return True
    parts = [each.value for each in value.arguments]
    return (
        value.kind == "collection"
        and len(parts) <= SMALL
        and all(_is_small_literal(each) for each in parts)
    )


def is_response(value: Value) -> bool:
    """Whether a value is a response class of FastAPI or Starlette, or the call of one.

    Names alone prove little: pydantic models are called ``PredictionResponse`` too.
    """
    last = (value.name or value.text).rpartition(".")[2]
    if value.kind not in ("name", "call") or not last.endswith("Response"):
        return False
    if last == "TemplateResponse":
        return True  # a method of Jinja2Templates
    if value.name is None:
        return last in RESPONSES
    return value.name.partition(".")[0] in ("fastapi", "starlette", "sse_starlette")


def ambiguous_calls(facts: PythonFacts) -> Iterator[Call]:
    """Yield calls of a name that is FastAPI by its import, but may have been bound anew."""
    bound = {each.bound for each in facts.imports if each.target in FASTAPI}
    for call in facts.calls:
        if call.text in bound and call.name is None:
            yield call
