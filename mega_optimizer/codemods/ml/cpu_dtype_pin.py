"""Keep models on a CPU in float32 where transformers 5 would load the format of the checkpoint.

Since 5.0 the default of ``from_pretrained`` is ``dtype="auto"`` (before, float32), and models that
generate are mostly published in float16. CPUs compute that several times slower.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Outcome, Skip
from mega_optimizer.codemods.ml.device import device_of
from mega_optimizer.codemods.ml.dtype import could_be_half, with_format
from mega_optimizer.codemods.ml.number_format import NEW, hides_keywords, weight_loads
from mega_optimizer.codemods.ml.placement import placement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context

_FLOAT32 = "torch.float32"


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each model that generates on a CPU in whatever format it was stored."""
    for load in weight_loads(context, b"from_pretrained"):
        if isinstance(load, Skip):
            yield load
            continue
        if load.library != "transformers" or not could_be_half(load):
            continue
        where = placement(context, load)
        device = device_of(context)
        if where != "cpu" and not (where is None and device.kind == "cpu"):
            continue
        if hides_keywords(load.call):
            yield Skip(load.place, "keywords-hidden", "what ** brings may name a format")
            continue
        facts = context.program.facts(load.path)
        if facts is None or facts.bindings.get("torch") != "torch":
            yield Skip(
                load.place, "torch-not-imported", "the module does not import torch at its top"
            )
            continue
        why = "it is put on the CPU" if where == "cpu" else device.why
        message = f"Load float32, and not the checkpoint's format: {why}"
        yield Fix(load.place, message, partial(with_format, context, load, NEW, _FLOAT32))
