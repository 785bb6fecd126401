"""Rewrite a prediction of a route so that other requests may share it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.finding import Edit, Skip, apply_edits
from mega_optimizer.codemods.ml.steady import dotted
from mega_optimizer.codemods.module_paths import import_path
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.program import Definition
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts

Handler = ast.FunctionDef | ast.AsyncFunctionDef
ARRAYS = frozenset({"numpy.array", "numpy.asarray", "numpy.atleast_2d", "numpy.stack"})
METHODS_OF_ARRAYS = frozenset({"reshape", "astype"})


@dataclass(frozen=True, slots=True)
class Rows:
    """What a prediction is asked about, and of whom.

    ``library`` is the text by which the module calls numpy or pandas; ``model`` is the text that
    gives the model at the top level of the module, ``fetched`` the statement that binds it in the
    route where a function gives it.
    """

    kind: Literal["list", "array", "frame"]
    library: str
    model: str
    fetched: ast.Assign | None = None


def rows_of(
    facts: PythonFacts,
    source: Source,
    handler: Handler,
    call: ast.Call,
    model: str,
) -> Rows | str:
    """Return what ``call`` asks about, or why that cannot be told."""
    fetched = _fetched(handler, model)
    if fetched is not None:
        found = _from_function(facts, handler, call, model, fetched)
        if found is None:
            return f"what else the route does with {model} cannot be told"
        text = found
    elif facts.resolve(model) is None or _is_local(handler, model):
        return f"{model} is bound in the route"
    else:
        text = model
    kind = _kind(facts, handler, call.args[0], call, 0)
    if kind is None:
        return "whether the input is a list, an array or a data frame of rows cannot be told"
    return Rows(*kind, text, fetched if fetched is not None else None)


def _fetched(handler: Handler, model: str) -> ast.Assign | None:
    found = [
        each
        for each in ast.walk(handler)
        if isinstance(each, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == model for target in each.targets)
    ]
    return found[0] if len(found) == 1 else None


def _is_local(handler: Handler, model: str) -> bool:
    root = model.partition(".")[0]
    arguments = handler.args
    named = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    stored = {
        each.id
        for each in ast.walk(handler)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    return root in named | stored


def _from_function(
    facts: PythonFacts,
    handler: Handler,
    call: ast.Call,
    model: str,
    fetched: ast.Assign,
) -> str | None:
    """Return ``load_model()`` where a call without arguments gives the model, used only once."""
    value = fetched.value
    if not isinstance(value, ast.Call) or value.args or value.keywords:
        return None
    text = dotted(value.func)
    if text is None or facts.resolve(text) is None or _is_local(handler, text):
        return None
    uses = [
        each
        for each in ast.walk(handler)
        if isinstance(each, ast.Name) and each.id == model and isinstance(each.ctx, ast.Load)
    ]
    return f"{text}()" if len(uses) == 1 else None


def _kind(
    facts: PythonFacts,
    handler: Handler,
    value: ast.expr,
    before: ast.AST,
    depth: int,
) -> tuple[Literal["list", "array", "frame"], str] | None:
    if isinstance(value, ast.List) and len(value.elts) == 1:
        starred = isinstance(value.elts[0], ast.Starred)
        return None if starred else ("list", "")
    if isinstance(value, ast.Name) and depth < 3:
        found = [
            each
            for each in ast.walk(handler)
            if isinstance(each, ast.Name)
            and each.id == value.id
            and isinstance(each.ctx, ast.Store)
        ]
        assigned = [
            each
            for each in ast.walk(handler)
            if isinstance(each, ast.Assign) and len(each.targets) == 1 and each.targets[0] in found
        ]
        if len(found) != 1 or len(assigned) != 1:
            return None
        return _kind(facts, handler, assigned[0].value, before, depth + 1)
    if not isinstance(value, ast.Call):
        return None
    text = dotted(value.func)
    name = facts.resolve(text) if text is not None else None
    if text is not None and name in ARRAYS and value.args and _is_one_row(value.args[0], name):
        return "array", text.rpartition(".")[0]
    if text is not None and name == "pandas.DataFrame" and value.args:
        rows = value.args[0]
        one = isinstance(rows, ast.List) and len(rows.elts) == 1
        return ("frame", text.rpartition(".")[0]) if one else None
    method = value.func
    if not isinstance(method, ast.Attribute) or method.attr not in METHODS_OF_ARRAYS:
        return None
    inner = method.value
    if method.attr == "reshape":
        if not _is_single_row_shape(value.args):
            return None
        text = dotted(inner.func) if isinstance(inner, ast.Call) else None
        if text is None or facts.resolve(text) not in ARRAYS:
            return None
        return "array", text.rpartition(".")[0]
    return _kind(facts, handler, inner, before, depth + 1)


def _is_one_row(value: ast.expr, name: str | None) -> bool:
    if name == "numpy.atleast_2d":
        return isinstance(value, ast.List)
    return isinstance(value, ast.List) and len(value.elts) == 1


def _is_single_row_shape(arguments: list[ast.expr]) -> bool:
    """Whether ``reshape(1, -1)`` or ``reshape((1, -1))`` is called."""
    parts = arguments
    if len(parts) == 1 and isinstance(parts[0], ast.Tuple):
        parts = parts[0].elts
    return len(parts) == 2 and [ast.unparse(each) for each in parts] == ["1", "-1"]


def share_calls(
    context: Context,
    draft: Draft,
    facts: PythonFacts,
    source: Source,
    batcher: Definition,
    handler: Handler,
    call: ast.Call,
    rows: Rows,
    place: Place,
) -> Skip | None:
    """Replace ``call`` by one of a batcher that stands above the route; async routes await it.

    Skip codes: ``name-taken``, ``import-path-unknown``, ``shape-not-known``, those of imports.
    """
    import libcst as cst

    assert isinstance(call.func, ast.Attribute)
    method = call.func.attr
    function, shared = f"_{method}_rows", f"_shared_{method}"
    number = 2
    while {function, shared} & facts.bound_names:
        function, shared = f"_{method}_rows_{number}", f"_shared_{method}_{number}"
        number += 1
    module = import_path(context, facts.path, batcher.path)
    if module is None:
        reason = f"no import shows how {facts.path} would import {batcher.path}"
        return Skip(place, "import-path-unknown", reason)
    tree = draft.tree(facts.path)
    if isinstance(tree, Skip):
        return tree
    awaits = isinstance(handler, ast.AsyncFunctionDef)
    edits = _call_edits(facts.path, source, call, rows, shared, awaits)
    if isinstance(edits, str):
        return Skip(place, "shape-not-known", edits)
    newline = b"\r\n" if b"\r\n" in source.content else b"\n"
    asked = {
        "list": "[row for rows in requests for row in rows]",
        "array": f"{_prefix(rows.library)}concatenate(requests)",
        "frame": f"{_prefix(rows.library)}concat(requests, ignore_index=True)",
    }[rows.kind]
    text = (
        f"def {function}(requests):\n"
        f"    return {rows.model}.{method}({asked})\n\n\n"
        f"{shared} = {batcher.name}({function})\n\n\n"
    )
    above = _above(source, handler)
    edits.append(Edit(facts.path, above, above, text.encode().replace(b"\n", newline)))
    draft.put(facts.path, cst.parse_module(apply_edits(source.content, edits)))
    if not rows.library and rows.kind != "list":
        name = "concatenate" if rows.kind == "array" else "concat"
        package = "numpy" if rows.kind == "array" else "pandas"
        added = draft.add_import(facts.path, package, name, function)
        if isinstance(added, Skip):
            return added
    local = draft.add_import(facts.path, module, batcher.name, shared)
    return local if isinstance(local, Skip) else None


def _prefix(library: str) -> str:
    return f"{library}." if library else ""


def _call_edits(
    path: str, source: Source, call: ast.Call, rows: Rows, shared: str, awaits: bool
) -> list[Edit] | str:
    parent = source.parents[call]
    binds = isinstance(parent, ast.Attribute | ast.Subscript | ast.BinOp | ast.UnaryOp) or (
        isinstance(parent, ast.Call) and parent.func is call
    )
    start, end = source.range(call.func)
    word = b"await " if awaits else b""
    opening, closing = (b"(" + word, b")") if awaits and binds else (word, b"")
    edits = [Edit(path, start, end, opening + shared.encode())]
    if closing:
        behind = source.range(call)[1]
        edits.append(Edit(path, behind, behind, closing))
    if rows.fetched is not None:
        lines = source.own_lines(rows.fetched)
        if lines is None:
            return "shares its line with another statement"
        edits.append(Edit(path, *lines, b""))
    return edits


def _above(source: Source, handler: Handler) -> int:
    """Return where a route and the comments that belong to it begin."""
    lines = source.content.splitlines(keepends=True)
    line = min([handler.lineno, *(each.lineno for each in handler.decorator_list)]) - 1
    while line and lines[line - 1].startswith(b"#"):
        line -= 1
    return sum(map(len, lines[:line]))
