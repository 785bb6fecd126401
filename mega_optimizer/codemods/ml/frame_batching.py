"""Call a model with chunks of frames where a loop calls it with one frame after the other.

``for i in range(n): out = model(x[i : i + 1], ...)`` becomes a loop over chunks, and within it one
over the single results, which have the shape that they had.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.ml.framewise import framewise_model
from mega_optimizer.codemods.ml.steady import dotted
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts

SLICED = rb"for\s+(\w+)\s+in\s+range\([^\n]*:[^\n]*(?:\n[^\n]*){0,3}\[\s*\1\s*:\s*\1\s*\+\s*1\s*\]"
NAME = "FRAMES_AT_ONCE"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
JUMPS = (ast.Break, ast.Return, ast.Yield, ast.YieldFrom, ast.Await)


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that begins with ``result = model(frames[index : index + 1], ...)``.

    ``context`` is the statement around that one which turns gradients off, where there is one.
    """

    statement: ast.For
    index: str
    count: ast.expr
    result: str
    call: ast.Call
    frames: ast.Subscript
    context: ast.With | None


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each loop over frames, and why others stay as they are."""
    program = context.program
    for path in program.containing(SLICED, program.product, b"range("):
        facts, content = context.python(path), context.read(path)
        source = read_source(path, content) if isinstance(content, bytes) else content
        if isinstance(facts, Problem) or isinstance(source, Problem):
            continue  # a module that cannot be read is reported by the rules of its framework
        for node in ast.walk(source.tree):
            loop = _loop(node) if isinstance(node, ast.For) else None
            if loop is not None:
                yield _outcome(context, facts, source, loop)


def _loop(node: ast.For) -> Loop | None:
    if not isinstance(node.target, ast.Name) or not isinstance(node.iter, ast.Call):
        return None
    if dotted(node.iter.func) != "range" or len(node.iter.args) != 1 or node.iter.keywords:
        return None
    first: ast.stmt = node.body[0]
    context = first if isinstance(first, ast.With) and _turns_gradients_off(first) else None
    if context is not None and len(context.body) == 1:
        first = context.body[0]
    if not isinstance(first, ast.Assign) or len(first.targets) != 1:
        return None
    target, call = first.targets[0], first.value
    if not isinstance(target, ast.Name) or not isinstance(call, ast.Call) or not call.args:
        return None
    index, frames = node.target.id, call.args[0]
    if not isinstance(frames, ast.Subscript) or not isinstance(frames.slice, ast.Slice):
        return None
    if ast.unparse(frames.slice) != f"{index}:{index} + 1" or dotted(frames.value) is None:
        return None
    return Loop(node, index, node.iter.args[0], target.id, call, frames, context)


def _turns_gradients_off(statement: ast.With) -> bool:
    """Whether a with statement enters ``torch.no_grad()`` or ``torch.inference_mode()``."""
    entered = [each.context_expr for each in statement.items]
    return all(
        isinstance(each, ast.Call)
        and not (each.args or each.keywords)
        and (dotted(each.func) or "").rpartition(".")[2] in ("no_grad", "inference_mode")
        for each in entered
    )


def _outcome(context: Context, facts: PythonFacts, source: Source, loop: Loop) -> Outcome:
    place = Place(facts.path, loop.call.lineno, loop.call.col_offset + 1)
    shape = _shape_objection(source, loop)
    if shape is not None:
        return Skip(place, "shape-not-known", shape)
    dependent = _dependent(loop)
    if dependent is not None:
        reason = f"{dependent} changes from frame to frame"
        return Skip(place, "frames-depend", reason)
    model = framewise_model(context.program, facts, source, loop.call)
    if model is not None:
        return Skip(place, *model)
    if NAME in facts.bound_names and facts.assigned(NAME) is None:
        return Skip(place, "name-taken", f"{NAME} means something else here")
    size = int(context.parameters["frames"])
    edits = partial(_edits, facts, source, loop, size, place)
    return Fix(place, f"give the model {size} frames at once", edits)


def _shape_objection(source: Source, loop: Loop) -> str | None:
    statement = loop.statement
    if statement.orelse:
        return "the loop has an else"
    if len(statement.body) < 2 or any(source.own_lines(each) is None for each in statement.body):
        return "statements of the loop share a line"
    start, end = source.range(statement.iter)[1], source.own_lines(statement.body[0]) or (0, 0)
    if b"#" in source.content[start : end[1]]:
        return "a comment stands on the lines that change"
    for outer in source.around(statement):
        if isinstance(outer, FUNCTIONS):
            break
        if isinstance(outer, ast.For | ast.While | ast.Module | ast.ClassDef):
            return "the loop stands in another, or in no function"
    outermost = [each for each in source.around(statement) if each is not source.tree][-1]
    if not isinstance(outermost, (*FUNCTIONS, ast.ClassDef)):
        return "its function is defined conditionally"
    nodes = [each for one in statement.body for each in ast.walk(one)]
    if any(isinstance(each, JUMPS) for each in nodes):
        return "the loop may end early, or waits"
    around = next(each for each in source.around(statement) if isinstance(each, FUNCTIONS))
    uses = [e for e in ast.walk(around) if isinstance(e, ast.Name) and e.id == loop.index]
    if len(uses) != 3:
        return f"{loop.index} is used for more than the frame"
    long = (each for each in nodes if isinstance(each, ast.Constant | ast.JoinedStr))
    if any(each.lineno != each.end_lineno for each in long):
        return "a string in the loop has several lines"
    return None


def _dependent(loop: Loop) -> str | None:
    """Return what a frame leaves for the next one and the model is given."""
    stored = {
        each.id
        for one in loop.statement.body
        for each in ast.walk(one)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    changed = {
        (dotted(each.value) or "").partition(".")[0]
        for one in loop.statement.body
        for each in ast.walk(one)
        if isinstance(each, ast.Subscript | ast.Attribute) and isinstance(each.ctx, ast.Store)
    }
    given = [*loop.call.args, *(each.value for each in loop.call.keywords), loop.call.func]
    named = [each.id for one in given for each in ast.walk(one) if isinstance(each, ast.Name)]
    if any(isinstance(each, ast.Call) for one in given for each in ast.walk(one)):
        return "what a call gives"
    if isinstance(loop.count, ast.Call) and dotted(loop.count.func) != "len":
        return "what a call gives"
    named += [each.id for each in ast.walk(loop.count) if isinstance(each, ast.Name)]
    return next((each for each in named if each in stored | changed), None)


def _edits(facts: PythonFacts, source: Source, loop: Loop, size: int, place: Place) -> Edits | Skip:
    path, statement = facts.path, loop.statement
    newline = b"\r\n" if b"\r\n" in source.content else b"\n"
    start, _ = source.range(statement)
    body, last = source.own_lines(statement.body[0]), source.own_lines(statement.body[-1])
    if body is None or last is None:
        return Skip(place, "shape-not-known", "statements of the loop share a line")
    blank = re.match(rb"(?:[ \t]*\r?\n)*", source.content[body[1] :])
    behind = body[1] + (blank.end() if blank else 0)
    margin = re.search(rb"[ \t]*$", source.content[:start])
    indent = (margin[0] if margin else b"").decode()
    step = "\t" if "\t" in indent else "    "
    around = next(each for each in source.around(statement) if isinstance(each, FUNCTIONS))
    names = {each.id for each in ast.walk(around) if isinstance(each, ast.Name)}
    first, last_one = ("first_frame", "end_frame") if {"start", "end"} & names else ("start", "end")
    count = _text(source, loop.count)
    low, high = _slice(source, loop)
    call_start, call_end = source.range(loop.call)
    text = source.content
    call = text[call_start:low] + f"{first}:{last_one}".encode() + text[high:call_end]
    lines = [
        f"for {first} in range(0, {count}, {NAME}):",
        f"{indent}{step}{last_one} = min({first} + {NAME}, {count})",
    ]
    results = call.decode()
    if loop.context is not None:
        results = "frames_done" if "chunk" in names else "chunk"
        entered = text[source.range(loop.context)[0] : source.range(loop.context.body[0])[0]]
        opening = entered.decode().rstrip()
        lines += [f"{indent}{step}{opening}", f"{indent}{step * 2}{results} = {call.decode()}"]
    lines += [f"{indent}{step}for {loop.result} in {results}.split(1):", ""]
    header = "\n".join(lines).encode().replace(b"\n", newline)
    edits = [Edit(path, start, behind, header)]
    offset = behind
    for line in text[behind : last[1]].splitlines(keepends=True):
        if line.strip():
            edits.append(Edit(path, offset, offset, step.encode()))
        offset += len(line)
    merged = edits[1] if len(edits) > 1 and edits[1].start == behind else None
    if merged is not None:
        edits[:2] = [Edit(path, start, behind, edits[0].replacement + merged.replacement)]
    if NAME not in facts.bound_names:
        above = _above(source, statement)
        constant = f"{NAME} = {size}  # as many as memory allows\n\n\n".encode()
        edits.append(Edit(path, above, above, constant.replace(b"\n", newline)))
    return tuple(edits)


def _slice(source: Source, loop: Loop) -> tuple[int, int]:
    """Return the bytes between the brackets of ``frames[index : index + 1]``."""
    low = source.range(loop.frames.value)[1]
    high = source.range(loop.frames)[1]
    opening = source.content.index(b"[", low)
    return opening + 1, high - 1


def _text(source: Source, node: ast.expr) -> str:
    start, end = source.range(node)
    return source.content[start:end].decode()


def _above(source: Source, statement: ast.stmt) -> int:
    """Return where the top-level definition around a statement begins, with its comments."""
    found: ast.AST = statement
    while source.parents[found] is not source.tree:
        found = source.parents[found]
    assert isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    lines = source.content.splitlines(keepends=True)
    line = min([found.lineno, *(each.lineno for each in found.decorator_list)]) - 1
    while line and lines[line - 1].startswith(b"#"):
        line -= 1
    return sum(map(len, lines[:line]))
