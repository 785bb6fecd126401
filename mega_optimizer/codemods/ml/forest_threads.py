"""Let a forest that is asked about single rows use one thread.

``n_jobs`` is for training, and stays with the model: a fitted forest that was made with
``n_jobs=-1`` starts a pool of threads for each prediction, and hands each a few trees that one row
passes in microseconds.

What the training code of the repository writes is known by its constructor; ``set_params`` refuses
anything else when the service loads it
(https://scikit-learn.org/stable/modules/generated/sklearn.base.BaseEstimator.html).
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.ml.dumped_models import PIPELINES, steps_of, written_values
from mega_optimizer.codemods.ml.origins import Origin, origins
from mega_optimizer.codemods.ml.single_rows import (
    LOADS,
    is_one_row,
    is_per_request,
    predictions,
)
from mega_optimizer.codemods.serving.hazards import reached_modules
from mega_optimizer.codemods.source import Source, read_source
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.python import Call, PythonFacts, Value

Asked = tuple["PythonFacts", "Call", tuple[Origin, ...]]

_FOREST = re.compile(
    r"sklearn\.ensemble\.(?:\w+\.)*(?:RandomForest|ExtraTrees)(?:Classifier|Regressor)"
)
# They predict nothing, so what is asked for predictions is not one of them.
_BESIDE = re.compile(
    r"sklearn\.(?:preprocessing|impute|decomposition|compose|feature_\w+)\.(?:\w+\.)*\w+"
)
_SETS_JOBS = rb"\.n_jobs\s*=[^=]|set_params\(|parallel_backend|parallel_config"
_WORDS = (b".n_jobs", b"set_params", b"parallel_backend", b"parallel_config")
_RAISED = frozenset({"ValueError", "AttributeError", "TypeError", "Exception", "BaseException"})
_PREDICTS = frozenset({"predict", "predict_proba", "predict_log_proba"})


def find_forests(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each place that loads a forest for single rows, or why it is left alone."""
    if "scikit-learn" not in context.dependencies:
        return
    reached = reached_modules(context, context.program)
    asked = list(predictions(context, reached))
    loads: dict[tuple[str, str, Value], Origin] = {}
    for facts, call, held in asked:
        if held and is_per_request(context, facts, call):
            loads |= {_identity(each): each for each in held if each.value.name in LOADS}
    for load in loads.values():
        step = _step(context, load)
        if step is not None:
            yield _outcome(context, load, step, asked, reached)


def _outcome(
    context: Context,
    load: Origin,
    step: str,
    asked: list[Asked],
    reached: tuple[str, ...],
) -> Outcome:
    path = load.facts.path
    calls = _calls(load, asked)
    place = Place(path, calls[0].line, calls[0].column) if calls else Place(path)
    setter = next(context.program.containing(_SETS_JOBS, reached, *_WORDS), None)
    if setter is not None:
        return Skip(place, "threads-set", f"{setter} may set the threads of models already")
    for facts, call, held in asked:
        may_be_it = not held or _identity(load) in map(_identity, held)
        if may_be_it and not is_one_row(facts, call):
            reason = f"{facts.path}:{call.line} may predict many rows, which threads can share"
            return Skip(place, "rows-not-single", reason)
    unseen = _unseen(context, reached)
    if unseen is not None:
        return Skip(place, "rows-not-single", f"which model predicts at {unseen} cannot be seen")
    content = context.read(path)
    source = read_source(path, content) if isinstance(content, bytes) else None
    node = source.call(calls[0]) if isinstance(source, Source) and len(calls) == 1 else None
    if not isinstance(source, Source) or node is None or not _is_whole(source, node):
        return Skip(place, "shape-not-known", "what is loaded is not kept as it is")
    if _is_caught(source, node):
        reason = "if it were no forest, nobody would see the error that the service catches here"
        return Skip(place, "failure-caught", reason)
    end = source.range(node)[1]
    edit = Edit(path, end, end, f".set_params({step}n_jobs=1)".encode())
    return Fix(place, "let the forest use one thread: it is asked about single rows", (edit,))


