"""The code that predicts for all rows of a loop in one call.

``predict`` raises ValueError for an empty list, so what it writes asks first.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit
from mega_optimizer.codemods.ml.prediction_loops import bound_in, names_in

if TYPE_CHECKING:
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.codemods.ml.prediction_loops import Loop
    from mega_optimizer.codemods.source import Source

_LISTS = frozenset({"list", "List", "Sequence", "tuple", "Tuple"})
_MAKE_LISTS = frozenset({"list", "sorted", "tuple"})
_SEVERAL_LINES = "an iteration goes over several lines"


@dataclass(frozen=True, slots=True)
class Results:
    """A list comprehension in its two parts."""

    element: str
    clause: str

    def __str__(self) -> str:
        return f"[{self.element} {self.clause}]"


@dataclass(frozen=True, slots=True)
class Names:
    """The new variables: all rows, and the prediction for one of them."""

    batch: str
    value: str


def batched(path: str, source: Source, loop: Loop, python: str | None) -> Edits | str:
    """Return the edits that make one call of a loop, or why there are none.

    ``python`` is the version of Python that runs it, where it is known.
    """
    lines = source.own_lines(loop.statement)
    names = _free_names(source, loop)
    if lines is None:
        return "shares its line with another statement"
    if names is None:
        return "the names that the code needs are taken"
    element = _element(source, loop, names.value)
    if element is None:
        return "the prediction is used more than once"
    results = _results(source, loop, names, element, python)
    if results is None:
        return "the result of an iteration uses more of it than the prediction"
    if "\n" in str(results):
        return _SEVERAL_LINES
    if loop.comprehension is not None:
        return _instead_of_comprehension(path, source, loop, loop.comprehension, names, results)
    return _instead_of_for(path, source, loop, names, results)


def _free_names(source: Source, loop: Loop) -> Names | None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    around = (each for each in source.around(loop.statement) if isinstance(each, kinds))
    function = next(around, source.tree)
    taken = names_in(function)
    taken |= {each.arg for each in ast.walk(function) if isinstance(each, ast.arg)}
    batches = [each for each in ("batch", "rows", "inputs") if each not in taken]
    values = [each for each in ("value", "predicted", "prediction") if each not in taken]
    return Names(batches[0], values[0]) if batches and values else None


def _text(source: Source, node: ast.expr | ast.stmt) -> str:
    start, end = source.range(node)
    return source.content[start:end].decode()


def _replaced(source: Source, node: ast.expr, part: ast.expr, by: str) -> str:
    """Return the text of ``node`` with ``by`` in place of its ``part``."""
    start, end = source.range(node)
    low, high = source.range(part)
    return f"{source.content[start:low].decode()}{by}{source.content[high:end].decode()}"


def _element(source: Source, loop: Loop, value: str) -> str | None:
    """Return the text of what is kept of an iteration, ``value`` standing for the prediction."""
    picked = f"{value}{loop.single.rest}"
    if loop.assigned is None:
        return _replaced(source, loop.element, loop.single.picked, picked)
    bound = names_in(loop.assigned.targets[0])
    uses = [x for x in ast.walk(loop.element) if isinstance(x, ast.Name) and x.id in bound]
    if len(uses) != 1 or not isinstance(loop.assigned.value, ast.Call | ast.Subscript):
        return None
    inner = _replaced(source, loop.assigned.value, loop.single.picked, picked)
    return _replaced(source, loop.element, uses[0], inner)


def _results(
    source: Source, loop: Loop, names: Names, element: str, python: str | None
) -> Results | None:
    """Return the comprehension over all predictions, None where it would lack something."""
    used = names_in(ast.parse(f"({element})", mode="eval")) - {names.value}
    if used & bound_in(loop.prelude):
        return None
    rows = loop.single.rows
    batch = names.batch
    if isinstance(rows, ast.Call):
        batch = _replaced(source, rows, rows.args[0], batch)
    called = f"{_text(source, loop.single.call.func)}({batch})"
    if not used & names_in(loop.target):
        return Results(element, f"for {names.value} in {called}")
    if _leaves_some_out(loop) or not _is_list(source, loop):
        return None
    target = _text(source, loop.target)
    if isinstance(loop.target, ast.Tuple) and not target.startswith("("):
        target = f"({target})"
    strict = ", strict=True" if python and int(python.partition(".")[2]) >= 10 else ""
    pairs = f"zip({_text(source, loop.iterated)}, {called}{strict})"
    return Results(element, f"for {target}, {names.value} in {pairs}")


def _leaves_some_out(loop: Loop) -> bool:
    if loop.comprehension is not None:
        return bool(loop.comprehension.generators[0].ifs)
    return any(isinstance(x, ast.Continue) for each in loop.prelude for x in ast.walk(each))


def _is_list(source: Source, loop: Loop) -> bool:
    """Whether what is iterated over can be iterated over again, and is not changed between."""
    name = loop.iterated.id if isinstance(loop.iterated, ast.Name) else ""
    if not name or any(name in names_in(each) for each in loop.prelude):
        return False
    for outer in source.around(loop.statement):
        if not isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        stores = [
            each
            for each in ast.walk(outer)
            if isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, ast.Store)
        ]
        arguments = (*outer.args.posonlyargs, *outer.args.args, *outer.args.kwonlyargs)
        kind = next((each.annotation for each in arguments if each.arg == name), None)
        if any(each.arg == name for each in arguments):
            return not stores and kind is not None and _says_list(kind)
        made = source.parents[stores[0]] if len(stores) == 1 else None
        return isinstance(made, ast.Assign) and _makes_list(made.value)
    return False


def _says_list(kind: ast.expr) -> bool:
    named = kind.value if isinstance(kind, ast.Subscript) else kind
    return ast.unparse(named).rpartition(".")[2] in _LISTS


def _makes_list(value: ast.expr) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in _MAKE_LISTS
    return isinstance(value, ast.List | ast.ListComp)


def _is_the_item(loop: Loop) -> bool:
    row = loop.single.row
    return (
        isinstance(row, ast.Name) and isinstance(loop.target, ast.Name) and row.id == loop.target.id
    )


def _instead_of_comprehension(
    path: str, source: Source, loop: Loop, node: ast.ListComp, names: Names, results: Results
) -> Edits | str:
    generator = node.generators[0]
    if _is_the_item(loop) and not generator.ifs:
        rows = f"list({_text(source, generator.iter)})"
    else:
        rows = _replaced(source, node, node.elt, _text(source, loop.single.row))
    if "\n" in rows:
        return _SEVERAL_LINES
    start = source.range(loop.statement)[0]
    low, high = source.range(node)
    head = source.content[start:low].decode()
    code = [f"{names.batch} = {rows}", *_guarded(source, loop, head, results, names.batch)]
    return (Edit(path, start, high, _joined(source, loop, code)),)


def _instead_of_for(
    path: str, source: Source, loop: Loop, names: Names, results: Results
) -> Edits | str:
    started, last = loop.started, loop.last
    value = started.value if started is not None else None
    lines = source.own_lines(started) if started is not None else None
    own = source.own_lines(loop.statement)
    if started is None or last is None or value is None or lines is None or own is None:
        return "shares its line with another statement"
    begins = source.range(started)
    head = source.content[begins[0] : source.range(value)[0]].decode()
    code = _guarded(source, loop, head, results, names.batch)
    start, end = source.range(loop.statement)
    if not loop.prelude and _is_the_item(loop) and not _is_used_after(source, loop):
        rows = f"{names.batch} = list({_text(source, loop.iterated)})"
        replaced = Edit(path, start, end, _joined(source, loop, [rows, *code]))
        return (Edit(path, *lines, b""), replaced)
    low, high = source.range(loop.assigned or last)[0], source.range(last)[1]
    append = f"{names.batch}.append({_text(source, loop.single.row)})"
    indent = source.content[own[0] : start]
    ending = b"\r\n" if source.content[own[0] : own[1]].endswith(b"\r\n") else b"\n"
    missing = b"" if source.content[: own[1]].endswith(b"\n") else ending
    behind = missing + indent + _joined(source, loop, code) + ending
    return (
        Edit(path, *begins, f"{names.batch} = []".encode()),
        Edit(path, low, high, append.encode()),
        Edit(path, own[1], own[1], behind),
    )


def _guarded(source: Source, loop: Loop, head: str, results: Results, batch: str) -> list[str]:
    """Return the lines of the statement that begins with ``head`` and keeps ``results``."""
    from mega_optimizer.codemods.python import LINE_LENGTH

    line = f"{head}{results} if {batch} else []"
    if loop.statement.col_offset + len(line) <= LINE_LENGTH:
        return [line]
    inner = [f"    {results}"]
    if loop.statement.col_offset + len(inner[0]) > LINE_LENGTH:
        inner = ["    [", f"        {results.element}", f"        {results.clause}", "    ]"]
    return [f"{head}(", *inner, f"    if {batch}", "    else []", ")"]


def _joined(source: Source, loop: Loop, lines: list[str]) -> bytes:
    """Return ``lines`` as they stand where the loop stands, the first without its indent."""
    first, last = source.own_lines(loop.statement) or (0, 0)
    start = source.range(loop.statement)[0]
    ending = b"\r\n" if b"\r\n" in source.content[first:last] else b"\n"
    return (ending + source.content[first:start]).join(each.encode() for each in lines)


def _is_used_after(source: Source, loop: Loop) -> bool:
    """Whether the variable of the loop is used behind it."""
    end = loop.statement.end_lineno or 0
    return any(
        isinstance(each, ast.Name) and each.id in names_in(loop.target) and each.lineno > end
        for each in ast.walk(source.tree)
    )
