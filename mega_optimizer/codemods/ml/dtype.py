"""Load models that run on a GPU in half precision, where the code names no format.

diffusers loads float32 whatever the files hold; its guide and the cards of the models name the half
format (https://huggingface.co/docs/diffusers/optimization/fp16). transformers before 5 does the
same; ``"auto"`` is the format of the checkpoint, and the default since 5. float16 for any model, as
is often read, overflows in T5 and other models that were trained in bfloat16.
"""

from __future__ import annotations

import ast
import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Outcome, Skip
from mega_optimizer.codemods.ml.device import device_of
from mega_optimizer.codemods.ml.number_format import (
    NEW,
    OLD,
    Load,
    hides_keywords,
    keyword_now,
    weight_loads,
)
from mega_optimizer.codemods.ml.placement import methods_called, placement
from mega_optimizer.codemods.versions import is_version, version_verdict
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits

# Families by what their cards name. StableDiffusion3 before StableDiffusion.
_BFLOAT16 = (
    "StableDiffusion3", "Flux", "Wan", "HunyuanVideo", "LTX", "CogVideoX", "CogView4", "QwenImage",
    "Sana", "Lumina2", "ZImage", "Chroma", "HiDream", "Mochi", "StableCascade",
)  # fmt: skip
_FLOAT16 = (
    "StableDiffusion", "StableVideoDiffusion", "AnimateDiff", "Kandinsky", "LatentConsistency",
    "PixArt", "StableUnCLIP", "Wuerstchen",
)  # fmt: skip
_ANY_FAMILY = ("DiffusionPipeline", "AutoPipelineFor")
_NAMES_BFLOAT16 = re.compile(r"flux|stable-diffusion-3|sd3|wan2|hunyuan|ltx|cogvideo|qwen|sana")
_NAMES_FLOAT16 = re.compile(r"stable-diffusion|sdxl|sd-turbo|kandinsky|dreamshaper|pixart|lcm")
# Models that generate are published in half precision; classifiers and embedders seldom are.
_GENERATES = re.compile(
    r"LMHeadModel$|For(?:CausalLM|ConditionalGeneration|ImageTextToText|Vision2Seq|Seq2SeqLM)$"
)
_COMPONENTS = re.compile(
    r"^(?:unet|vae|transformer|controlnet|prior|adapter|motion_adapter|image_encoder|safety_checker"
    r"|text_encoder(?:_\d)?)$"
)
_SET_LATER = ("half", "float", "bfloat16", "double")
_USES_PARTS = (
    rb"\.(?:unet|vae|transformer|text_encoder(?:_\d)?)\(|\.vae\.(?:encode|decode)\("
    rb"|\blatents=|_embeds=|\.backward\(\)"
)
_PARTS = (
    b".unet(",
    b".vae",
    b".transformer(",
    b".text_encoder",
    b"latents=",
    b"_embeds=",
    b".backward(",
)


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each model on a GPU that is loaded in float32 for no reason given."""
    for load in weight_loads(context, b"from_pretrained", b"from_single_file"):
        if isinstance(load, Skip):
            yield load
            continue
        if not could_be_half(load) or device_of(context).kind == "cpu":
            continue
        if load.library == "transformers" and is_version(context, load.library, ">=5"):
            continue  # "auto" is the default
        where = placement(context, load)
        if where in (None, "cpu"):
            continue
        objection = _objection(context, load, where)
        half = _half(load)
        keyword = keyword_now(context, load.library)
        if objection is None and isinstance(keyword, tuple):
            objection = keyword
        elif objection is None and load.library == "transformers":
            objection = _too_new(context)
        if objection is not None or half is None or isinstance(keyword, tuple):
            yield Skip(load.place, *(objection or _UNKNOWN_FAMILY))
            continue
        value = half
        if where == "asks":
            value = f"{half} if torch.cuda.is_available() else torch.float32"
        message = f"Half the memory on the GPU: {keyword}={half}, where it is loaded as float32"
        yield Fix(load.place, message, partial(with_format, context, load, keyword, value))


_UNKNOWN_FAMILY = (
    "family-unknown",
    "which half format its models are made for, the name does not say",
)


def _too_new(context: Context) -> tuple[str, str] | None:
    verdict = version_verdict(context, "transformers", "<5")
    return None if verdict.answer == "holds" else ("version-unknown", f"needs <5: {verdict.why}")


def could_be_half(load: Load) -> bool:
    """Whether a load names no format, and is of a kind that gains by one."""
    if load.given(NEW, OLD, "quantization_config", "load_in_8bit", "load_in_4bit") is not None:
        return False
    if load.library == "diffusers":
        return load.is_pipeline_of_diffusers
    return _GENERATES.search(load.owner) is not None


def _half(load: Load) -> str | None:
    if load.library == "transformers":
        return '"auto"'
    if load.owner.startswith(_ANY_FAMILY):
        name = load.call.args[0] if load.call.args else None
        text = str(name.value).lower() if isinstance(name, ast.Constant) else ""
        if _NAMES_BFLOAT16.search(text):
            return "torch.bfloat16"
        return "torch.float16" if _NAMES_FLOAT16.search(text) else None
    if load.owner.startswith(_BFLOAT16):
        return "torch.bfloat16"
    return "torch.float16" if load.owner.startswith(_FLOAT16) else None


def _objection(context: Context, load: Load, where: str | None) -> tuple[str, str] | None:
    if where == "unknown":
        return "device-unknown", "where the model is put, more than one place decides"
    if hides_keywords(load.call):
        return "keywords-hidden", "what ** brings may name a format"
    for each in load.call.keywords:
        given = not (isinstance(each.value, ast.Constant) and each.value.value is None)
        if each.arg is None or (_COMPONENTS.match(each.arg) and given):
            return "components-given", "parts loaded elsewhere bring a format of their own"
    for use in methods_called(load):
        if use.attr in _SET_LATER or _casts(load, use):
            return "format-set-later", f"line {use.lineno} sets the format"
    facts = context.python(load.path)
    if isinstance(facts, Problem) or facts.bindings.get("torch") != "torch":
        return "torch-not-imported", "the module does not import torch at its top"
    program = context.program
    if load.library == "transformers":
        content = load.source.content
        # NumPy has no bfloat16, which the checkpoint may be stored in.
        return ("numpy", "results go to NumPy") if b".numpy(" in content else None
    path = next(program.containing(_USES_PARTS, program.product, *_PARTS), None)
    if path is not None:
        return "parts-used", f"{path} hands tensors to the parts of a pipeline, or trains"
    return None


def _casts(load: Load, use: ast.Attribute) -> bool:
    """Whether ``use`` is a ``.to`` that names a number format."""
    call = load.source.parents.get(use)
    if use.attr != "to" or not isinstance(call, ast.Call):
        return False
    named = [*call.args, *(each.value for each in call.keywords if each.arg in (NEW, OLD))]
    return any(
        re.match(r"torch\.(?:b?float|half|double)", ast.unparse(each)) for each in named
    ) or (len(call.args) > 1 or any(each.arg in (NEW, OLD) for each in call.keywords))


def with_format(context: Context, load: Load, keyword: str, value: str) -> Edits | Skip:
    """Return the edits that give a load the keyword of its format."""
    import libcst as cst

    from mega_optimizer.codemods.python import (
        edits_between,
        replace_calls,
        skipped,
        with_keyword,
    )

    tree = context.tree(load.path)
    if isinstance(tree, Problem):
        return skipped(tree)
    expression = cst.parse_expression(value)
    column = load.fact.column

    def rewritten(node: cst.Call) -> cst.Call:
        return with_keyword(node, keyword, expression, column)

    changed = replace_calls(tree, {load.fact: rewritten})
    if changed is None:
        return Skip(load.place, "shape-not-known", "the call was not found again")
    return edits_between(load.path, tree.bytes, changed)
