"""Call mixed precision by the names that take the device: ``torch.amp.autocast("cuda")``.

``torch.cuda.amp.autocast(…)`` and ``GradScaler(…)`` are deprecated since PyTorch 2.4 and call the
others with "cuda" (``torch/cuda/amp/autocast_mode.py``, ``grad_scaler.py`` of 2.13; ``torch.amp``
has had ``GradScaler`` since 2.3). They differ where no dtype is given: the old name means float16,
the new one what an autocast around it, or ``torch.set_autocast_dtype``, says.
"""

from __future__ import annotations

import ast
from collections import Counter
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call, PythonFacts

# The names of the positional arguments; those of GradScaler follow the device as they are.
_ARGUMENTS = {"autocast": ("enabled", "dtype", "cache_enabled"), "GradScaler": ()}
_OLD = {
    f"torch.{device}.amp.{module}{name}": (device, name)
    for device in ("cuda", "cpu")
    for name, module in (
        ("autocast", ""),
        ("autocast", "autocast_mode."),
        ("GradScaler", ""),
        ("GradScaler", "grad_scaler."),
    )
}
_SAYS_DTYPE = rb"set_autocast\w*dtype|autocast\([^)\n]*dtype"


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each call by a full name, and one for each import with its calls."""
    for path in context.modules(b"autocast", b"GradScaler"):
        if path not in context.program.product:
            continue
        facts, content = context.python(path), context.read(path)
        if isinstance(facts, Problem) or isinstance(content, Problem):
            continue
        calls = facts.called(*_OLD)
        source = read_source(path, content) if calls else None
        if isinstance(source, Problem):
            yield Skip(Place(path, source.line), source.code, source.message)
        elif source is not None:
            yield from _outcomes(context, facts, source, calls)


def _outcomes(
    context: Context, facts: PythonFacts, source: Source, calls: tuple[Call, ...]
) -> Iterator[Outcome]:
    by_import: dict[ast.ImportFrom, list[Edit]] = {}
    counts: Counter[ast.ImportFrom] = Counter()
    for call in calls:
        place = Place(facts.path, call.line, call.column)
        device, name = _OLD[call.name or ""]
        node = source.call(call)
        edits = _arguments(facts.path, source, node, device, name) if node else None
        objection = _objection(context, call, name)
        if objection is not None or node is None or edits is None:
            yield Skip(place, *(objection or ("shape-not-known", "the arguments have parentheses")))
        elif call.text == call.name:
            start, end = source.range(node.func)
            renamed = Edit(facts.path, start, end, f"torch.amp.{name}".encode())
            yield Fix(place, _message(device, name), (renamed, *edits))
        else:
            statement = _import_of(source, call.text.partition(".")[0], device)
            if statement is None:
                yield Skip(place, "shape-not-known", "its import brings other names along")
                continue
            by_import.setdefault(statement, []).extend(edits)
            counts[statement] += 1
    for statement, edits in by_import.items():
        yield _with_import(facts.path, source, statement, edits, counts[statement])


def _message(device: str, name: str) -> str:
    return f'torch.{device}.amp.{name} is deprecated since PyTorch 2.4: name "{device}" in the call'


def _objection(context: Context, call: Call, name: str) -> tuple[str, str] | None:
    if call.unpacks:
        return "keywords-hidden", "what * brings may come before the device"
    given = len(call.positional) > 1 or call.argument("dtype") is not None
    off = call.argument("enabled") or (call.positional[0] if call.positional else None)
    if name != "autocast" or given or (off is not None and off.constant is False):
        return None
    program = context.program
    path = next(program.containing(_SAYS_DTYPE, program.product, b"autocast"), None)
    if path is None:
        return None
    return "dtype-inherited", f"{path} sets another number format, which the new name would take"


def _arguments(
    path: str, source: Source, node: ast.Call, device: str, name: str
) -> list[Edit] | None:
    """Return the edits that put the device first, and name what stood there."""
    names = _ARGUMENTS[name]
    opened = source.content.index(b"(", source.range(node.func)[1]) + 1
    if not node.args and not node.keywords:
        return [Edit(path, opened, opened, f'"{device}"'.encode())]
    every: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
    first = min(source.range(each)[0] for each in every)
    if source.content[opened:first].strip() or len(node.args) > 3:
        return None
    edits = [Edit(path, first, first, f'"{device}", '.encode())]
    for argument, keyword in zip(node.args, names, strict=False):
        start = source.range(argument)[0]
        if source.content[:start].rstrip().endswith(b"(") and start != first:
            return None
        text = f"{keyword}=".encode()
        if start == first:
            edits = [Edit(path, first, first, edits[0].replacement + text)]
        else:
            edits.append(Edit(path, start, start, text))
    return edits


def _import_of(source: Source, root: str, device: str) -> ast.ImportFrom | None:
    """Return the import that binds ``root`` and nothing but what has moved."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ImportFrom) or node.level:
            continue
        names = {each.name for each in node.names}
        moved = (node.module == f"torch.{device}.amp" and names <= set(_ARGUMENTS)) or (
            node.module == f"torch.{device}" and names == {"amp"}
        )
        if moved and root in _bound(node):
            return node
    return None


def _bound(statement: ast.ImportFrom) -> set[str]:
    return {each.asname or each.name for each in statement.names}


def _with_import(
    path: str, source: Source, statement: ast.ImportFrom, edits: list[Edit], understood: int
) -> Outcome:
    """Return the fix of an import and of all calls of what it brings."""
    place = Place(path, statement.lineno, statement.col_offset + 1)
    names = _bound(statement)
    uses = sum(
        isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
        for node in ast.walk(source.tree)
    )
    if uses != understood:
        reason = f"not every use of {', '.join(sorted(names))} is a call that is understood"
        return Skip(place, "used-otherwise", reason)
    module = statement.module or ""
    start = source.range(statement)[0] + len("from ")
    if not source.content.startswith(module.encode(), start):
        return Skip(place, "shape-not-known", "the import is spaced in a manner of its own")
    device = module.split(".")[1]
    new = Edit(path, start, start + len(module), module.replace(f".{device}", "", 1).encode())
    named = " and ".join(sorted(each.name for each in statement.names))
    return Fix(place, _message(device, named), (new, *edits))
