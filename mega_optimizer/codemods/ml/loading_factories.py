"""Functions that do nothing but load models and return them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.loaders import is_slow_to_load, needs_a_lock
from mega_optimizer.codemods.ml.loading import Loading, chain_root, own_nodes, targets_of
from mega_optimizer.codemods.ml.steady import Steady, dotted

if TYPE_CHECKING:
    from mega_optimizer.codemods.ml.loading import Function
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call, PythonFacts


def as_factory(
    program: Program, facts: PythonFacts, source: Source, call: Call, function: Function
) -> Loading | None:
    """Return the load of which ``function`` is the factory, None where it is none."""
    arguments = function.args
    if (
        isinstance(function, ast.AsyncFunctionDef)
        or function.decorator_list
        or source.parents[function] is not source.tree
        or arguments.args
        or arguments.posonlyargs
        or arguments.kwonlyargs
        or arguments.vararg
        or arguments.kwarg
    ):
        return None
    stored = {
        each.id
        for each in own_nodes(function)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    steady = Steady(program, facts, frozenset(stored))
    if not all(_only_loads(steady, each) for each in function.body):
        return None
    returned = [each.value for each in own_nodes(function) if isinstance(each, ast.Return)]
    kinds = {_parts(facts, function, each) for each in returned}
    shapes = [each for each in kinds if each is not None]
    if not shapes or None in kinds or len({len(each) for each in shapes}) != 1:
        return None
    turns = tuple(any(each[place] for each in shapes) for place in range(len(shapes[0])))
    return Loading(facts.path, call, function, function.name, turns, steady.inputs)


def _only_loads(steady: Steady, statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr | ast.Return):
        return statement.value is not None and steady.holds(statement.value)
    if isinstance(statement, ast.Assign):
        targets = all(_is_target(each, steady.local) for each in statement.targets)
        return targets and steady.holds(statement.value)
    if isinstance(statement, ast.AnnAssign):
        simple = isinstance(statement.target, ast.Name) and statement.value is not None
        return simple and steady.holds(statement.value or statement.target)
    if isinstance(statement, ast.If):
        inner = (*statement.body, *statement.orelse)
        return steady.holds(statement.test) and all(_only_loads(steady, each) for each in inner)
    if isinstance(statement, ast.With):
        items = all(steady.holds(each.context_expr) for each in statement.items)
        return items and all(_only_loads(steady, each) for each in statement.body)
    return isinstance(statement, ast.Pass)


def _is_target(target: ast.expr, local: frozenset[str]) -> bool:
    """Whether what is written to is a variable of the function, or a part of one."""
    if isinstance(target, ast.Name):
        return True
    text = dotted(target)
    return text is not None and text.partition(".")[0] in local


def _parts(
    facts: PythonFacts, function: Function, returned: ast.expr | None
) -> tuple[bool, ...] | None:
    """Return, for each object that is returned, whether it needs a lock; None if not known."""
    if returned is None:
        return None
    each = returned.elts if isinstance(returned, ast.Tuple) else [returned]
    parts = [_turns(facts, function, one, 0) for one in each]
    return None if None in parts else tuple(bool(part) for part in parts)


def _turns(facts: PythonFacts, function: Function, value: ast.expr, depth: int) -> bool | None:
    """Return whether a loaded object needs a lock, None where ``value`` is no loaded object."""
    root = chain_root(value)
    if isinstance(root, ast.Call):
        name = facts.resolve(dotted(root.func) or "")
        if name is None or not is_slow_to_load(name):
            return None
        return needs_a_lock(name)
    if not isinstance(root, ast.Name) or depth > 3:
        return None
    assigned = [
        each.value
        for each in own_nodes(function)
        if isinstance(each, ast.Assign | ast.AnnAssign)
        and each.value is not None
        and any(isinstance(t, ast.Name) and t.id == root.id for t in targets_of(each))
        and not (isinstance(r := chain_root(each.value), ast.Name) and r.id == root.id)
    ]
    kinds = {_turns(facts, function, each, depth + 1) for each in assigned}
    if not kinds or None in kinds:
        return None
    return True in kinds