def _calls(load: Origin, asked: list[Asked]) -> list[Call]:
    """Return the calls that may be the load, of several alike those for a variable that predicts.

    ``pickle.load(file)`` may stand in one function for the model and for the scaler.
    """
    facts, scope = load.facts, load.scope
    alike = [each for each in facts.calls if each.value == load.value and each.scope == scope]
    if len(alike) == 1:
        return alike
    here = _identity(load)
    owners = {
        call.text.rpartition(".")[0].rpartition(".")[2]
        for _, call, held in asked
        if here in map(_identity, held)
    }
    lines = [
        each.line
        for each in facts.assignments
        if each.value == load.value
        and each.scope == scope
        and each.target.rpartition(".")[2] in owners
    ]
    return [each for each in alike if each.line in lines]


def _identity(origin: Origin) -> tuple[str, str, Value]:
    return origin.facts.path, origin.scope, origin.value


def _is_whole(source: Source, node: ast.Call) -> bool:
    """Whether the loaded object itself is assigned or returned."""
    parent = source.parents[node]
    return isinstance(parent, ast.Assign | ast.AnnAssign | ast.Return) and not any(
        isinstance(each, ast.Tuple | ast.List) for each in getattr(parent, "targets", ())
    )


def _is_caught(source: Source, node: ast.Call) -> bool:
    """Whether a handler around catches what ``set_params`` raises for anything but a forest."""
    child: ast.AST = node
    for outer in source.around(node):
        for handler in outer.handlers if isinstance(outer, ast.Try) and child in outer.body else ():
            caught = ast.walk(handler.type) if handler.type is not None else ()
            names = {each.id for each in caught if isinstance(each, ast.Name)}
            if handler.type is None or names & _RAISED:
                return True
        child = outer
    return False


def _unseen(context: Context, reached: tuple[str, ...]) -> Place | None:
    """Return a prediction of something that has no name."""
    for path in context.program.containing(rb"[\])]\s*\.predict", reached, b".predict"):
        content = context.read(path)
        source = read_source(path, content) if isinstance(content, bytes) else None
        for call in source.calls() if isinstance(source, Source) else ():
            method = call.func
            if isinstance(method, ast.Attribute) and method.attr in _PREDICTS:
                owner = method.value
                while isinstance(owner, ast.Attribute):
                    owner = owner.value
                if not isinstance(owner, ast.Name):
                    return Place(path, call.lineno)
    return None


def _step(context: Context, load: Origin) -> str | None:
    """Return how ``set_params`` names the forest: ``""``, or ``step__`` in a pipeline.

    None where what is written for the module cannot be seen, is something else, or was not made
    for several threads.
    """
    steps: set[str] = set()
    threads = False
    for _, values in written_values(context, load.facts.path):
        if not values:
            return None
        for origin in values:
            if _is_beside(origin):
                continue
            found = _forest(context, origin)
            if found is None:
                return None
            steps.add(found[0])
            threads = threads or found[1]
    return steps.pop() if threads and len(steps) == 1 else None


def _is_beside(origin: Origin) -> bool:
    """Whether a value that is written predicts nothing: a scaler, or plain data."""
    value = origin.value
    if value.kind in ("constant", "collection", "fstring"):
        return True
    return value.kind == "call" and _BESIDE.fullmatch(value.name or "") is not None


def _forest(context: Context, origin: Origin) -> tuple[str, bool] | None:
    """Return how ``set_params`` names the forest, and whether it starts several threads."""
    value, prefix = origin.value, ""
    if value.kind == "call" and value.name in PIPELINES:
        steps = steps_of(value)
        if not steps:
            return None
        name, value = steps[-1]
        if value.kind == "name":
            held = origins(context.program, origin.facts, value.text, origin.scope)
            if len(held) != 1:
                return None
            value = held[0].value
        prefix = f"{name or _named_after(value)}__"
    if value.kind != "call" or not _FOREST.fullmatch(value.name or ""):
        return None
    return prefix, _starts_threads(value)


def _named_after(value: Value) -> str:
    """Return the name that ``make_pipeline`` gives to a step."""
    return (value.name or "").rpartition(".")[2].lower()


def _starts_threads(forest: Value) -> bool:
    jobs = forest.argument("n_jobs")
    if jobs is None:
        return False
    if jobs.kind == "binary" and len(jobs.arguments) == 1:  # the sign of -1
        return isinstance(jobs.arguments[0].value.constant, int)
    return isinstance(jobs.constant, int) and jobs.constant > 1
