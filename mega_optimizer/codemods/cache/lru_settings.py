"""Read the settings once for the process instead of once for each request.

A settings class of pydantic reads the environment, ``.env`` and secret files whenever it is
instantiated. FastAPI's own documentation puts ``lru_cache`` on the loader
(https://fastapi.tiangolo.com/advanced/settings/#settings-in-a-dependency).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.cache.settings_class import (
    SettingsClass,
    settings_class,
    source_objection,
)
from mega_optimizer.codemods.cache.settings_use import use_objection
from mega_optimizer.codemods.database.constants import CACHES, Inputs, is_constant
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_per_request
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edit, Outcome
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, Function, PythonFacts

LOADER = rb"(?m)^def \w*(?i:settings|config|conf|env)\w*\(\s*\)"


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each loader of settings that runs per request and caches nothing."""
    program = context.program
    for path in program.containing(LOADER, program.product, b"def "):
        facts = program.facts(path)
        if facts is None:
            continue
        for function in facts.functions:
            if not _takes_nothing(function):
                continue
            call = _constructor(facts, function)
            found = settings_class(program, facts, call) if call is not None else None
            if call is None or found is None or _is_cached(function):
                continue
            objection = _objection(context, program, facts, function, call, found)
            if objection is not None:
                yield objection
                continue
            yield Fix(
                Place(path, function.line),
                f"Read the settings once: cache {function.path}()",
                partial(_rewrite, context, facts, function),
            )


def _takes_nothing(function: Function) -> bool:
    """Whether this is a plain function of the module without any parameter."""
    return not (
        function.parameters or function.is_async or function.is_generator or "." in function.path
    )


def _constructor(facts: PythonFacts, function: Function) -> Call | None:
    """Return the call whose result is all that ``function`` returns, else None."""
    if len(function.returns) != 1 or function.returns[0] is None:
        return None
    returned = function.returns[0]
    if returned.kind == "name":
        made = facts.assigned(returned.text, function.path)
        if made is None:
            return None
        returned = made
    own = [call for call in facts.calls if call.scope == function.path and call.value == returned]
    return own[0] if len(own) == 1 else None


def _is_cached(function: Function) -> bool:
    return any(each.text.rpartition(".")[2] in CACHES for each in function.decorators)


def _objection(
    context: Context,
    program: Program,
    facts: PythonFacts,
    function: Function,
    call: Call,
    made: SettingsClass,
) -> Skip | None:
    place = Place(facts.path, function.line)
    if function.decorators:
        names = ", ".join(each.text or "a decorator" for each in function.decorators)
        return Skip(place, "decorated", f"{names} may count on being called each time")
    if not _does_nothing_else(context, facts, function):
        return Skip(place, "more-than-loading", "does more than to make the settings")
    inputs = Inputs()
    if call.unpacks or not all(
        is_constant(program, facts, each.value, call.scope, inputs) for each in call.arguments
    ):
        return Skip(place, "arguments-not-constant", "the arguments may differ from call to call")
    objection = source_objection(program, made, place) or use_objection(
        program, made, inputs, place
    )
    if objection is not None:
        return objection
    if not runs_per_request(program, Definition(facts.path, function.path)):
        reason = f"no route, dependency or task was seen to call {function.path}"
        return Skip(place, "not-per-request", reason, agrees_to=facts.path)
    return None


def _does_nothing_else(context: Context, facts: PythonFacts, function: Function) -> bool:
    """Whether the body is a docstring, an assignment and a return at most."""
    import ast

    content = context.read(facts.path)
    if isinstance(content, Problem) or function.global_names:
        return False
    node = next(
        (
            each
            for each in ast.parse(content).body
            if isinstance(each, ast.FunctionDef) and each.lineno == function.line
        ),
        None,
    )
    if node is None:
        return False
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if len(body) == 1:
        return isinstance(body[0], ast.Return)
    return (
        len(body) == 2
        and isinstance(body[0], ast.Assign | ast.AnnAssign)
        and isinstance(body[1], ast.Return)
        and isinstance(body[1].value, ast.Name)
    )


def _rewrite(context: Context, facts: PythonFacts, function: Function) -> tuple[Edit, ...] | Skip:
    import libcst as cst

    from mega_optimizer.codemods.imports import ensure_import
    from mega_optimizer.codemods.python import edits_between, skipped

    tree = context.tree(facts.path)
    if isinstance(tree, Problem):
        return skipped(tree)
    name = "functools.lru_cache"
    result = tree
    if facts.bindings.get("functools") != "functools":
        imported = ensure_import(tree, facts, "functools", "lru_cache", function.line)
        if isinstance(imported, Skip):
            return imported
        result, name = imported
    decorator = cst.Decorator(cst.parse_expression(name))
    body = [
        each.with_changes(decorators=[decorator])
        if isinstance(each, cst.FunctionDef) and each.name.value == function.path
        else each
        for each in result.body
    ]
    return edits_between(facts.path, tree.bytes, result.with_changes(body=body))
