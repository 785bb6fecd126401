"""Loads in functions that go on to use the model: which statements could move out of them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.loaders import needs_a_lock
from mega_optimizer.codemods.ml.loading import (
    RUNS,
    Loading,
    Objection,
    block_of,
    called_in,
    chain_root,
    own_nodes,
    targets_of,
)
from mega_optimizer.codemods.ml.steady import Steady, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.ml.loading import Function
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call, PythonFacts

HARMLESS_CONTEXTS = ("no_grad", "inference_mode")


def in_place(
    program: Program, facts: PythonFacts, source: Source, call: Call, function: Function
) -> Loading | Objection:
    """Return the load in ``function`` with the statements that could move, or why it stays."""
    node = source.call(call)
    unknown = Objection("shape-not-known", "what is loaded is not assigned to a variable")
    statement = (
        next((e for e in source.around(node) if isinstance(e, ast.stmt)), None) if node else None
    )
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return unknown
    targets = targets_of(statement)
    if len(targets) != 1 or chain_root(statement.value) is not node:
        return unknown
    if not isinstance(targets[0], ast.Name):
        kept = isinstance(targets[0], ast.Attribute | ast.Subscript)
        return (
            Objection("model-kept", "the model is kept beyond the call already")
            if kept
            else unknown
        )
    for outer in source.around(statement):
        if outer is function:
            break
        if isinstance(outer, ast.With | ast.AsyncWith) and not all(
            (dotted(called_in(item.context_expr)) or "").rpartition(".")[2] in HARMLESS_CONTEXTS
            for item in outer.items
        ):
            return Objection(
                "shape-not-known", "a with statement around it may decide how it is loaded"
            )
    variable = targets[0].id
    block = block_of(source, statement)
    local = _local_names(function)
    steady = Steady(program, facts)
    needed: dict[str, ast.stmt] = {}

    def is_steady(value: ast.AST, own: frozenset[str] = frozenset()) -> bool:
        names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)} & local - own
        for name in names:
            found = _settled(function, block, statement, name)
            if found is None or not is_steady(found.value, own):
                return False
            needed.setdefault(name, found)
        steady.local = own | names
        return steady.holds(value)

    if not is_steady(statement.value):
        return Objection("arguments-not-constant", "what is loaded may differ from call to call")
    moved: list[ast.stmt] = [statement]
    own = frozenset({variable})
    for following in block[block.index(statement) + 1 :]:
        before = dict(needed)
        if not _sets_up(following, variable) or not all(
            is_steady(each, own) for each in _evaluated(following)
        ):
            needed = before
            break
        moved.append(following)
    stored = [
        each
        for each in own_nodes(function)
        if isinstance(each, ast.Name) and each.id == variable and isinstance(each.ctx, ast.Store)
    ]
    inside = {each for one in moved for each in ast.walk(one)}
    if any(each not in inside for each in stored):
        return Objection("shape-not-known", f"{variable} is assigned more than once")
    return Loading(
        facts.path, call, function, call.scope, (needs_a_lock(call.name or ""),), steady.inputs,
        variable, tuple(moved), tuple(sorted(needed.values(), key=lambda each: each.lineno)),
    )  # fmt: skip


def _local_names(function: Function) -> set[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [each for each in (arguments.vararg, arguments.kwarg) if each]
    stored = {
        each.id
        for each in ast.walk(function)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store | ast.Del)
    }
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for each in ast.walk(function)
        if isinstance(each, ast.Import | ast.ImportFrom)
        for alias in each.names
    }
    return {each.arg for each in named} | stored | imported


def _settled(
    function: Function, block: list[ast.stmt], before: ast.stmt, name: str
) -> ast.Assign | None:
    """Return the only assignment to a local variable, where it stands above in the same block."""
    stored = [
        each
        for each in ast.walk(function)
        if isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, ast.Store)
    ]
    for each in block[: block.index(before)]:
        if isinstance(each, ast.Assign) and len(each.targets) == 1 and each.targets[0] in stored:
            return each if len(stored) == 1 else None
    return None


def _sets_up(statement: ast.stmt, variable: str) -> bool:
    """Whether a statement does nothing but change the loaded object in ``variable``."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        text = dotted(statement.value.func) or ""
        return text.startswith(f"{variable}.") and text.rpartition(".")[2] not in RUNS
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return False
    target = dotted(statement.targets[0]) or ""
    if target == variable:
        called = statement.value.func if isinstance(statement.value, ast.Call) else None
        named = dotted(called) if called is not None else None
        return (
            named is not None
            and named.rpartition(".")[0] == variable
            and named.rpartition(".")[2] not in RUNS
        )
    return target.startswith(f"{variable}.")


def _evaluated(statement: ast.stmt) -> Iterator[ast.expr]:
    if isinstance(statement, ast.Expr | ast.Assign):
        yield statement.value
