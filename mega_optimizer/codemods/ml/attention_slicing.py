"""Slice the attention of diffusers pipelines where nothing computes it in one go.

Without ``scaled_dot_product_attention`` (PyTorch 1), diffusers writes the attention out and holds
the whole matrix; on Apple's GPUs the documentation recommends slices for less than 64 GB of memory
(https://huggingface.co/docs/diffusers/optimization/mps). With PyTorch 2, slices are two to three
times slower on CUDA and on the CPU: ``ml/drop-attention-slicing`` is the rule for those.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.ml.number_format import Load, weight_loads
from mega_optimizer.codemods.ml.placement import held_in, moves, placement
from mega_optimizer.codemods.versions import is_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome

_METHOD = "enable_attention_slicing"
# Slicing is a method of their UNet. Transformers (Flux, Stable Diffusion 3) have none.
_WITH_A_UNET = re.compile(r"StableDiffusion(?!3)|AltDiffusion")
_ATTENTION = (
    rb"attention_slicing|set_attention_slice|set_attn_processor|set_default_attn_processor"
    rb"|xformers|AttnProcessor|attention_backend"
)
_ATTENTION_WORDS = (
    b"attention_slicing", b"set_attention_slice", b"attn_processor", b"xformers",
    b"AttnProcessor", b"attention_backend",
)  # fmt: skip


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each pipeline of a UNet on MPS, or on a GPU with PyTorch 1."""
    for load in weight_loads(context, b"from_pretrained", b"from_single_file"):
        if isinstance(load, Skip):
            yield load
        elif load.is_pipeline_of_diffusers:
            yield _outcome(context, load)


def _outcome(context: Context, load: Load) -> Outcome:
    if not _WITH_A_UNET.match(load.owner):
        reason = f"{load.owner} is not known to have a UNet, whose attention can be sliced"
        return Skip(load.place, "no-unet", reason)
    home = placement(context, load)
    on_apple = _is_on_apple(load)
    if not on_apple and home != "cuda":
        reason = "the pipeline is not seen to move to Apple's GPU (mps), or always to another"
        return Skip(load.place, "device-unknown", reason)
    if not on_apple and not is_version(context, "torch", "<2"):
        reason = "PyTorch 2 computes attention without the large matrix: slices are slower"
        return Skip(load.place, "attention-in-one-go", reason)
    program = context.program
    path = next(program.containing(_ATTENTION, program.product, *_ATTENTION_WORDS), None)
    if path is not None or "xformers" in context.dependencies:
        reason = f"{path or 'xformers'} chooses how attention is computed"
        return Skip(load.place, "attention-chosen", reason)
    return _fix(load, on_apple=on_apple)


def _is_on_apple(load: Load) -> bool:
    """Whether all that moves the pipeline moves it to ``mps``."""
    found = [each for each in moves(load) if not _is_number_format(each)]
    return bool(found) and all(_names_apple(load, each) for each in found)


def _is_number_format(move: ast.Call) -> bool:
    return bool(move.args) and ast.unparse(move.args[0]).startswith(("torch.float", "torch.bfloat"))


def _names_apple(load: Load, move: ast.Call) -> bool:
    values = [*move.args[:1], *(each.value for each in move.keywords if each.arg == "device")]
    if len(values) != 1 or not isinstance(move.func, ast.Attribute) or move.func.attr != "to":
        return False
    value = values[0]
    if isinstance(value, ast.Name):
        return _is_apple(_only_value(load.source.tree, value.id))
    return _is_apple(value)


def _is_apple(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "torch.device" and value.args:
        value = value.args[0]
    return isinstance(value, ast.Constant) and value.value in ("mps", "mps:0")


def _only_value(tree: ast.Module, name: str) -> ast.expr | None:
    """Return what a variable holds that a module assigns once, and that is no parameter."""
    stores = [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store))
        or (isinstance(node, ast.arg) and node.arg == name)
    ]
    values = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and node.targets[0] in stores
    ]
    return values[0] if len(stores) == len(values) == 1 else None


def _fix(load: Load, *, on_apple: bool) -> Outcome:
    source = load.source
    variable = held_in(load)
    statements = [_statement(load, each) for each in (load.call, *moves(load))]
    last = max(statements, key=lambda each: each.lineno)
    if variable is None:
        return Skip(load.place, "shape-not-known", "no variable holds the pipeline")
    if any(source.parents[each] is not source.parents[last] for each in statements):
        return Skip(load.place, "shape-not-known", "it is loaded and moved in two blocks")
    if not all(_keeps(each, variable) for each in statements):
        return Skip(load.place, "shape-not-known", "another variable holds the moved pipeline")
    lines = source.own_lines(last)
    if lines is None:
        return Skip(load.place, "shape-not-known", "shares its line with another statement")
    start, end = lines
    content = source.content
    indent = content[start : source.range(last)[0]]
    newline = b"\r\n" if b"\r\n" in content else b"\n"
    added = indent + f"{variable}.{_METHOD}()".encode() + newline
    if not content[:end].endswith(b"\n"):
        added = newline + added
    why = "Apple's GPU" if on_apple else "PyTorch 1"
    message = f"slice the attention, whose whole matrix {why} would hold otherwise"
    return Fix(load.place, message, (Edit(load.path, end, end, added),))


def _statement(load: Load, node: ast.AST) -> ast.stmt:
    return next(each for each in load.source.around(node) if isinstance(each, ast.stmt))


def _keeps(statement: ast.stmt, variable: str) -> bool:
    """Whether a statement leaves the pipeline in ``variable``: an assignment to it, or a call."""
    if isinstance(statement, ast.Expr):
        return True
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return False
    return ast.unparse(statement.targets[0]) == variable
