"""From FastAPI 0.131 on, typed routes lose by ``default_response_class=ORJSONResponse``.

Without a custom response class a response field is serialised straight to bytes by pydantic-core
(``fastapi/routing.py``: ``use_dump_json`` needs a response field and no response class set
anywhere); ORJSONResponse is deprecated (FastAPI 0.131 release notes). An application and its
routers are one: any class left on the way to a route keeps it on the slow path.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.applications import (
    DEFAULT,
    FASTAPI,
    answers_json,
    is_response,
    read_application,
)
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.program import Program
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.applications import Application, ServedRoute
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edit, Edits, Outcome
    from mega_optimizer.repository.python import Call, PythonFacts, Value

ORJSON = "fastapi.responses.ORJSONResponse"
# Types of which pydantic knows no more than the value itself shows.
UNTYPED = frozenset(
    {
        "typing.Any", "typing_extensions.Any", "builtins.object", "builtins.dict", "builtins.list",
        "builtins.tuple", "builtins.set", "typing.Dict", "typing.List", "typing.Mapping",
    }
)  # fmt: skip


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each application whose routes are all typed."""
    if not any(context.modules(b"ORJSONResponse")):
        return
    program = context.program
    applications: list[Application] = []
    for path in program.containing(rb"\bFastAPI\b", program.product, b"FastAPI"):
        facts = context.python(path)
        if isinstance(facts, Problem):
            yield Skip(Place(path, facts.line), facts.code, facts.message)
            continue
        applications += [read_application(program, facts, call) for call in facts.called(*FASTAPI)]
    judged = [(each, _objection(program, each)) for each in applications]
    # a router that two applications include changes only if both of them agree
    kept = {default for each, objection in judged if objection for default in each.defaults}
    for application, objection in judged:
        if not any(_is_orjson(program, *each) for each in application.defaults):
            continue
        if objection is None and kept.intersection(application.defaults):
            objection = Skip(_place(application), "router-shared", "shares a router with another")
        message = "let pydantic serialise the typed routes"
        edits = partial(_edits, context, program, application)
        yield objection or Fix(_place(application), message, edits)


def _place(application: Application) -> Place:
    path, call = application.defaults[0] if application.defaults else _own(application)
    return Place(path, call.line, call.column)


def _own(application: Application) -> tuple[str, Call]:
    return application.path, application.call


def _default(call: Call) -> Value | None:
    return call.argument(DEFAULT)


def _is_orjson(program: Program, path: str, call: Call) -> bool:
    default = _default(call)
    return default is not None and _names_orjson(program, path, default)


def _names_orjson(program: Program, path: str, value: Value) -> bool:
    """Whether ``value`` is FastAPI's own class, imported here or through the service's modules."""
    if value.name == ORJSON:
        return True
    found = program.definition(path, value.name)
    facts = program.facts(found.path) if found is not None else None
    return facts is not None and found is not None and facts.resolve(found.name) == ORJSON


def _objection(program: Program, application: Application) -> Skip | None:
    place = _place(application)
    for path, call in application.defaults:
        if not _is_orjson(program, path, call):
            text = (_default(call) or call.value).text
            return Skip(place, "own-response-class", f"{text} is not FastAPI's ORJSONResponse")
    if application.hidden is not None:
        reason = f"routes added at {application.hidden} cannot be seen"
        return Skip(place, "routes-not-visible", reason)
    for served in application.routes:
        objection = _route_objection(program, served, place)
        if objection is not None:
            return objection
    if not any(_gains(each) for each in application.routes):
        return Skip(place, "no-affected-route", "no route answers with the default response class")
    return None


def _gains(served: ServedRoute) -> bool:
    return served.route.response_class is None and answers_json(served.route)


