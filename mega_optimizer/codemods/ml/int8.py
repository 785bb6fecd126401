"""Tell where a transformer in float32 on a CPU could have linear layers of 8 bits.

``torch.ao.quantization.quantize_dynamic`` replaces ``torch.nn.Linear`` in float32. Tried with torch
2.13: GPT-2 of transformers has none (its layers are ``Conv1D``), and nothing of it is replaced; a
model in bfloat16 is replaced and fails when it runs.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.ml.device import device_of
from mega_optimizer.codemods.ml.dtype import could_be_half
from mega_optimizer.codemods.ml.number_format import hides_keywords, weight_loads
from mega_optimizer.codemods.ml.placement import placement
from mega_optimizer.codemods.versions import is_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.codemods.ml.number_format import Load

_SERVES = ("fastapi", "starlette", "flask", "django", "celery")
_QUANTIZED = ("quantization_config", "load_in_8bit", "load_in_4bit", "gguf_file")
_QUANTIZERS = ("quantize_dynamic", "quantize_", "torchao", "ORTQuantizer")
_TRAINS = ("Trainer", "TrainingArguments", "SFTTrainer", "backward", "get_peft_model")
_CONVOLUTIONS = ("GPT2", "ResNet", "ConvNext", "MobileNet", "EfficientNet", "RegNet")
_FLOAT32 = ("torch.float32", "torch.float", "'float32'")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix without edits for each such model, and why others are left alone."""
    service = context.service
    if not any(service.trait(each) for each in _SERVES) or device_of(context).kind != "cpu":
        return
    for load in weight_loads(context, b"from_pretrained"):
        if isinstance(load, Skip):
            yield load
        elif load.library == "transformers" and (load.fact.name or "").endswith(".from_pretrained"):
            yield _outcome(context, load)


def _outcome(context: Context, load: Load) -> Outcome:
    if placement(context, load) not in (None, "cpu"):
        return Skip(load.place, "not-on-cpu", "it may be put on another device")
    if hides_keywords(load.call):
        return Skip(load.place, "keywords-hidden", "what ** brings may quantize it")
    if load.given(*_QUANTIZED) is not None:
        return Skip(load.place, "quantized", "it is loaded quantized")
    own = next((word for word in _QUANTIZERS if context.program.with_word(word)), None)
    if own is not None:
        return Skip(load.place, "quantized", f"the service quantizes with {own} already")
    given = load.given("dtype", "torch_dtype")
    if given is not None and ast.unparse(given.value) not in _FLOAT32:
        return Skip(load.place, "not-float32", "only layers in float32 are replaced")
    if given is None and could_be_half(load) and not is_version(context, "transformers", "<5"):
        reason = "transformers 5 loads the checkpoint's format, which may be half precision"
        return Skip(load.place, "not-float32", reason)
    trains = next((word for word in _TRAINS if load.path in context.program.with_word(word)), None)
    if trains is not None:
        return Skip(load.place, "trained-here", f"the module trains: {trains}")
    if _is_without_linear_layers(load):
        return Skip(load.place, "no-linear-layers", "it computes with convolutions")
    message = (
        "try torch.ao.quantization.quantize_dynamic on its linear layers, and compare the answers: "
        f"{device_of(context).why}"
    )
    return Fix(load.place, message)


def _is_without_linear_layers(load: Load) -> bool:
    names = [load.owner]
    first = load.call.args[0] if load.call.args else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        names.append(first.value)
    return any(
        word.lower() in name.lower().replace("-", "") for word in _CONVOLUTIONS for name in names
    )
