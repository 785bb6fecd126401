"""Let pipelines of diffusers before 0.40 have the number format that the code asks for in vain.

``DiffusionPipeline.from_pretrained`` of 0.38 and 0.39 answers ``dtype=`` with "Keyword arguments …
are not expected by … and will be ignored", and loads float32 (tried with both); see
``number_format``.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Outcome, Skip
from mega_optimizer.codemods.keywords import renamed_keyword
from mega_optimizer.codemods.ml.device import device_of
from mega_optimizer.codemods.ml.number_format import NEW, OLD, hides_keywords, weight_loads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context

_HALF = frozenset({"float16", "half"})


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each pipeline that ignores its format."""
    for load in weight_loads(context, NEW.encode()):
        if isinstance(load, Skip):
            yield load
            continue
        given = load.given(NEW)
        if given is None or not load.is_pipeline_of_diffusers:
            continue
        if load.given(OLD) is not None:
            yield Skip(load.place, "both-given", f"the call gives {OLD} too, which counts")
            continue
        if hides_keywords(load.call):
            yield Skip(load.place, "keywords-hidden", f"what ** brings may hold {OLD} too")
            continue
        device = device_of(context)
        if device.kind == "cpu" and _may_be_half(given.value):
            yield Skip(load.place, "half-on-cpu", f"float16 on a CPU is slower: {device.why}")
            continue
        message = f"diffusers before 0.40 ignores {NEW}= here and loads float32: say {OLD}="
        yield Fix(load.place, message, (renamed_keyword(load.path, load.source, given, OLD),))


def _may_be_half(value: ast.expr) -> bool:
    """Whether a format is float16, or one that is not written out."""
    if isinstance(value, ast.IfExp):
        return _may_be_half(value.body) or _may_be_half(value.orelse)
    return not isinstance(value, ast.Attribute) or value.attr in _HALF
