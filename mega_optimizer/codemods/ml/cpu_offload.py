"""Keep one model of a diffusers pipeline on the GPU at a time.

Two services may win: one that moves layer by layer, and one that keeps everything on the GPU and
says itself that memory runs out there
(https://huggingface.co/docs/diffusers/optimization/memory#offloading).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.ml.device import apple_evidence
from mega_optimizer.codemods.ml.number_format import Load, weight_loads
from mega_optimizer.codemods.ml.pipelines import condition_around, pipeline_calls
from mega_optimizer.codemods.ml.placement import held_in, moves, placement, uses_of
from mega_optimizer.codemods.serving.hazards import reached_modules
from mega_optimizer.codemods.source import Source, read_source
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome

MODELS = "enable_model_cpu_offload"
LAYERS = "enable_sequential_cpu_offload"
_OFFLOADING = (MODELS, LAYERS, "enable_group_offload")
_SHARES = rb"\.components\b|\.from_pipe\("


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each pipeline that could move models, or why it is left alone."""
    for found in pipeline_calls(context, LAYERS):
        yield found if isinstance(found, Skip) else _instead_of_layers(context, *found)
    caught = _runs_out(context)
    if caught is None:
        return
    for load in weight_loads(context, b"from_pretrained", b"from_single_file"):
        if isinstance(load, Skip):
            yield load
        elif load.is_pipeline_of_diffusers:
            yield _instead_of_all(context, load, caught)


def _instead_of_layers(
    context: Context, path: str, source: Source, call: ast.Call, function: ast.Attribute
) -> Outcome:
    place = Place(path, call.lineno, call.col_offset + 1)
    objection = _objection(context, path)
    if objection is not None:
        return Skip(place, *objection)
    if condition_around(source, call) is not None:
        return Skip(place, "chosen", "a condition decides what is moved")
    statement = source.parents[call]
    if not isinstance(statement, ast.Expr):
        return Skip(place, "shape-not-known", "the call is a part of another expression")
    message = "move whole models, not each layer in each step, if the largest fits on the GPU"
    before = _statement_before(source, statement)
    if before is not None and ast.unparse(before) == f"{ast.unparse(function.value)}.{MODELS}()":
        lines = source.own_lines(statement)
        if lines is None:
            return Skip(place, "shape-not-known", "shares its line with another statement")
        message = f"{message}: the line above asks for that, and this one undoes it"
        return Fix(place, message, (Edit(path, *lines, b""),))
    end = source.range(function)[1]
    return Fix(place, message, (Edit(path, end - len(LAYERS), end, MODELS.encode()),))


def _statement_before(source: Source, statement: ast.stmt) -> ast.stmt | None:
    body = getattr(source.parents[statement], "body", [])
    at = body.index(statement) if statement in body else 0
    return body[at - 1] if at else None


def _instead_of_all(context: Context, load: Load, caught: Place) -> Outcome:
    objection = _objection(context, load.path)
    if objection is not None:
        return Skip(load.place, *objection)
    if placement(context, load) != "cuda":
        return Skip(load.place, "device-unknown", "the pipeline is not seen to move to the GPU")
    variable = held_in(load)
    found = list(moves(load))
    if variable is None or len(found) != 1 or _is_offloading(found[0]):
        return Skip(load.place, "offloading", "what is moved, and when, is decided already")
    if any(each.attr == "device" for each in uses_of(load, variable)):
        reason = f"{variable}.device is read, which would be the CPU between calls"
        return Skip(load.place, "device-read", reason)
    edits = _edits(load, variable, found[0])
    if edits is None:
        return Skip(load.place, "shape-not-known", "the pipeline is not moved in a plain statement")
    message = (
        "keep one model on the GPU at a time: memory runs out "
        f"({caught} catches that). Each call then takes longer"
    )
    return Fix(load.place, message, edits, requires=("accelerate>=0.17",), beside="diffusers")


def _is_offloading(move: ast.Call) -> bool:
    return isinstance(move.func, ast.Attribute) and move.func.attr in _OFFLOADING


def _edits(load: Load, variable: str, move: ast.Call) -> Edits | None:
    """Return the edits that offload instead of ``move``, which is a statement or ends one."""
    source, path = load.source, load.path
    statement = next(each for each in source.around(move) if isinstance(each, ast.stmt))
    lines = source.own_lines(statement)
    if lines is None or not isinstance(move.func, ast.Attribute):
        return None
    offloads = f"{variable}.{MODELS}()"
    start, end = source.range(statement)
    kept = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == variable
    alone = ast.unparse(move.func.value) == variable and source.parents[move] is statement
    if alone and (kept or isinstance(statement, ast.Expr)):
        return (Edit(path, start, end, offloads.encode()),)
    if not kept or source.parents[move] is not statement:
        return None
    content = source.content
    newline = b"\r\n" if b"\r\n" in content else b"\n"
    dropped = Edit(path, source.range(move.func.value)[1], source.range(move)[1], b"")
    added = content[lines[0] : start] + offloads.encode() + newline
    at = lines[1]
    if not content[:at].endswith(b"\n"):
        added = newline + added
    return dropped, Edit(path, at, at, added)


def _objection(context: Context, path: str) -> tuple[str, str] | None:
    apple = apple_evidence(context)
    if apple is not None:
        return "mps", f"{apple} runs on Apple's GPUs too, which share their memory with the CPU"
    shared = next(context.program.containing(_SHARES, (path,), b"components", b"from_pipe"), None)
    if shared is not None:
        return "models-shared", f"pipelines of {shared} share their models, and would move them"
    return None


def _runs_out(context: Context) -> Place | None:
    """Return where the application catches that GPU memory runs out."""
    found = set(context.modules(b"OutOfMemoryError"))
    for path in reached_modules(context, context.program) if found else ():
        content = context.read(path) if path in found else None
        source = read_source(path, content) if isinstance(content, bytes) else None
        for node in ast.walk(source.tree) if isinstance(source, Source) else ():
            caught = node.type if isinstance(node, ast.ExceptHandler) else None
            if caught is not None and "OutOfMemoryError" in ast.unparse(caught):
                return Place(path, caught.lineno)
    return None
