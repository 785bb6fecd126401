"""The syntax trees of a service's modules: functions by their dotted path, what binds a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.python import python_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
STOPS = (ast.Return, ast.Raise, ast.Continue)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a function does to names: the nodes that bind each, and where each is read.

    ``shared`` are those that an inner function binds anew, or that are global. Reads are those of
    inner functions too.
    """

    bindings: dict[str, list[ast.AST]]
    reads: dict[str, list[ast.Name]]
    shared: frozenset[str]


@dataclass(frozen=True)
class ModuleTree:
    """One module as a tree, with its facts."""

    path: str
    facts: PythonFacts
    source: Source

    @cached_property
    def functions(self) -> dict[str, FunctionNode]:
        """The functions by their dotted path; of several with one path the last."""
        return dict(_functions(self.source.tree, ""))

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """The top-level classes by name."""
        return {each.name: each for each in self.source.tree.body if isinstance(each, ast.ClassDef)}

    def function_around(self, node: ast.AST) -> FunctionNode | None:
        """Return the nearest function around ``node``."""
        return next((n for n in self.source.around(node) if isinstance(n, FunctionNode)), None)

    @cached_property
    def _scopes(self) -> dict[ast.AST, Scope]:
        return {}

    def scope(self, node: ast.AST) -> Scope:
        """Return the names of a function or of the module."""
        if node not in self._scopes:
            self._scopes[node] = _read_scope(node)
        return self._scopes[node]


def read_tree(program: Program, path: str) -> ModuleTree | None:
    """Return the tree of a module, None where it cannot be read."""
    content = program.read(path)
    return _read(path, content) if content is not None else None


@by_content(size=256)
def _read(path: str, content: bytes) -> ModuleTree | None:
    facts = python_facts(path, content)
    source = read_source(path, content)
    if isinstance(facts, Problem) or isinstance(source, Problem):
        return None
    return ModuleTree(path, facts, source)


def _functions(node: ast.AST, outer: str) -> Iterator[tuple[str, FunctionNode]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | FunctionNode):
            path = f"{outer}.{child.name}" if outer else child.name
            if isinstance(child, FunctionNode):
                yield path, child
            yield from _functions(child, path)
        elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _functions(child, outer)


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes in the body of a function or module, without those of nested scopes."""
    waiting: list[ast.AST] = list(getattr(scope, "body", ()))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, SCOPES):
            waiting += ast.iter_child_nodes(node)


def _read_scope(scope: ast.AST) -> Scope:
    bindings: defaultdict[str, list[ast.AST]] = defaultdict(list)
    for node in own_nodes(scope):
        for name in _bound(node):
            bindings[name].append(node)
    reads: defaultdict[str, list[ast.Name]] = defaultdict(list)
    shared: set[str] = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            reads[node.id].append(node)
        elif isinstance(node, ast.Nonlocal | ast.Global):
            shared.update(node.names)
    return Scope(dict(bindings), dict(reads), frozenset(shared))


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that one statement or expression binds."""
    match node:
        case ast.Assign():
            for each in node.targets:
                yield from names_in(each)
        case ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr() | ast.For() | ast.AsyncFor():
            yield from names_in(node.target)
        case ast.With() | ast.AsyncWith():
            for item in node.items:
                if item.optional_vars is not None:
                    yield from names_in(item.optional_vars)
        case ast.Import() | ast.ImportFrom():
            yield from (each.asname or each.name.partition(".")[0] for each in node.names)
        case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar() if node.name:
            yield node.name
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.MatchMapping() if node.rest:
            yield node.rest


def returned(function: FunctionNode) -> list[ast.expr | None]:
    """Return the values of a function's return statements, None for a bare one or its end."""
    values = [each.value for each in own_nodes(function) if isinstance(each, ast.Return)]
    return values if _stops(function.body) else [*values, None]


def is_generator(function: FunctionNode) -> bool:
    """Whether a function yields."""
    return any(isinstance(each, ast.Yield | ast.YieldFrom) for each in own_nodes(function))


def _stops(body: list[ast.stmt]) -> bool:
    """Whether control never falls off the end of ``body``."""
    last = body[-1] if body else None
    if isinstance(last, ast.Return | ast.Raise):
        return True
    if isinstance(last, ast.If):
        return bool(last.orelse) and _stops(last.body) and _stops(last.orelse)
    if isinstance(last, ast.With | ast.AsyncWith):
        return _stops(last.body) and not any(
            "suppress" in ast.unparse(each.context_expr) for each in last.items
        )
    if isinstance(last, ast.Try):
        handled = all(_stops(each.body) for each in last.handlers)
        return _stops(last.finalbody) or (handled and _stops(last.orelse or last.body))
    if isinstance(last, ast.While):
        endless = isinstance(last.test, ast.Constant) and bool(last.test.value)
        return endless and not any(isinstance(each, ast.Break) for each in ast.walk(last))
    return False


def names_in(target: ast.expr) -> Iterator[str]:
    """Yield the plain names that an assignment to ``target`` binds."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Tuple | ast.List):
        for each in target.elts:
            yield from names_in(each)
    elif isinstance(target, ast.Starred):
        yield from names_in(target.value)
