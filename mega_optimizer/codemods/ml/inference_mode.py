"""Run models of PyTorch in inference mode, where nothing is recorded for gradients.

The mode holds for a ``with`` statement. As a decorator it does nothing to an ``async def``: it ends
when the coroutine is made, before its body runs.
"""

from __future__ import annotations

import ast
import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.ml.gradients import Guards, own_gradients
from mega_optimizer.codemods.ml.model_runs import ModelRuns
from mega_optimizer.codemods.ml.tensor_uses import Uses, is_plain, names_of
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.ml.model_runs import Function
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts

_MENTIONS = rb"\b(?:torch|transformers|timm)\b"
_TRAINS = re.compile(
    r"\.backward\(|\.zero_grad\(|optimizer|requires_grad|autograd|enable_grad|\.train\(\)"
    r"|torch\.(?:onnx|export|jit\.trace|fx|compile)|past_key_values|StaticCache"
)
_APART = 5  # assignments between two runs of models that may stand in the same ``with``
_WAITS = (ast.Await, ast.Yield, ast.YieldFrom, ast.AsyncFor, ast.AsyncWith)
_SIMPLE = (ast.Assign, ast.AnnAssign, ast.Return, ast.Expr)


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each function that runs a model, skips where the mode may hurt."""
    program = context.program
    obstacle: tuple[str, str] | None = None
    asked = False
    for path in program.containing(_MENTIONS, program.product, b"torch", b"transformers", b"timm"):
        content, facts = context.read(path), context.python(path)
        if isinstance(facts, Problem) or not isinstance(content, bytes):
            continue  # a module that cannot be read is reported by the rules of its framework
        runs = ModelRuns(program, facts)
        if not runs.may_occur():
            continue
        source = read_source(path, content)
        if isinstance(source, Problem):
            continue
        for function in runs.functions(source):
            if not asked:
                obstacle, asked = own_gradients(program), True
            yield from _outcomes(context, facts, source, runs, function, obstacle)


def _outcomes(
    context: Context,
    facts: PythonFacts,
    source: Source,
    runs: ModelRuns,
    function: Function,
    obstacle: tuple[str, str] | None,
) -> Iterator[Outcome]:
    """Yield what is to be said of a function in which a model runs."""
    guards = Guards(source, runs.resolve)
    bare = [call for call in function.calls if guards.around(call) is None]
    switched = guards.without_gradients(function.calls)
    if not bare and not switched:
        return
    first: ast.AST = bare[0] if bare else switched[0]
    place = Place(facts.path, getattr(first, "lineno", 1), getattr(first, "col_offset", 0) + 1)
    if obstacle is not None:
        yield Skip(place, *obstacle)
        return
    start, end = source.range(function.node)
    text = source.content[start:end].decode()
    training = _TRAINS.search(text)
    if training is not None:
        yield Skip(place, "needs-gradients", f"{function.scope} has {training[0].strip('.(')}")
        return
    statements = [_statement(source, call) for call in bare]
    if any(each is None for each in statements):
        yield Skip(place, "shape-not-known", "the model runs in a condition or in another function")
        return
    wrapped = _spans(source, [each for each in dict.fromkeys(statements) if each is not None])
    regions = [each for span in (*wrapped, *(block.body for block in switched)) for each in span]
    if any(isinstance(x, _WAITS) for each in regions for x in ast.walk(each)):
        reason = "other coroutines would run in the mode while this one waits"
        yield Skip(place, "waits", reason)
        return
    objection = _objection(source, runs, function, regions)
    if objection is not None:
        yield Skip(place, "output-not-plain", objection)
        return
    edits = partial(_edits, context, facts, source, wrapped, guards.switches(switched))
    yield Fix(place, "run the model in inference mode", edits)


def _statement(source: Source, call: ast.Call) -> ast.stmt | None:
    """Return the simple statement in which ``call`` runs at once, None where there is none."""
    for outer in source.around(call):
        if isinstance(outer, ast.Lambda | ast.GeneratorExp):
            return None
        if isinstance(outer, ast.stmt):
            return outer if isinstance(outer, _SIMPLE) and source.own_lines(outer) else None
    return None


def _objection(
    source: Source, runs: ModelRuns, function: Function, regions: list[ast.stmt]
) -> str | None:
    """Return what becomes of the tensors made in ``regions`` that speaks against the mode."""
    inside = {id(part) for each in regions for part in ast.walk(each)}
    uses = Uses(source, runs.resolve, lambda node: id(node) in inside, runs.is_run)
    names: set[str] = set()
    starts: list[ast.expr] = []
    for part in (part for each in regions for part in ast.walk(each)):
        if isinstance(part, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            if not all(map(is_plain, targets)):
                return f"{ast.unparse(targets[0])} is kept beyond the call"
            makes = part.value is not None and uses.only_calls_make(part.value)
            if isinstance(part, ast.AugAssign) or not makes:
                names |= {name for each in targets for name in names_of(each)}
        if isinstance(part, ast.Call):
            method = part.func.attr if isinstance(part.func, ast.Attribute) else ""
            if method.endswith("_") and not method.startswith("_"):
                return f"{ast.unparse(part.func)} changes something in place"
            # what gets the result of a model is seen where that is followed
            gets = any(each is not part and runs.is_run(each) for each in _calls(part))
            if not uses.is_plain_call(part) and (not gets or uses.makes_tensor(part)):
                starts.append(part)
    declared = {
        name
        for part in ast.walk(function.node)
        if isinstance(part, ast.Global | ast.Nonlocal)
        for name in part.names
    }
    if declared & names:
        return "a variable of the module keeps it"
    return uses.objection(function.node, starts, names)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    yield from (each for each in ast.walk(node) if isinstance(each, ast.Call))


def _edits(
    context: Context,
    facts: PythonFacts,
    source: Source,
    wrapped: list[list[ast.stmt]],
    switches: list[ast.Attribute],
) -> Edits | Skip:
    """Return the edits; each list of ``wrapped`` goes under one ``with``."""
    from mega_optimizer.codemods.ml.torch_import import name_of_torch

    line = min((each[0].lineno for each in wrapped), default=1)
    edits: list[Edit] = []
    for attribute in switches:
        end = source.range(attribute)[1]
        edits.append(Edit(facts.path, end - len(attribute.attr), end, b"inference_mode"))
    if not wrapped:
        return tuple(edits)
    torch = name_of_torch(context, facts, line)
    if isinstance(torch, Skip):
        return torch
    for region in wrapped:
        found = _indented(facts.path, source, region, torch.name)
        if isinstance(found, Skip):
            return found
        edits += found
    return (*edits, *torch.edits)


def _spans(source: Source, statements: list[ast.stmt]) -> list[list[ast.stmt]]:
    """Return ``statements`` with the assignments between them, where only such are between."""
    spans: list[list[ast.stmt]] = []
    for statement in statements:
        between = _between(source, spans[-1][-1], statement) if spans else None
        if between is None:
            spans.append([statement])
        else:
            spans[-1] += [*between, statement]
    return spans


def _between(source: Source, one: ast.stmt, other: ast.stmt) -> list[ast.stmt] | None:
    outer = source.parents[one]
    for field in ("body", "orelse", "finalbody"):
        block = getattr(outer, field, None)
        if isinstance(block, list) and one in block and other in block:
            found = block[block.index(one) + 1 : block.index(other)]
            own = all(isinstance(each, ast.Assign) and source.own_lines(each) for each in found)
            return found if own and len(found) <= _APART else None
    return None


def _indented(path: str, source: Source, region: list[ast.stmt], torch: str) -> list[Edit] | Skip:
    """Return the edits that put the statements of ``region`` under a ``with``."""
    content = source.content
    first, last = source.own_lines(region[0]), source.own_lines(region[-1])
    if first is None or last is None:
        return Skip(Place(path, region[0].lineno), "shape-not-known", "shares its line")
    for part in (x for each in region for x in ast.walk(each)):
        multiline = getattr(part, "end_lineno", 0) != getattr(part, "lineno", 0)
        if isinstance(part, ast.Constant | ast.JoinedStr) and multiline:
            reason = "a string goes over several lines"
            return Skip(Place(path, region[0].lineno), "shape-not-known", reason)
    start = source.range(region[0])[0]
    indent = content[first[0] : start]
    unit = b"\t" if indent.startswith(b"\t") else b"    "
    ending = b"\r\n" if content[first[0] : last[1]].endswith(b"\r\n") else b"\n"
    header = indent + f"with {torch}.inference_mode():".encode() + ending
    edits = [Edit(path, first[0], first[0], header + unit)]
    position = first[0]
    for line in content[first[0] : last[1]].splitlines(keepends=True):
        if position > first[0] and line.strip():
            edits.append(Edit(path, position, position, unit))
        position += len(line)
    return edits
