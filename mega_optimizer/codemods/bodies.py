"""What stands in the bodies of functions: what they wait for, and how their calls are used.

The facts about a file say which calls there are; this says where they stand. It is a second
``ast`` walk, for the few files in which a rule has found a call that matters.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.python.walk import parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.repository.python import Call

Position = tuple[int, int]  # line and column, as those of a Call
WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Entered:
    """A call whose result a ``with`` statement enters, and the name that it is bound to."""

    bound: str | None
    is_async: bool


@dataclass(slots=True)
class Bodies:
    """The calls of one file by what is done with them, and the functions that wait.

    ``waiting`` are the dotted paths of functions with ``await``, ``async for``, ``async with`` or
    an asynchronous comprehension of their own. ``statements`` are calls whose result is dropped,
    ``deferred`` those in lambdas and generator expressions, which run later or elsewhere.
    """

    waiting: set[str] = field(default_factory=set)
    entered: dict[Position, Entered] = field(default_factory=dict)
    awaited: set[Position] = field(default_factory=set)
    statements: set[Position] = field(default_factory=set)
    deferred: set[Position] = field(default_factory=set)


def position(call: Call) -> Position:
    """Return the key of ``call`` in :class:`Bodies`."""
    return call.line, call.column


@by_content(size=1024)
def bodies(path: str, content: bytes) -> Bodies:
    """Read the bodies in a file whose facts are known (``ast`` accepts it)."""
    found = Bodies()
    stack: list[tuple[ast.AST, str, bool]] = [(ast.parse(content), "", False)]
    while stack:
        node, scope, deferred = stack.pop()
        _note(found, node, scope, deferred)
        stack.extend(_inside(node, scope, deferred))
    return found


def _note(found: Bodies, node: ast.AST, scope: str, deferred: bool) -> None:
    if isinstance(node, WAITS):
        found.waiting.add(scope)
    if isinstance(node, COMPREHENSIONS) and any(each.is_async for each in node.generators):
        found.waiting.add(scope)
    if isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            if isinstance(item.context_expr, ast.Call):
                bound = item.optional_vars.id if isinstance(item.optional_vars, ast.Name) else None
                entered = Entered(bound, isinstance(node, ast.AsyncWith))
                found.entered[_position(item.context_expr)] = entered
    if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
        found.awaited.add(_position(node.value))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        found.statements.add(_position(node.value))
    if isinstance(node, ast.Call) and deferred:
        found.deferred.add(_position(node))


def _position(call: ast.Call) -> Position:
    return call.lineno, call.col_offset + 1


def _inside(node: ast.AST, scope: str, deferred: bool) -> Iterator[tuple[ast.AST, str, bool]]:
    """Yield the parts of ``node``, each with the scope in which it runs."""
    if isinstance(node, DEFINITIONS):
        inner = f"{scope}.{node.name}" if scope else node.name
        own = set(map(id, node.body))
        for part in parts_of(node):
            yield part, inner if id(part) in own else scope, False
        return
    later = deferred or isinstance(node, ast.Lambda | ast.GeneratorExp)
    for part in parts_of(node):
        yield part, scope, later
