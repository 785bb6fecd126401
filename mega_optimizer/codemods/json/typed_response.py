"""A route that returns lists or dicts of plain JSON says so: ``-> list[dict]``.

Without a return type FastAPI sends the value through ``jsonable_encoder``, which looks at every
value in Python; with one, pydantic-core writes it (``fastapi/routing.py: serialize_response``;
from 0.130 on straight to bytes). What they write differs for datetimes, Decimals, timedeltas, keys
that are no strings and plain objects, so all leaves of the value must be seen.
"""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.annotations import oldest_python
from mega_optimizer.codemods.applications import DEFAULT, answers_json, is_response
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.json.shape import (
    NOTHING,
    first_unknown,
    holds_many,
    holds_many_containers,
)
from mega_optimizer.codemods.json.signature import with_return_type
from mega_optimizer.codemods.json.tree import returned
from mega_optimizer.codemods.json.values import Values
from mega_optimizer.codemods.program import Definition
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.json.shape import Shape
    from mega_optimizer.codemods.json.tree import FunctionNode, ModuleTree
    from mega_optimizer.repository.python import PythonFacts, Route

ROUTES = rb"@[\w.]+\.(?:get|post|put|patch|delete|api_route)\s*\("
LITERALS = (b".get(", b".post(", b".put(", b".patch(", b".delete(", b".api_route(")
SURROUNDINGS = rb"\b(?:default_response_class|route_class)\b"
JSON_CLASSES = frozenset(
    {
        f"{package}.responses.{name}"
        for package in ("fastapi", "starlette")
        for name in ("JSONResponse", "ORJSONResponse")
    }
)
NO_BODY = frozenset({204, 205, 304})


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each untyped route whose whole answer is proven to be plain JSON."""
    program = context.program
    values: Values | None = None
    for path in program.containing(ROUTES, program.product, *LITERALS):
        facts = program.facts(path)
        for route in facts.routes if facts is not None else ():
            if facts is None or not _is_untyped(route):
                continue
            values = values or Values(program)
            yield from _judge(context, values, facts, route)


def _is_untyped(route: Route) -> bool:
    handler = route.handler
    typed = handler.annotation is not None or route.response_model is not None
    return not typed and not handler.is_generator and "WEBSOCKET" not in route.methods


def _judge(context: Context, values: Values, facts: PythonFacts, route: Route) -> Iterator[Outcome]:
    handler = route.handler
    place = Place(facts.path, handler.line)
    tree = values.tree(facts.path)
    node = tree.functions.get(handler.path) if tree is not None else None
    if tree is None or node is None or not handler.returns or not answers_json(route):
        return
    objection = _route_objection(facts, route, place)
    if objection is not None:
        yield objection
        return
    shape = values.returns(Definition(facts.path, handler.path))
    missing = first_unknown(shape)
    if not missing and _is_leaf(shape):
        return
    if not missing and (shape.parsed or shape.leaves - {"none"}):
        missing = "JSON that is a list, an object or a plain value"
    if missing or any(isinstance(each, ast.Tuple) for each in returned(node)):
        reason = f"{handler.path} returns {missing or 'a tuple'}"
        yield Skip(place, "leaf-not-proven", reason)
        return
    # who creates or changes one thing is answered with that thing, seldom with thousands of values
    enough = holds_many if "GET" in route.methods else holds_many_containers
    if not enough(shape) or (shape.item is None and _changes_one(facts, route)):
        reason = f"{handler.path} answers with a few values: nothing to win"
        yield Skip(place, "only-small-answers", reason)
        return
    objection = _surrounding_objection(context, place)
    if objection is not None:
        yield objection
        return
    text = _annotation(context, facts, shape)
    if text is None:
        reason = "list[…] and X | None in annotations need a newer Python"
        yield Skip(place, "old-python", reason)
        return
    edits = partial(_edits, tree, node, place, text)
    yield Fix(place, f"say that {handler.path} returns {text}", edits)


def _is_leaf(shape: Shape) -> bool:
    return shape.item is None and shape.value is None and not shape.parsed


def _changes_one(facts: PythonFacts, route: Route) -> bool:
    """Whether a route replaces or removes one thing, or adds one to what the same path lists."""
    methods = set(route.methods)
    if methods <= {"PUT", "PATCH", "DELETE"}:
        return True
    listed = (each for each in facts.routes if "GET" in each.methods)
    same = any((each.owner_text, each.path) == (route.owner_text, route.path) for each in listed)
    return "GET" not in methods and same


def _route_objection(facts: PythonFacts, route: Route, place: Place) -> Skip | None:
    handler, decorator = route.handler, route.decorator
    name = handler.path
    same_handler = [each for each in facts.routes if each.handler == handler]
    if len(handler.decorators) != len(same_handler):
        return Skip(place, "wrapped", f"another decorator of {name} may change what it returns")
    if any(each is not None and is_response(each) for each in handler.returns):
        return Skip(place, "returns-response", f"{name} returns a response on some ways")
    own = next((each for each in facts.calls if each.argument("route_class") is not None), None)
    if own is not None:
        reason = f"the router at line {own.line} has a route class of its own"
        return Skip(place, "own-response-class", reason)
    options = [each.keyword or each.star for each in decorator.arguments]
    if any(each in ("*", "**") or each.startswith("response_") for each in options if each):
        return Skip(place, "route-options", f"the route of {name} says how to answer")
    status = decorator.argument("status_code")
    if status is not None and (status.constant in NO_BODY or "NO_CONTENT" in status.text):
        return Skip(place, "route-options", f"{name} answers without a body")
    if not all(decorator == each.decorator or _is_plain(each) for each in same_handler):
        return Skip(place, "route-options", f"another route of {name} says how to answer")
    return None


def _is_plain(route: Route) -> bool:
    keywords = (each.keyword or each.star for each in route.decorator.arguments)
    return not any(each.startswith(("response_", "*")) for each in keywords)


def _surrounding_objection(context: Context, place: Place) -> Skip | None:
    """Return a response or route class of the service that need not write plain JSON."""
    program = context.program
    literals = (b"default_response_class", b"route_class")
    for path in program.containing(SURROUNDINGS, program.product, *literals):
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            default = call.argument(DEFAULT)
            if default is not None and default.name not in JSON_CLASSES:
                reason = f"{path}:{call.line} answers with {default.text}"
                return Skip(place, "own-response-class", reason)
        for store in facts.stores if facts is not None else ():
            if store.text.rpartition(".")[2] in (DEFAULT, "route_class"):
                reason = f"{path}:{store.line} sets {store.text}"
                return Skip(place, "own-response-class", reason)
    return None


def _annotation(context: Context, facts: PythonFacts, shape: Shape) -> str | None:
    """Return the type as the module would write it, None where its Python cannot."""
    oldest = oldest_python(context)
    if oldest is not None and oldest < (3, 9):
        return None
    whole = "dict[str, Any]" if facts.resolve("Any") == "typing.Any" else "dict"
    anything = "Any" if facts.resolve("Any") == "typing.Any" else ""
    kinds = []
    if shape.item is not None:
        item = shape.item
        pure = item.value is not None and item.item is None and not item.leaves
        held = whole if pure else anything
        kinds.append(f"list[{held}]" if held and shape.item != NOTHING else "list")
    if shape.value is not None:
        kinds.append(whole)
    if "none" in shape.leaves:
        if oldest is None or oldest < (3, 10):
            return None
        kinds.append("None")
    return " | ".join(kinds) if not shape.leaves - {"none"} else None


def _edits(tree: ModuleTree, node: FunctionNode, place: Place, text: str) -> Edits | Skip:
    edits = with_return_type(tree.source, tree.path, node, text)
    if edits is None:
        return Skip(place, "not-found-again", "the end of the signature was not found")
    return edits
