"""Where a service loads models that are slow to load, and in which shape.

A *factory* is a function without parameters that does nothing but load and return. Elsewhere the
load stands in place, in a function that goes on to use what it loaded: then the statements that
load and set up the model can move into a factory of their own.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import CACHES
from mega_optimizer.codemods.ml.loaders import is_slow_to_load, needs_a_lock
from mega_optimizer.codemods.ml.steady import Steady, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.database.constants import Inputs
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call, PythonFacts

Function = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
HARMLESS_CONTEXTS = ("no_grad", "inference_mode")
# What is asked of a model without changing it, when it is asked beside loading.
RUNS = frozenset({"generate", "encode", "decode", "batch_decode", "tokenize", "transcribe"})


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a load may not be shared."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Loading:
    """One load of models in ``function`` of the module at ``path``.

    ``taking_turns`` says for each object that it gives whether threads must not use it at the same
    time. In place, ``variable`` holds the only one, ``moved`` are the statements that load it and
    set it up, and ``copied`` are those that they need but others may need as well.
    """

    path: str
    call: Call
    function: Function
    scope: str
    taking_turns: tuple[bool, ...]
    inputs: Inputs
    variable: str | None = None
    moved: tuple[ast.stmt, ...] = ()
    copied: tuple[ast.stmt, ...] = ()

    @property
    def is_factory(self) -> bool:
        """Whether the function does nothing but load and return."""
        return self.variable is None


def loading_of(
    program: Program, facts: PythonFacts, source: Source, call: Call
) -> Loading | Objection:
    """Return the load that ``call`` is a part of, or why it cannot be shared."""
    node = source.call(call)
    function = _function_around(source, node) if node is not None else None
    if node is None or function is None:
        return Objection("shape-not-known", "stands in no function of its own")
    if any(
        (dotted(_called(each)) or "").rpartition(".")[2] in CACHES
        for each in function.decorator_list
    ):
        return Objection("cached", "the function is cached already")
    if facts.resolve(call.text) != call.name:
        return Objection("import-in-function", f"{call.text} is imported in {call.scope} only")
    if any(isinstance(each, ast.Global | ast.Nonlocal) for each in ast.walk(function)):
        return Objection("model-kept", "the model is kept beyond the call already")
    factory = _as_factory(program, facts, source, call, function)
    return factory if factory is not None else _in_place(program, facts, source, call, function)


def _called(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _function_around(source: Source, node: ast.AST) -> Function | None:
    """Return the function around ``node`` that is a module's or, of a top-level class, a method."""
    around = [each for each in source.around(node) if isinstance(each, DEFINITIONS)]
    if not around or not isinstance(around[0], ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    function, rest = around[0], around[1:]
    if rest and not (len(rest) == 1 and isinstance(rest[0], ast.ClassDef)):
        return None
    outer = rest[0] if rest else function
    own = source.parents[function] is outer or not rest
    return function if own and source.parents[outer] is source.tree else None


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes in the body of a function, those of functions within it aside."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, DEFINITIONS):
            waiting.extend(ast.iter_child_nodes(node))


def _as_factory(
    program: Program, facts: PythonFacts, source: Source, call: Call, function: Function
) -> Loading | None:
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
        and any(isinstance(t, ast.Name) and t.id == root.id for t in _targets(each))
        and not (isinstance(r := chain_root(each.value), ast.Name) and r.id == root.id)
    ]
    kinds = {_turns(facts, function, each, depth + 1) for each in assigned}
    if not kinds or None in kinds:
        return None
    return True in kinds


def _targets(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


def chain_root(value: ast.expr) -> ast.expr:
    """Return what ``Model.from_pretrained(x).to(y).eval()`` begins with: a load, or a name.

    Of ``name.method()`` that is the name, of a plain call the call itself.
    """
    while (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr not in RUNS
        and (
            isinstance(value.func.value, ast.Call)
            or (
                isinstance(value.func.value, ast.Name)
                and value.func.value.id.islower()
                and value.func.attr in ("to", "eval", "half", "float", "cuda", "cpu", "bfloat16")
            )
        )
    ):
        value = value.func.value
    return value


def _in_place(
    program: Program, facts: PythonFacts, source: Source, call: Call, function: Function
) -> Loading | Objection:
    node = source.call(call)
    unknown = Objection("shape-not-known", "what is loaded is not assigned to a variable")
    statement = (
        next((e for e in source.around(node) if isinstance(e, ast.stmt)), None) if node else None
    )
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return unknown
    targets = _targets(statement)
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
            (dotted(_called(item.context_expr)) or "").rpartition(".")[2] in HARMLESS_CONTEXTS
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


def block_of(source: Source, statement: ast.stmt) -> list[ast.stmt]:
    """Return the statements among which ``statement`` stands."""
    outer = source.parents[statement]
    return next(
        block
        for name in ("body", "orelse", "finalbody")
        if isinstance(block := getattr(outer, name, None), list) and statement in block
    )


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
