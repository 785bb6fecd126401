"""Do not slice the attention of diffusers pipelines where PyTorch computes it in one go.

Slicing was made for the attention that diffusers wrote out itself. With PyTorch 2 it uses
``scaled_dot_product_attention``, which never makes the large matrix; slicing then only replaces it
by the slow code (https://huggingface.co/docs/diffusers/optimization/memory#attention-slicing).
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.ml.device import apple_evidence
from mega_optimizer.codemods.ml.pipelines import condition_around, pipeline_calls
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.codemods.source import Source

METHOD = "enable_attention_slicing"
_OWN_ATTENTION = "set_attn_processor"
_ABOUT_MEMORY = re.compile(rb"slic|memory|vram|\bram\b|\bgpu\b|\bmem\b|\bGB\b", re.IGNORECASE)


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each call that slices the attention whatever happens."""
    obstacle: tuple[str, str] | None = None
    if any(context.modules(METHOD.encode())):
        obstacle = _obstacle(context)
    for found in pipeline_calls(context, METHOD):
        if isinstance(found, Skip):
            yield found
            continue
        path, source, call, _ = found
        place = Place(path, call.lineno, call.col_offset + 1)
        if obstacle is not None:
            yield Skip(place, *obstacle)
            continue
        yield _outcome(path, source, call, place)


def _obstacle(context: Context) -> tuple[str, str] | None:
    program = context.program
    path = apple_evidence(context)
    if path is not None:
        return "mps", f"{path} runs on Apple's GPUs too, where slicing helps"
    for path in context.modules(_OWN_ATTENTION.encode()):
        facts = program.facts(path)
        if facts and any(call.text.endswith(f".{_OWN_ATTENTION}") for call in facts.calls):
            return "own-attention", f"{path} chooses how attention is computed"
    return None


def _outcome(path: str, source: Source, call: ast.Call, place: Place) -> Outcome:
    if condition_around(source, call) is not None:
        return Skip(place, "chosen", "a condition decides whether to slice")
    statement = source.parents[call]
    if not isinstance(statement, ast.Expr):
        return Skip(place, "shape-not-known", "the call is a part of another expression")
    lines = source.own_lines(statement)
    if lines is None:
        return Skip(place, "shape-not-known", "shares its line with another statement")
    outer = source.parents[statement]
    body = next(
        each
        for name in ("body", "orelse", "finalbody", "handlers")
        if isinstance(each := getattr(outer, name, None), list) and statement in each
    )
    if all(_slices(each) for each in body):
        return Skip(place, "shape-not-known", "nothing else stands in its block")
    start, end = lines
    start = _with_its_comment(source, start, end, is_last=body[-1] is statement)
    message = "PyTorch 2 computes attention without the large matrix: slicing only slows it down"
    return Fix(place, message, (Edit(path, start, end, b""),))


def _slices(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Expr) else None
    function = call.func if isinstance(call, ast.Call) else None
    return isinstance(function, ast.Attribute) and function.attr == METHOD


def _with_its_comment(source: Source, start: int, end: int, is_last: bool) -> int:
    """Return where the comment above begins that would speak of nothing without the statement."""
    following = source.content[end:].split(b"\n", 1)[0]
    if following.strip() and not is_last:
        return start
    lines = source.content[:start].splitlines(keepends=True)
    first, text = start, b""
    while lines and lines[-1].lstrip().startswith(b"#"):
        text = lines.pop() + text
        first -= len(text.splitlines(keepends=True)[0])
    return first if _ABOUT_MEMORY.search(text) else start
