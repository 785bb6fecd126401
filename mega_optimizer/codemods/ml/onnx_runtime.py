"""Predict with ONNX Runtime where a service asks trees or a small network about single rows.

For one row, most of the time of scikit-learn's ``predict`` goes into checking the input, and, for
forests, into one call for each tree.
"""

from __future__ import annotations

import posixpath
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.ml.dumped_models import dumped_model
from mega_optimizer.codemods.ml.origins import origins
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_per_request
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.ml.dumped_models import Dumped
    from mega_optimizer.codemods.ml.origins import Origin
    from mega_optimizer.repository.python import Call, PythonFacts, Value

SCRIPT = "convert_to_onnx.py"
_LOADS = ("joblib.load", "pickle.load", "cloudpickle.load")
_METHODS = ("predict", "predict_proba")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_PREDICTS = rb"\.predict(?:_proba)?\("


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for the first prediction of a service, or why it stays with scikit-learn."""
    if not any(context.modules(*(name.partition(".")[0].encode() for name in _LOADS))):
        return
    batched: Outcome | None = None
    for facts, call, load in _predictions(context):
        place = Place(facts.path, call.line, call.column)
        if not _is_one_row(facts, call):
            reason = "how many rows it predicts at a time cannot be seen, and many gain little"
            batched = batched or Skip(place, "rows-not-single", reason)
            continue
        yield _outcome(context, place, load)
        return
    if batched is not None:
        yield batched


def _predictions(context: Context) -> Iterator[tuple[PythonFacts, Call, Origin]]:
    """Yield the predictions during requests of what was loaded, and one load of each."""
    program = context.program
    for path in program.containing(_PREDICTS, program.product, b".predict"):
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            receiver, _, method = call.text.rpartition(".")
            if facts is None or method not in _METHODS or not receiver or not call.positional:
                continue
            loads = origins(program, facts, receiver, call.scope)
            if not loads or any(each.value.name not in _LOADS for each in loads):
                continue
            if runs_per_request(program, Definition(path, call.scope)):
                yield facts, call, loads[0]


def _is_one_row(facts: PythonFacts, call: Call) -> bool:
    """Whether what is passed is a list of one row, an array or table of one, or reshaped to one."""
    return _holds_one(facts, call.positional[0], call.scope)


def _holds_one(facts: PythonFacts, value: Value, scope: str) -> bool:
    if value.kind == "name":
        assigned = facts.assigned(value.text, scope)
        return (
            assigned is not None and assigned.kind != "name" and _holds_one(facts, assigned, scope)
        )
    first = value.arguments[0].value if value.arguments else None
    if value.kind == "collection":
        return len(value.arguments) == 1 and not value.arguments[0].star
    if value.kind != "call" or first is None:
        return False
    if value.text.endswith(".reshape"):
        rows = [each.value.constant for each in value.arguments if each.value.kind == "constant"]
        return rows[:1] == [1]
    if value.name in ("numpy.array", "numpy.asarray", "pandas.DataFrame"):
        return first.kind == "collection" and _holds_one(facts, first, scope)
    return False


def _outcome(context: Context, place: Place, load: Origin) -> Outcome:
    for name in _RUNTIMES:
        if name in context.dependencies:
            return Skip(place, "onnxruntime-present", f"the service depends on {name} already")
    if "alpine" in (context.base_image or ""):
        return Skip(place, "no-wheel", "onnxruntime has no wheel for Alpine Linux")
    model = dumped_model(context, load.facts.path)
    if isinstance(model, tuple):
        return Skip(place, *model)
    loaded = f"{load.facts.path}:{_line(load)}"
    message = (
        f"ask ONNX Runtime for single rows: the {model.kind} that {model.place.path}:"
        f"{model.place.line} writes is loaded at {loaded} and predicts here"
    )
    if model.boosted:
        return Fix(place, f"{message}; its converter is in onnxmltools")
    script = posixpath.join(posixpath.dirname(model.place.path), SCRIPT)
    if script in context.files:
        return Skip(place, "converter-present", f"{script} is there already")
    return Fix(
        place,
        f"{message}; {script} converts it and compares the predictions",
        partial(_script, script, model, load),
        requires=("skl2onnx", "onnxruntime"),
        beside="scikit-learn",
    )


def _line(load: Origin) -> int:
    return next(
        (
            call.line
            for call in load.facts.calls
            if call.value == load.value and call.scope == load.scope
        ),
        1,
    )


def _script(path: str, model: Dumped, load: Origin) -> Edits:
    from mega_optimizer.codemods.cache.rendered import rendered

    content = rendered(
        "ml/convert_to_onnx.py.j2",
        kind=model.kind,
        source=posixpath.basename(model.place.path),
        script=posixpath.basename(path),
        library=(load.value.name or "").partition(".")[0],
    )
    return (Edit(path, 0, 0, content.encode()),)
