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
from mega_optimizer.codemods.ml.single_rows import (
    LOADS,
    is_one_row,
    is_per_request,
    predictions,
)
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.ml.dumped_models import Dumped
    from mega_optimizer.codemods.ml.origins import Origin

SCRIPT = "convert_to_onnx.py"
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for the first prediction of a service, or why it stays with scikit-learn."""
    if not any(context.modules(*(name.partition(".")[0].encode() for name in LOADS))):
        return
    batched: Outcome | None = None
    for facts, call, held in predictions(context, context.program.product):
        if not held or any(each.value.name not in LOADS for each in held):
            continue
        if not is_per_request(context, facts, call):
            continue
        place = Place(facts.path, call.line, call.column)
        if not is_one_row(facts, call):
            reason = "how many rows it predicts at a time cannot be seen, and many gain little"
            batched = batched or Skip(place, "rows-not-single", reason)
            continue
        yield _outcome(context, place, held[0])
        return
    if batched is not None:
        yield batched


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
