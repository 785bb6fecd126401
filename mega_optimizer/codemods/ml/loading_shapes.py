"""Which load a call is a part of, if it can be shared."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import CACHES
from mega_optimizer.codemods.ml.loading import DEFINITIONS, Loading, Objection, called_in
from mega_optimizer.codemods.ml.loading_factories import as_factory
from mega_optimizer.codemods.ml.loading_in_place import in_place
from mega_optimizer.codemods.ml.steady import dotted

if TYPE_CHECKING:
    from mega_optimizer.codemods.ml.loading import Function
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call, PythonFacts


def loading_of(
    program: Program, facts: PythonFacts, source: Source, call: Call
) -> Loading | Objection:
    """Return the load that ``call`` is a part of, or why it cannot be shared."""
    node = source.call(call)
    function = _function_around(source, node) if node is not None else None
    if node is None or function is None:
        return Objection("shape-not-known", "stands in no function of its own")
    if any(
        (dotted(called_in(each)) or "").rpartition(".")[2] in CACHES
        for each in function.decorator_list
    ):
        return Objection("cached", "the function is cached already")
    if facts.resolve(call.text) != call.name:
        return Objection("import-in-function", f"{call.text} is imported in {call.scope} only")
    if any(isinstance(each, ast.Global | ast.Nonlocal) for each in ast.walk(function)):
        return Objection("model-kept", "the model is kept beyond the call already")
    factory = as_factory(program, facts, source, call, function)
    return factory if factory is not None else in_place(program, facts, source, call, function)


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
