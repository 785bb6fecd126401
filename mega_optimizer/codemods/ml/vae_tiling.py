"""Decode large images of diffusers pipelines tile by tile.

The memory that an autoencoder needs grows with the image; ``enable_tiling`` bounds it to that of
one tile, and blends the seams (https://huggingface.co/docs/diffusers/optimization/memory#vae-tiling).
It tiles only what is larger than the images that the autoencoder was trained on (``_decode`` of
``AutoencoderKL``): 512 pixels a side for Stable Diffusion 1 and 2, 1024 for its successors.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.codemods.ml.number_format import Load, weight_loads
from mega_optimizer.codemods.ml.placement import held_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.source import Source

SIDE = 1024  # pixels from which memory matters
_SIDES = ("width", "height")
_MADE_FOR_512 = ("StableDiffusion", "LatentConsistency")
_MADE_FOR_1024 = ("StableDiffusionXL", "StableDiffusion3", "Flux", "QwenImage", "Chroma")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_TILES = (b"enable_tiling", b"enable_vae_tiling", b"disable_tiling", b"disable_vae_tiling")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each pipeline that draws images larger than its autoencoder's tiles."""
    for load in weight_loads(context, b"from_pretrained", b"from_single_file"):
        if isinstance(load, Skip):
            yield load
            continue
        if not load.is_pipeline_of_diffusers:
            continue
        drawn = _largest(load)
        if drawn is None or drawn[0] < SIDE:
            continue
        size, line = drawn
        trained = _trained_on(load.owner)
        if trained is not None and size <= trained:
            continue
        objection = _objection(context, load, trained)
        if objection is not None:
            yield Skip(load.place, *objection)
            continue
        yield _fix(load, size, line)


def _trained_on(owner: str) -> int | None:
    """Return the side in pixels of the images that a family's autoencoder was trained on."""
    if owner.startswith(_MADE_FOR_1024):
        return 1024
    return 512 if owner.startswith(_MADE_FOR_512) else None


def _largest(load: Load) -> tuple[int, int] | None:
    """Return the largest side of an image that the pipeline is asked for, and the line."""
    found = []
    for call in load.source.calls():
        sides = [each for each in call.keywords if each.arg in _SIDES]
        if not sides or not _runs(load, call):
            continue
        for each in sides:
            size = _number(load.source, call, each.value)
            if size is not None:
                found.append((size, call.lineno))
    return max(found, default=None)


def _runs(load: Load, call: ast.Call) -> bool:
    """Whether ``call`` runs the pipeline: through its variable, or through what its loader gave."""
    variable, text = held_in(load), ast.unparse(call.func)
    loader = _around(load.source, load.call, *_FUNCTIONS)
    user = _around(load.source, call, *_FUNCTIONS)
    if variable is not None and variable.startswith("self."):
        same = _around(load.source, load.call, ast.ClassDef)
        return text == variable and _around(load.source, call, ast.ClassDef) is same
    if loader is user or loader is None:
        return text == variable
    return user is not None and any(
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == getattr(loader, "name", "")
        and [ast.unparse(each) for each in node.targets] == [text]
        for node in ast.walk(user)
    )


def _around(source: Source, node: ast.AST, *kinds: type[ast.AST]) -> ast.AST | None:
    return next((each for each in source.around(node) if isinstance(each, kinds)), None)


def _number(source: Source, call: ast.Call, value: ast.expr) -> int | None:
    """Return the number that an expression is, or its name's default or constant."""
    if not isinstance(value, ast.Name):
        return _whole(value)
    function = _around(source, call, *_FUNCTIONS)
    if isinstance(function, _FUNCTIONS):
        given = function.args
        named = [*given.posonlyargs, *given.args]
        defaults: list[tuple[ast.arg, ast.expr | None]] = [
            *zip(reversed(named), reversed(given.defaults), strict=False),
            *zip(given.kwonlyargs, given.kw_defaults, strict=True),
        ]
        for argument, default in defaults:
            if argument.arg == value.id:
                return _whole(default)
    values = [
        node.value
        for node in source.tree.body
        if isinstance(node, ast.Assign)
        and [ast.unparse(each) for each in node.targets] == [value.id]
    ]
    return _whole(values[0]) if len(values) == 1 else None


def _whole(node: ast.expr | None) -> int | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _objection(context: Context, load: Load, trained: int | None) -> tuple[str, str] | None:
    program = context.program
    tiling = next((each for each in program.product if _mentions_tiling(context, each)), None)
    if tiling is not None:
        return "tiling-chosen", f"{tiling} says what is tiled"
    if trained is None:
        return "family-unknown", "how large the tiles of its autoencoder are, the name does not say"
    if load.given("vae") is not None:
        return "own-autoencoder", "the autoencoder is loaded elsewhere"
    return None


def _mentions_tiling(context: Context, path: str) -> bool:
    return any(path in context.files.holding(literal) for literal in _TILES)


def _fix(load: Load, size: int, line: int) -> Outcome:
    variable = held_in(load)
    statement = next(each for each in load.source.around(load.call) if isinstance(each, ast.stmt))
    lines = load.source.own_lines(statement)
    if lines is None:
        return Skip(load.place, "shape-not-known", "shares its line with another statement")
    content = load.source.content
    first = content[lines[0] :]
    indent = first[: len(first) - len(first.lstrip(b" \t"))]
    ending = b"\r\n" if b"\r\n" in content else b"\n"
    text = indent + f"{variable}.vae.enable_tiling()".encode()
    at = lines[1]
    added = text + ending if content[:at].endswith(b"\n") else ending + text
    message = f"Decode tile by tile: line {line} draws {size} pixels a side"
    return Fix(load.place, message, (Edit(load.path, at, at, added),))
