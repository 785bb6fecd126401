"""Arguments of a client that can as well be given with each of its requests.

What the client was given, a request may be given instead, to the same effect: its timeout
(https://www.python-httpx.org/advanced/timeouts/), its headers, which are merged with those of the
client, and how it signs in (https://docs.aiohttp.org/en/stable/client_reference.html).
A client whose other arguments are constant can then be shared.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.bodies import position
from mega_optimizer.codemods.http.clients import PURE, REQUESTS, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.bodies import Position
    from mega_optimizer.repository.python import Argument, Call, PythonFacts

MOVABLE = frozenset({"timeout", "headers", "auth"})
# These send what was built before: it has its headers and its timeout already.
BUILT = frozenset({"send"})
SIMPLE = (ast.Name, ast.Attribute, ast.Constant)
HARMLESS = (
    *SIMPLE, ast.Dict, ast.JoinedStr, ast.FormattedValue, ast.BinOp, ast.operator, ast.Subscript,
    ast.expr_context, ast.keyword, ast.IfExp, ast.BoolOp, ast.boolop,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moved:
    """Arguments, as source by keyword, that ``requests`` can be given in the place of a client."""

    arguments: tuple[tuple[str, str], ...]
    requests: tuple[Call, ...]

    @property
    def keywords(self) -> frozenset[str]:
        """The keywords of the arguments."""
        return frozenset(keyword for keyword, _ in self.arguments)


NOTHING = Moved((), ())


def per_request(
    facts: PythonFacts, content: bytes, call: Call, client: Client, varying: list[Argument]
) -> Moved | None:
    """Return how the ``varying`` arguments of ``call`` go to its requests, None where they cannot.

    They can where the requests stand in the block of the client, are given nothing of the same
    name, and see the same values there.
    """
    keywords = {each.keyword for each in varying}
    if not keywords <= MOVABLE or any(each.star for each in varying):
        return None
    block = _block(content, call)
    if block is None or not isinstance(block.items[0].optional_vars, ast.Name):
        return None
    made = block.items[0].context_expr
    assert isinstance(made, ast.Call)
    requests = _requests(block, block.items[0].optional_vars.id, client)
    if not requests:
        return None
    wanted = [each for each in made.keywords if each.arg in keywords]
    once = len(requests) == 1 and not _in_loop(block, requests[0])
    if any(
        not _keeps_its_value(facts, each.value, block) or not (once or _is_simple(each.value))
        for each in wanted
    ):
        return None
    taken = {keyword.arg for request in requests for keyword in request.keywords}
    if None in taken or taken & keywords:
        return None
    sources = [(each.arg or "", _source(content, each.value)) for each in wanted]
    calls = {position(each): each for each in facts.calls}
    found = [calls.get(_position(request)) for request in requests]
    if any(not source for _, source in sources) or None in found:
        return None
    return Moved(
        tuple((keyword, source) for keyword, source in sources if source),
        tuple(each for each in found if each is not None),
    )


def _block(content: bytes, call: Call) -> ast.With | ast.AsyncWith | None:
    """Return the ``with`` statement that enters the client first, and perhaps its requests."""
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.With | ast.AsyncWith):
            first = node.items[0].context_expr
            if isinstance(first, ast.Call) and _position(first) == position(call):
                return node
    return None


def _position(call: ast.Call) -> Position:
    return call.lineno, call.col_offset + 1


def _inside(block: ast.With | ast.AsyncWith) -> Iterator[ast.AST]:
    """Yield all that runs with the client, what it is made of aside."""
    for item in block.items[1:]:
        yield from ast.walk(item)
    for statement in block.body:
        yield from ast.walk(statement)


def _requests(block: ast.With | ast.AsyncWith, bound: str, client: Client) -> list[ast.Call]:
    """Return the requests of the client, nothing where anything else is done with it."""
    uses = [each for each in _inside(block) if isinstance(each, ast.Name) and each.id == bound]
    deferred = {
        id(inner)
        for each in _inside(block)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(each)
    }
    requests = [
        each
        for each in _inside(block)
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and isinstance(each.func.value, ast.Name)
        and each.func.value.id == bound
        and each.func.attr in REQUESTS - BUILT
        and id(each) not in deferred
        and (client.package == "httpx" or each.func.attr != "stream")
    ]
    return requests if len(requests) == len(uses) else []


def _in_loop(block: ast.With | ast.AsyncWith, request: ast.Call) -> bool:
    loops = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp)
    return any(
        isinstance(each, (*loops, ast.GeneratorExp)) and request in ast.walk(each)
        for each in _inside(block)
    )


def _is_simple(value: ast.expr) -> bool:
    return all(isinstance(each, (*SIMPLE, ast.expr_context)) for each in ast.walk(value))


def _keeps_its_value(facts: PythonFacts, value: ast.expr, block: ast.With | ast.AsyncWith) -> bool:
    """Whether ``value`` is the same in the whole block, and computing it does nothing else."""
    for each in ast.walk(value):
        pure = isinstance(each, ast.Call) and facts.resolve(ast.unparse(each.func)) in PURE
        if not pure and not isinstance(each, HARMLESS):
            return False
    names = {each.id for each in ast.walk(value) if isinstance(each, ast.Name)}
    attributes = {each.attr for each in ast.walk(value) if isinstance(each, ast.Attribute)}
    for each in _inside(block):
        if isinstance(each, ast.Name) and each.id in names:
            if not isinstance(each.ctx, ast.Load):
                return False
        elif isinstance(each, ast.Attribute) and not isinstance(each.ctx, ast.Load):
            if each.attr in attributes:
                return False
        elif _may_change(each, names - {"self", "cls"}):
            return False
    return True


def _may_change(node: ast.AST, names: set[str]) -> bool:
    """Whether ``node`` sets an item of one of ``names``, calls a method of it or binds it."""
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return ast.unparse(node.value) in names
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return ast.unparse(node.func.value) in names
    return isinstance(node, ast.ExceptHandler) and node.name in names


def _source(content: bytes, value: ast.expr) -> str | None:
    """Return ``value`` as it is written, on one line."""
    try:
        text = ast.get_source_segment(content.decode(), value)
    except UnicodeDecodeError:
        return None
    if text is None or "\n" not in text:
        return text
    return None if "#" in text else ast.unparse(value)
