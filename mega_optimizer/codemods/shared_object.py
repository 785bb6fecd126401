"""Turn functions that make an object (an engine, a client) into users of a cached one.

A function that does nothing but make the object is cached itself; elsewhere the call moves into a
cached function of its own, just above.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import libcst as cst

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.imports import ensure_import
from mega_optimizer.codemods.python import dotted_name, edits_between, replace_calls, skipped
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.python import Call, PythonFacts, Value


LOGS = re.compile(r"(?:self\.|app\.)?_?(?:log|logger|logging|LOGGER|LOG)\.(?:debug|info|warning)")


@dataclass(frozen=True, slots=True)
class Kind:
    """What is shared. ``helpers`` are names for the cached function, the best first.

    ``finished`` gives the call its last touch; ``type_of`` says which class (module, name) a call
    makes, for the annotation of the cached function, None where that is not known. ``simpler``
    rewrites a shape of its own, and gives None for all others.
    """

    noun: str
    helpers: tuple[str, ...]
    type_of: Callable[[Call], tuple[str, str] | None]
    finished: Callable[[cst.Call], cst.Call] = lambda call: call
    simpler: Callable[[cst.Module, PythonFacts, list[Call]], cst.Module | None] = (
        lambda tree, facts, calls: None
    )


@dataclass(frozen=True, slots=True)
class Shared:
    """The tree with the object shared, and the first call that shares it."""

    tree: cst.Module
    first: Call


def sharing(
    context: Context, facts: PythonFacts, calls: list[Call], kind: Kind, message: str
) -> Iterator[Outcome]:
    """Yield the fix that shares what ``calls`` make, and skips where one of them cannot move."""
    tree = context.tree(facts.path)
    if isinstance(tree, Problem):
        yield skipped(tree)
        return
    skips: list[Skip] = []
    try:
        first, changed = calls[0], kind.simpler(tree, facts, calls)
        if changed is None:
            shared, skips = share(tree, facts, calls, kind)
            first, changed = (shared.first, shared.tree) if shared else (first, None)
        edits = edits_between(facts.path, tree.bytes, changed) if changed else ()
    except RecursionError:
        reason = "is nested too deeply to be rewritten safely"
        yield Skip(_place(facts, calls[0]), "too-deep", reason)
        return
    yield from skips
    if changed is not None:
        yield Fix(_place(facts, first), message, edits)


def share(
    tree: cst.Module, facts: PythonFacts, calls: list[Call], kind: Kind
) -> tuple[Shared | None, list[Skip]]:
    """Rewrite the functions around ``calls``; what cannot be moved is skipped."""
    skips: list[Skip] = []
    factories: list[Call] = []
    moved: list[Call] = []
    for call in calls:
        if _is_factory(tree, facts, call):
            factories.append(call)
            continue
        objection = _cannot_move(tree, facts, call)
        if objection is None and moved and call.value != moved[0].value:
            objection = Skip(
                _place(facts, call), f"several-{kind.noun}s", f"makes another {kind.noun}"
            )
        if objection is None:
            moved.append(call)
        else:
            skips.append(objection)
    done = [*factories, *moved]
    if not done:
        return None, skips
    first = min(done, key=lambda call: call.line)
    start = min(_function_line(facts, call) for call in done)
    cached = ensure_import(tree, facts, "functools", "lru_cache", start)
    helper = next((name for name in kind.helpers if name not in facts.bound_names), None)
    if isinstance(cached, Skip):
        return None, [*skips, cached]
    if moved and helper is None:
        return None, [*skips, Skip(_place(facts, first), "name-taken", "no name is free for it")]
    result, decorator_name = cached
    annotation = None
    if moved:
        result, annotation = _with_type(result, facts, moved[0], start, kind)
    decorator = cst.Decorator(_call(decorator_name, maxsize="1"))
    replaced: dict[Call, Callable[[cst.Call], cst.BaseExpression]] = {
        call: kind.finished for call in factories
    }
    bodies: list[cst.Call] = []

    def move(node: cst.Call) -> cst.Call:
        bodies.append(node)
        return _call(cast("str", helper))

    replaced.update({call: move for call in moved})
    changed = replace_calls(result, replaced)
    if changed is None:
        reason = "the call could not be found again in the tree"
        return None, [*skips, Skip(_place(facts, first), "not-found-again", reason)]
    for call in factories:
        changed = _decorated(changed, call.scope, decorator)
    if moved:
        body = kind.finished(bodies[0])
        definition = _helper(cast("str", helper), body, decorator, annotation)
        changed = _inserted_above(changed, {_root(call) for call in moved}, definition)
    return Shared(changed, first), skips


def _place(facts: PythonFacts, call: Call) -> Place:
    return Place(facts.path, call.line, call.column)


def _root(call: Call) -> str:
    return call.scope.partition(".")[0]


def _function_line(facts: PythonFacts, call: Call) -> int:
    root = _root(call)
    lines = [function.line for function in facts.functions if function.path == root]
    lines += [each.line for each in facts.classes if each.path == root]
    return min([*lines, call.line])


def _call(name: str, **arguments: str) -> cst.Call:
    text = ", ".join(f"{key}={value}" for key, value in arguments.items())
    return cast("cst.Call", cst.parse_expression(f"{name}({text})"))


def _is_factory(tree: cst.Module, facts: PythonFacts, call: Call) -> bool:
    """Whether the function does nothing but make the object and return it."""
    function = facts.function(call.scope)
    definition = _top_level(tree, call.scope)
    if (
        function is None
        or not isinstance(definition, cst.FunctionDef)
        or function.parameters
        or function.decorators
        or function.is_async
        or function.is_generator
        or len(function.returns) != 1
        or not all(_is_plain(each) for each in definition.body.body)
    ):
        return False
    returned = function.returns[0]
    variable = next(
        (
            each.target
            for each in facts.assignments
            if each.scope == call.scope and each.value == call.value
        ),
        None,
    )
    if returned is None:
        return False
    unpacked = returned.kind == "collection" and all(
        each.value.kind == "name" and each.value.text not in facts.bindings
        for each in returned.arguments
    )
    return returned == call.value or returned.text == variable or unpacked


def _is_plain(statement: cst.BaseStatement | cst.BaseSmallStatement) -> bool:
    """Whether a statement sets a variable, returns, logs, or does so with a file open."""
    if isinstance(statement, cst.With):
        files = (item.item for item in statement.items)
        opens = all(isinstance(f, cst.Call) and dotted_name(f.func) == "open" for f in files)
        return opens and all(map(_is_plain, statement.body.body))
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    return all(
        isinstance(each, cst.Assign | cst.AnnAssign | cst.Return)
        or (isinstance(each, cst.Expr) and _only_tells(each.value))
        for each in statement.body
    )


def _only_tells(value: cst.BaseExpression) -> bool:
    """Whether an expression is a docstring, or a line of the log."""
    if isinstance(value, cst.SimpleString):
        return True
    called = dotted_name(value.func) if isinstance(value, cst.Call) else None
    return called == "print" or bool(called and LOGS.fullmatch(called))


def _top_level(tree: cst.Module, name: str) -> cst.BaseStatement | None:
    found = [
        each
        for each in tree.body
        if isinstance(each, cst.FunctionDef | cst.ClassDef) and each.name.value == name
    ]
    return found[0] if len(found) == 1 else None


def _cannot_move(tree: cst.Module, facts: PythonFacts, call: Call) -> Skip | None:
    place = _place(facts, call)
    if _top_level(tree, _root(call)) is None:
        return Skip(place, "shape-not-known", f"{_root(call)} is not defined at the top level")
    outer = call.scope.rpartition(".")[0]
    if outer and not any(each.path == outer for each in facts.classes):
        return Skip(place, "shape-not-known", "stands in a function within a function")
    if any(facts.resolve(text) != name for text, name in _names(call.value)):
        return Skip(place, "shape-not-known", "uses names that only its function knows")
    return None


def _names(value: Value) -> Iterator[tuple[str, str | None]]:
    if value.text and not value.text.startswith(".") and value.name is not None:
        if not value.name.startswith("builtins."):
            yield value.text, value.name
    elif value.kind == "name":
        yield value.text, ""
    for each in value.arguments:
        yield from _names(each.value)


def _decorated(tree: cst.Module, name: str, decorator: cst.Decorator) -> cst.Module:
    body = [
        each.with_changes(decorators=[decorator])
        if isinstance(each, cst.FunctionDef) and each.name.value == name
        else each
        for each in tree.body
    ]
    return tree.with_changes(body=body)


def _helper(
    name: str, call: cst.Call, decorator: cst.Decorator, annotation: str | None
) -> cst.FunctionDef:
    blank = cst.EmptyLine(indent=False)
    returned = cst.Return(call)
    return cst.FunctionDef(
        name=cst.Name(name),
        params=cst.Parameters(),
        body=cst.IndentedBlock([cst.SimpleStatementLine([returned])]),
        decorators=[decorator],
        returns=cst.Annotation(cst.parse_expression(annotation)) if annotation else None,
        leading_lines=[blank, blank],
    )


def _with_type(
    tree: cst.Module, facts: PythonFacts, made: Call, before: int, kind: Kind
) -> tuple[cst.Module, str | None]:
    """Return the tree and the name of the object's type, where the code around is annotated."""
    function = facts.function(made.scope)
    known = kind.type_of(made)
    if function is None or function.annotation is None or known is None:
        return tree, None
    module, name = known
    root = module.partition(".")[0]
    for each in facts.imports:
        same = each.target.startswith(f"{root}.") and each.target.endswith(f".{name}")
        if same and facts.bindings.get(each.bound) == each.target:
            return tree, each.bound
    whole = next((b for b, target in facts.bindings.items() if target == module), None)
    if whole is not None:
        return tree, f"{whole}.{name}"
    added = ensure_import(tree, facts, module, name, before)
    return (tree, None) if isinstance(added, Skip) else added


def _inserted_above(tree: cst.Module, names: set[str], definition: cst.FunctionDef) -> cst.Module:
    body: list[cst.BaseStatement] = []
    missing = True
    for each in tree.body:
        defines = isinstance(each, cst.FunctionDef | cst.ClassDef) and each.name.value in names
        if missing and defines:
            missing = False
            body += [definition, _set_apart(cast("cst.FunctionDef", each))]
        else:
            body.append(cast("cst.BaseStatement", each))
    return tree.with_changes(body=body)


def _set_apart(definition: cst.FunctionDef) -> cst.FunctionDef:
    """Return ``definition`` with at least two empty lines above it."""
    leading = list(definition.leading_lines)
    blank = cst.EmptyLine(indent=False)
    above = next((i for i, each in enumerate(leading) if each.comment), len(leading))
    return definition.with_changes(leading_lines=[*[blank] * (2 - above), *leading])
