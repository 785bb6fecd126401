"""What becomes of a list or an object after it was made: what is put into it, where it goes.

A value is proven by what it was made of only if nothing else gets in. Followed are the methods of
lists and dicts, loops, aliases and look-ups; handing it to other code of unknown effect is not.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.json.tree import SCOPES, FunctionNode, names_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mega_optimizer.codemods.json.tree import ModuleTree

PUTS = {"append": 0, "add": 0, "appendleft": 0, "insert": 1}
JOINS = frozenset({"extend", "extendleft", "update"})
GIVES = frozenset({"get", "values", "items", "pop", "popitem", "copy", "popleft"})
READS = frozenset(
    {"keys", "index", "count", "sort", "reverse", "remove", "clear", "startswith", "discard"}
)
# Calls that hand on what is in their argument, and calls that only look at it.
PASSES = frozenset(
    {"sorted", "list", "reversed", "enumerate", "zip", "iter", "next", "max", "min", "filter",
     "dict", "tuple", "islice", "gather"}
)  # fmt: skip
LOOKS = frozenset(
    {"len", "str", "sum", "any", "all", "bool", "isinstance", "repr", "print", "set", "dumps",
     "jsonable_encoder", "debug", "info", "warning", "error", "exception", "map", "range",
     "JSONResponse", "Response", "ORJSONResponse", "frozenset", "join"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Effect:
    """What a use does: ``put`` one value, ``join`` another container, or what cannot be seen.

    ``level`` 0 is the value itself, 1 what it holds. ``key`` is that of ``x[key] = node``.
    """

    kind: Literal["put", "join", "lost"]
    level: int
    node: ast.expr
    key: ast.expr | None = None


def effects(tree: ModuleTree, scope: ast.AST, name: str) -> Iterator[Effect]:
    """Yield what the function (or module) ``scope`` does to the value of its variable ``name``."""
    yield from _of_name(tree, scope, name, 0, {name})


def uses_of(tree: ModuleTree, scope: ast.AST, nodes: Iterable[ast.Name]) -> Iterator[Effect]:
    """Yield what is done at ``nodes``, which all read one variable."""
    for node in nodes:
        yield from _of_expression(tree, scope, node, 0, {node.id})


def _of_name(
    tree: ModuleTree, scope: ast.AST, name: str, level: int, seen: set[str]
) -> Iterator[Effect]:
    for node in tree.scope(scope).reads.get(name, ()):
        yield from _of_expression(tree, scope, node, level, seen)


def _of_expression(
    tree: ModuleTree, scope: ast.AST, node: ast.expr, level: int, seen: set[str]
) -> Iterator[Effect]:
    parent = tree.source.parents.get(node)
    if isinstance(parent, ast.Subscript) and parent.value is node:
        yield from _of_item(tree, scope, parent, level, seen)
    elif isinstance(parent, ast.Attribute):
        yield from _of_method(tree, scope, parent, level, seen)
    elif isinstance(parent, ast.Call) and node is not parent.func:
        last = ast.unparse(parent.func).rpartition(".")[2]
        if last in PASSES:
            yield from _of_expression(tree, scope, parent, level, seen)
        elif last not in LOOKS and last not in PUTS and last not in JOINS:
            yield Effect("lost", level, parent)
    elif isinstance(parent, ast.Starred | ast.IfExp | ast.BoolOp | ast.NamedExpr | ast.Await):
        yield from _of_expression(tree, scope, parent, level, seen)
    elif isinstance(parent, ast.Assign | ast.AnnAssign) and parent.value is node:
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        for target in targets:
            yield from _alias(tree, scope, target, level, seen)
    elif isinstance(parent, ast.For | ast.AsyncFor | ast.comprehension) and parent.iter is node:
        yield from _alias(tree, scope, parent.target, level + 1, seen)


def _of_item(
    tree: ModuleTree, scope: ast.AST, item: ast.Subscript, level: int, seen: set[str]
) -> Iterator[Effect]:
    if isinstance(item.ctx, ast.Load):
        deeper = level if isinstance(item.slice, ast.Slice) else level + 1
        yield from _of_expression(tree, scope, item, deeper, seen)
        return
    statement = tree.source.parents.get(item)
    if isinstance(item.ctx, ast.Del):
        return
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign) and statement.value:
        yield Effect("put", level, statement.value, item.slice)
    else:
        yield Effect("lost", level, item)


def _of_method(
    tree: ModuleTree, scope: ast.AST, method: ast.Attribute, level: int, seen: set[str]
) -> Iterator[Effect]:
    call = tree.source.parents.get(method)
    if not (isinstance(call, ast.Call) and call.func is method):
        if isinstance(method.ctx, ast.Store):
            yield Effect("lost", level, method)
        return
    if method.attr in PUTS and len(call.args) > PUTS[method.attr]:
        yield Effect("put", level, call.args[PUTS[method.attr]])
    elif method.attr in JOINS:
        for each in call.args:
            yield Effect("join", level, each)
        for keyword in call.keywords:
            kind: Literal["put", "join"] = "put" if keyword.arg else "join"
            yield Effect(kind, level, keyword.value, ast.Constant(keyword.arg))
    elif method.attr in GIVES:
        deeper = level if method.attr in ("items", "values", "copy") else level + 1
        yield from _of_expression(tree, scope, call, deeper, seen)
    elif method.attr == "setdefault" and len(call.args) == 2:
        yield Effect("put", level, call.args[1], call.args[0])
        yield from _of_expression(tree, scope, call, level + 1, seen)
    elif method.attr not in READS and method.attr not in LOOKS and level == 0:
        # what is held may be no list or dict: its methods put nothing into either
        yield Effect("lost", level, method)


def _alias(
    tree: ModuleTree, scope: ast.AST, target: ast.expr, level: int, seen: set[str]
) -> Iterator[Effect]:
    if isinstance(target, ast.Attribute):
        yield Effect("lost", level, target)
        return
    for name in names_in(target):
        if name not in seen:
            around = _binding_scope(tree, scope, target)
            yield from _of_name(tree, around, name, level, seen | {name})


def _binding_scope(tree: ModuleTree, scope: ast.AST, target: ast.expr) -> ast.AST:
    """Return the comprehension or function whose variable ``target`` binds."""
    for each in tree.source.around(target):
        if isinstance(each, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            return each
        if isinstance(each, FunctionNode) or each is scope or isinstance(each, SCOPES):
            return each
    return scope
