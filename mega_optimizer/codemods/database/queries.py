"""The queries that a service makes with SQLAlchemy: what they filter and order by."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.python import is_migration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program

FILTERING = frozenset({"filter", "where", "filter_by"})
LIMITING = frozenset({"limit", "first", "paginate", "slice", "one_or_none"})
SEARCHING = frozenset({"in_", "between", "startswith"})
PATTERN = rb"\.(?:filter|where|filter_by|order_by)\("
# What runs by hand, once.
BY_HAND = re.compile(
    r"(?:^|/)(?:scripts?|cli|commands|management|tools|examples?)(?:/|\.py$)|migrat"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """``attribute`` of ``model`` is ``filtered`` (equal), a ``range`` or ``ordered``: ``way``."""

    model: str
    attribute: str
    way: str
    place: Place


@dataclass(frozen=True, slots=True)
class Query:
    """One chain of calls in a function. ``is_limited`` says that it wants the first rows only."""

    path: str
    conditions: tuple[Condition, ...]
    is_limited: bool


def queries(program: Program, models: frozenset[str]) -> Iterator[Query]:
    """Yield the queries in functions of the service whose conditions name ``models``."""
    names = b"|".join(sorted(each.encode() for each in models))
    named = re.compile(rb"(?<![.\w])(?:%s)\.\w|\.filter_by\(" % names)
    for path in program.containing(PATTERN, program.product):
        content = program.read(path)
        if content is None or is_migration(path) or BY_HAND.search(path):
            continue
        if not named.search(content) or program.facts(path) is None:
            continue
        yield from _queries_in(path, content, models)


@by_content(size=512)
def _queries_in(path: str, content: bytes, models: frozenset[str]) -> tuple[Query, ...]:
    functions = _functions(ast.parse(content))
    return tuple(query for each in functions for query in _of_function(path, each, models))


def _functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the outermost functions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        else:
            waiting += reversed(list(ast.iter_child_nodes(node)))  # in source order


def _of_function(path: str, function: ast.AST, models: frozenset[str]) -> Iterator[Query]:
    chained: set[ast.AST] = set()
    for node in ast.walk(function):  # breadth first: the outermost call of a chain comes first
        if not isinstance(node, ast.Call) or node in chained:
            continue
        chain = list(_chain(node))
        chained.update(chain)
        methods = [each.func.attr for each in chain if isinstance(each.func, ast.Attribute)]
        if not FILTERING.union({"order_by"}).isdisjoint(methods):
            found = tuple(c for each in reversed(chain) for c in _Reader(path, models).of(each))
            if found:
                yield Query(path, found, not LIMITING.isdisjoint(methods))


def _chain(node: ast.expr) -> Iterator[ast.Call]:
    while isinstance(node, ast.Call | ast.Attribute):
        if isinstance(node, ast.Call):
            yield node
            node = node.func
        else:
            node = node.value


@dataclass(frozen=True, slots=True)
class _Reader:
    path: str
    models: frozenset[str]

    def of(self, call: ast.Call) -> Iterator[Condition]:
        """Yield what one call of a chain filters or orders by."""
        method = getattr(call.func, "attr", "")
        if method == "filter_by":
            names = {n.id for n in ast.walk(call.func) if isinstance(n, ast.Name)} & self.models
            for name in (each.arg for each in call.keywords if len(names) == 1 and each.arg):
                place = Place(self.path, call.lineno)
                yield Condition(next(iter(names)), name or "", "filtered", place)
        elif method == "order_by":
            for each in call.args[:1]:
                yield from self._ordered(each)
        elif method in FILTERING:
            for each in call.args:
                yield from self._compared(each)

    def _column(self, node: ast.expr, way: str) -> Iterator[Condition]:
        owner = node.value if isinstance(node, ast.Attribute) else None
        known = isinstance(owner, ast.Name) and owner.id in self.models
        if known and isinstance(node, ast.Attribute) and isinstance(owner, ast.Name):
            yield Condition(owner.id, node.attr, way, Place(self.path, node.lineno))

    def _ordered(self, node: ast.expr) -> Iterator[Condition]:
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            inner = node.args[0] if node.args else getattr(node.func, "value", None)
            if name in ("desc", "asc") and inner is not None:  # desc(X.y) or X.y.desc()
                yield from self._column(inner, "ordered")
        else:
            yield from self._column(node, "ordered")

    def _compared(self, node: ast.expr) -> Iterator[Condition]:
        """Yield conditions that hold together; the parts of an OR need more than one index."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
            yield from self._compared(node.left)
            yield from self._compared(node.right)
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            way = "filtered" if isinstance(node.ops[0], ast.Eq) else "range"
            if isinstance(node.ops[0], ast.Eq | ast.Lt | ast.Gt | ast.LtE | ast.GtE):
                yield from self._column(node.left, way)
                yield from self._column(node.comparators[0], way)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in SEARCHING and isinstance(node.func, ast.Attribute):
                yield from self._column(node.func.value, "filtered")
            elif name == "and_":
                for each in node.args:
                    yield from self._compared(each)
