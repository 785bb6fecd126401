"""Loops and comprehensions that predict one row at a time, taken apart.

Two shapes: ``[… model.predict([row])[0] … for x in xs]`` and a ``for`` statement that ends with
``results.append(… model.predict([row])[0] …)`` where ``results`` began empty.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.source import Source

# What in the body of a loop makes an iteration more than the making of one row.
_MORE = (
    ast.Yield, ast.YieldFrom, ast.Await, ast.Return, ast.Break, ast.Try, ast.With, ast.AsyncFor,
    ast.AsyncWith, ast.Global, ast.Nonlocal, ast.NamedExpr, ast.Delete,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Single:
    """A prediction for one row: ``call`` is ``model.predict([row])`` around ``row``.

    ``rows`` is the list display or the array around it, ``picked`` the whole expression down to
    what belongs to the row (``model.predict([row])[0][1]``), ``rest`` what follows the ``[0]``.
    """

    call: ast.Call
    row: ast.expr
    rows: ast.expr
    picked: ast.expr
    rest: str


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that can be taken apart.

    ``target`` and ``iterated`` are those of its ``for``, ``element`` what is kept of an iteration,
    ``statement`` the statement to rewrite: the ``for``, or that around the comprehension.
    ``started`` is the statement that begins the list, ``kept`` the name of the list, ``last`` the
    append. ``prelude`` stands before it in the body.
    """

    single: Single
    target: ast.expr
    iterated: ast.expr
    element: ast.expr
    statement: ast.stmt
    comprehension: ast.ListComp | None = None
    started: ast.Assign | ast.AnnAssign | None = None
    kept: str = ""
    prelude: tuple[ast.stmt, ...] = ()
    last: ast.stmt | None = None
    assigned: ast.Assign | None = None


def single_prediction(source: Source, call: ast.Call) -> Single | None:
    """Return the prediction that ``call`` makes for one row, None where it is another."""
    if len(call.args) != 1 or call.keywords:
        return None
    rows: ast.expr = call.args[0]
    inner = rows
    if isinstance(rows, ast.Call) and ast.unparse(rows.func) in ("np.array", "np.asarray"):
        if len(rows.args) != 1 or rows.keywords:
            return None
        inner = rows.args[0]
    if not isinstance(inner, ast.List) or len(inner.elts) != 1:
        return None
    row = inner.elts[0]
    if isinstance(row, ast.Starred):
        return None
    outer = source.parents[call]
    if not isinstance(outer, ast.Subscript) or outer.value is not call:
        return None
    index = outer.slice
    if _is_zero(index):
        return Single(call, row, rows, outer, "")
    if isinstance(index, ast.Tuple) and len(index.elts) == 2 and _is_zero(index.elts[0]):
        return Single(call, row, rows, outer, f"[{ast.unparse(index.elts[1])}]")
    return None


def _is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0 and node.value is not False


def loop_around(source: Source, single: Single) -> Loop | str | None:
    """Return the loop that ``single`` stands in, why it cannot be taken apart, None for no loop."""
    child: ast.AST = single.picked
    for outer in source.around(single.picked):
        if isinstance(outer, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            if isinstance(outer, ast.ListComp) and child is outer.elt:
                return _comprehension(source, single, outer)
            return "a generator, a set, a mapping or a filter uses the prediction at once"
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            return None
        if isinstance(outer, ast.While):
            return "each iteration may depend on the one before"
        if isinstance(outer, ast.For | ast.AsyncFor):
            if child is outer.iter:
                return None
            return _for(source, single, outer)
        child = outer
    return None


def _comprehension(source: Source, single: Single, node: ast.ListComp) -> Loop | str:
    generator = node.generators[0]
    if len(node.generators) > 1 or generator.is_async:
        return "the comprehension has several loops"
    if any(isinstance(each, ast.Await | ast.NamedExpr) for each in ast.walk(node)):
        return "the comprehension waits or binds names"
    statement = source.parents[node]
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Return):
        return "the comprehension is a part of another expression"
    return Loop(single, generator.target, generator.iter, node.elt, statement, node)


def _for(source: Source, single: Single, node: ast.For | ast.AsyncFor) -> Loop | str:
    if isinstance(node, ast.AsyncFor) or node.orelse:
        return "the loop waits, or has an else"
    last = node.body[-1]
    append = last.value if isinstance(last, ast.Expr) else None
    if not (
        isinstance(append, ast.Call)
        and isinstance(append.func, ast.Attribute)
        and append.func.attr == "append"
        and isinstance(append.func.value, ast.Name)
        and len(append.args) == 1
        and not append.keywords
    ):
        return "the loop does not end with an append to a list"
    element, kept = append.args[0], append.func.value.id
    prelude = list(node.body[:-1])
    assigned: ast.Assign | None = None
    if single.picked not in ast.walk(element):
        before = prelude.pop() if prelude else None
        if not (
            isinstance(before, ast.Assign)
            and single.picked in ast.walk(before.value)
            and len(before.targets) == 1
            and isinstance(before.targets[0], ast.Name)
        ):
            return "what is predicted is used for more than the result of the iteration"
        assigned = before
    for statement in prelude:
        for part in ast.walk(statement):
            if isinstance(part, _MORE):
                return f"an iteration does more than to make a row ({type(part).__name__.lower()})"
    started = _started(source, node, kept)
    if started is None:
        return f"{kept} does not begin as an empty list right before the loop"
    if any(kept in names_in(each) for each in (*prelude, node.iter, single.call)):
        return "an iteration uses the results of those before"
    return Loop(
        single, node.target, node.iter, element, node, None, started, kept, tuple(prelude), last,
        assigned,
    )  # fmt: skip


def _started(source: Source, node: ast.For, kept: str) -> ast.Assign | ast.AnnAssign | None:
    """Return the statement before the loop that makes the list, with nothing using it between."""
    for statement in reversed(list(before(source, node))):
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target: ast.expr = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        else:
            target = node.iter
        if isinstance(target, ast.Name) and target.id == kept:
            value = getattr(statement, "value", None)
            empty = isinstance(value, ast.List) and not value.elts
            return (
                statement if empty and isinstance(statement, ast.Assign | ast.AnnAssign) else None
            )
        if kept in names_in(statement):
            return None
    return None


def before(source: Source, statement: ast.stmt) -> Iterator[ast.stmt]:
    """Yield the statements before one in its block."""
    outer = source.parents[statement]
    for field in ("body", "orelse", "finalbody", "handlers"):
        block = getattr(outer, field, None)
        if isinstance(block, list) and statement in block:
            yield from block[: block.index(statement)]


def names_in(node: ast.AST) -> frozenset[str]:
    """Return the names that occur in ``node``."""
    return frozenset(each.id for each in ast.walk(node) if isinstance(each, ast.Name))


def bound_in(statements: tuple[ast.stmt, ...]) -> frozenset[str]:
    """Return the names that ``statements`` bind."""
    return frozenset(
        each.id
        for statement in statements
        for each in ast.walk(statement)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    )


def is_only_assigned(function: ast.AST, text: str) -> bool:
    """Whether nothing but plain assignments binds the root of ``text`` in the function."""
    root = text.partition(".")[0]
    plain = {
        id(target)
        for each in ast.walk(function)
        if isinstance(each, ast.Assign | ast.AnnAssign)
        for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
    }
    return all(
        id(each) in plain
        for each in ast.walk(function)
        if isinstance(each, ast.Name) and each.id == root and isinstance(each.ctx, ast.Store)
    )