def _route_objection(program: Program, served: ServedRoute, place: Place) -> Skip | None:
    route = served.route
    where = f"{served.path}:{route.line} {route.handler.path}"
    if route.response_class is not None:
        # on its own already: neither gains nor loses
        return None
    if route.handler.is_generator:
        return Skip(place, "streaming-route", f"{where} streams what it yields")
    if not _is_typed(served) and answers_json(route):
        return Skip(place, "untyped-route", f"{where} has no precise return type")
    return None


def _is_typed(served: ServedRoute) -> bool:
    """Whether FastAPI makes a response field with a precise type for the route."""
    model = served.route.response_model
    if model is not None and model.kind == "constant":
        return False  # ``response_model=None`` makes no field; a string cannot be looked into
    if model is None:
        model = served.route.handler.annotation
        if model is not None and (model.kind == "constant" and model.constant is None):
            return True  # ``-> None`` answers null, whoever writes it
    return model is not None and _is_precise(model)


def _is_precise(value: Value) -> bool:
    if value.kind == "constant":
        return value.constant is None
    if value.kind == "name":
        return value.name is not None and value.name not in UNTYPED and not is_response(value)
    if value.kind == "collection":  # the list of a Callable or Literal
        return all(_is_precise(each.value) for each in value.arguments)
    if value.kind not in ("subscript", "union"):
        return False
    if value.name in ("typing.Literal", "typing_extensions.Literal"):
        return True
    if value.name in ("typing.Annotated", "typing_extensions.Annotated"):
        return _is_precise(value.arguments[0].value)
    if value.kind == "subscript" and value.name is None:
        return False
    return all(_is_precise(each.value) for each in value.arguments)


def _edits(context: Context, program: Program, application: Application) -> Edits | Skip:
    from mega_optimizer.codemods.python import skipped

    place = _place(application)
    edits: list[Edit] = []
    for path in dict.fromkeys(path for path, _ in application.defaults):
        calls = [call for where, call in application.defaults if where == path]
        facts = context.python(path)
        if isinstance(facts, Problem):
            return skipped(facts)
        try:
            changed = _without_default(context, program, facts, calls)
        except RecursionError:
            return Skip(place, "too-deep", "is nested too deeply to be rewritten safely")
        if isinstance(changed, Problem):
            return skipped(changed)
        edits += changed
    return tuple(edits)


def _without_default(
    context: Context, program: Program, facts: PythonFacts, calls: list[Call]
) -> tuple[Edit, ...] | Problem:
    from mega_optimizer.codemods.imports import without_import
    from mega_optimizer.codemods.python import edits_between, replace_calls, without_keyword

    tree = context.tree(facts.path)
    if isinstance(tree, Problem):
        return tree
    changed = replace_calls(
        tree, {call: lambda node: without_keyword(node, DEFAULT) for call in dict.fromkeys(calls)}
    )
    if changed is None:
        message = "the call could not be found again in the tree"
        return Problem(facts.path, "not-found-again", message, calls[0].line)
    bound = (_default(calls[0]) or calls[0].value).text
    if "." not in bound and not _imported_elsewhere(program, facts.path, bound):
        changed = without_import(changed, facts, bound)
    return edits_between(facts.path, tree.bytes, changed)


def _imported_elsewhere(program: Program, path: str, bound: str) -> bool:
    """Whether another module of the service imports ``bound`` from the module at ``path``."""
    pattern = rb"\b" + bound.encode() + rb"\b|import[ \t]*\(?[ \t]*\*"
    module = path.removesuffix("/__init__.py").removesuffix(".py").rpartition("/")[2]
    attribute = rb"\b" + module.encode() + rb"\." + bound.encode() + rb"\b"
    everywhere = (*program.product, *program.tests)
    if next(program.containing(attribute, everywhere), None) is not None:
        return True
    for other in program.containing(pattern, everywhere):
        facts = program.facts(other) if other != path else None
        for each in facts.imports if facts else ():
            module, _, name = each.target.rpartition(".")
            if name in (bound, "*") and program.module(module or ".", other) == path:
                return True
    return False
