"""Predict for all rows in one call instead of once for each row.

A call of ``predict`` checks its input, makes arrays and crosses into compiled code; for one row
that takes longer than the prediction itself.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.ml.estimators import METHODS, is_estimator, own_estimator
from mega_optimizer.codemods.ml.prediction_batches import batched
from mega_optimizer.codemods.ml.prediction_loops import (
    bound_in,
    is_only_assigned,
    loop_around,
    names_in,
    single_prediction,
)
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.codemods.ml.prediction_loops import Loop, Single
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts

_LITERALS = tuple(f".{each}".encode() for each in sorted(METHODS))
_ONE_ROW = rb"\.(?:predict\w*|decision_function|score_samples)\(\s*(?:\w+\.(?:as)?array\(\s*)?\["


_SEVERAL_OUTPUTS = ("MultiOutputClassifier", "multi_output", "multioutput")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each loop of single predictions, skips where it may not be one call."""
    program = context.program
    for path in program.containing(_ONE_ROW, program.product, *_LITERALS):
        content, facts = context.read(path), context.python(path)
        source = read_source(path, content) if isinstance(content, bytes) else content
        if isinstance(source, Problem) or isinstance(facts, Problem):
            continue  # a module that cannot be read is reported by the rules of its framework
        for call in source.calls():
            if isinstance(call.func, ast.Attribute) and call.func.attr in METHODS:
                outcome = _outcome(context, facts, source, call)
                if outcome is not None:
                    yield outcome


def _outcome(
    context: Context, facts: PythonFacts, source: Source, call: ast.Call
) -> Outcome | None:
    single = single_prediction(source, call)
    loop = loop_around(source, single) if single is not None else None
    if single is None or loop is None:
        return None
    place = Place(facts.path, call.lineno, call.col_offset + 1)
    if isinstance(loop, str):
        return Skip(place, "shape-not-known", loop)
    objection = _objection(context, facts, source, loop, place)
    if objection is not None:
        return objection
    edits = batched(facts.path, source, loop, context.python_version)
    if isinstance(edits, str):
        return Skip(place, "shape-not-known", edits)
    return Fix(place, "predict for all rows in one call", edits)


def _objection(
    context: Context, facts: PythonFacts, source: Source, loop: Loop, place: Place
) -> Skip | None:
    single = loop.single
    assert isinstance(single.call.func, ast.Attribute)
    model = ast.unparse(single.call.func.value)
    bound = names_in(loop.target) | bound_in(loop.prelude)
    if names_in(single.call.func.value) & bound:
        return Skip(place, "model-varies", "each iteration uses another model")
    if any(model in _chains(each) for each in loop.prelude):
        return Skip(place, "model-used", "an iteration does something else with the model")
    if not _is_fresh(loop):
        return Skip(place, "row-shared", "all rows may be the same list, filled anew each time")
    others = [
        each
        for each in ast.walk(loop.element)
        if isinstance(each, ast.Attribute) and each.attr in METHODS and each is not single.call.func
    ]
    if others:
        return Skip(place, "several-predictions", "an iteration predicts more than once")
    scope = scope_of(source, single.call)
    if not _only_assigned(source, single.call, model) or not is_estimator(
        context, facts, model, scope
    ):
        return Skip(place, "model-not-known", f"that {model} is an estimator cannot be seen")
    own = own_estimator(context.program)
    if own is not None:
        return Skip(place, "own-estimator", f"a class in {own} may look at the other rows")
    if single.call.func.attr == "predict_proba" and not _picks_a_class(source, single):
        several = next(filter(context.program.with_word, _SEVERAL_OUTPUTS), None)
        if several is not None:
            reason = f"what {several} makes has several outputs, and a list of arrays for them"
            return Skip(place, "several-outputs", reason)
    return None


def _is_fresh(loop: Loop) -> bool:
    """Whether each iteration makes or gets a row of its own."""
    row = loop.single.row
    if not isinstance(row, ast.Name):
        return isinstance(row, ast.Call | ast.List | ast.Tuple | ast.ListComp | ast.Dict) or bool(
            names_in(row) & (names_in(loop.target) | bound_in(loop.prelude))
        )
    values = [
        each.value
        for statement in loop.prelude
        for each in ast.walk(statement)
        if isinstance(each, ast.Assign)
        and row.id in names_in(each)
        and any(isinstance(x, ast.Name) and x.id == row.id for x in each.targets)
    ]
    if not values:
        return row.id in names_in(loop.target)
    return not any(isinstance(each, ast.Name | ast.Attribute) for each in values)


def _picks_a_class(source: Source, single: Single) -> bool:
    """Whether a second index shows that the first one picked a row."""
    return bool(single.rest) or isinstance(source.parents[single.picked], ast.Subscript)


def scope_of(source: Source, node: ast.AST) -> str:
    """Return the dotted path of the functions and classes around ``node``."""
    names = [
        each.name
        for each in source.around(node)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    return ".".join(reversed(names))


def _only_assigned(source: Source, node: ast.AST, text: str) -> bool:
    """Whether the function around ``node`` binds the root of ``text`` by plain assignments only."""
    function = next(
        (x for x in source.around(node) if isinstance(x, ast.FunctionDef | ast.AsyncFunctionDef)),
        None,
    )
    return function is None or is_only_assigned(function, text)


def _chains(statement: ast.stmt) -> set[str]:
    return {
        ast.unparse(each)
        for each in ast.walk(statement)
        if isinstance(each, ast.Name | ast.Attribute)
    }
