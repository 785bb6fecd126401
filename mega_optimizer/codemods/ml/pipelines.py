"""Calls of the methods of diffusers pipelines, and what decides whether they run.

The variables of pipelines are seldom typed, so a call is known by its method, which no other
library has, in a service that uses diffusers.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.source import Source, read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context


def pipeline_calls(
    context: Context, *methods: str
) -> Iterator[tuple[str, Source, ast.Call, ast.Attribute] | Skip]:
    """Yield (path, source, call, its function) for the calls of ``methods`` in the product.

    A method of that name that the service defines itself makes its calls unknown.
    """
    program = context.program
    literals = [method.encode() for method in methods]
    paths = [path for path in context.modules(*literals) if path in program.product]
    own = next((path for path in paths if _defines(context, path, methods)), None)
    for path in paths:
        content = context.read(path)
        source = read_source(path, content) if isinstance(content, bytes) else content
        if isinstance(source, Problem):
            yield Skip(Place(path, source.line), source.code, source.message)
            continue
        for call in source.calls():
            function = call.func
            if not isinstance(function, ast.Attribute) or function.attr not in methods:
                continue
            if own is not None:
                place = Place(path, call.lineno, call.col_offset + 1)
                yield Skip(place, "own-method", f"{own} defines a {function.attr} of its own")
                continue
            yield path, source, call, function


def _defines(context: Context, path: str, methods: tuple[str, ...]) -> bool:
    facts = context.program.facts(path)
    return facts is not None and any(
        each.path.rpartition(".")[2] in methods for each in facts.functions
    )


def condition_around(source: Source, node: ast.AST) -> str | None:
    """Return what decides whether ``node`` runs: ``hasattr``, ``try`` or ``if``; None for nothing.

    Conditions outside of the innermost function decide about that function and do not count.
    """
    child = node
    for outer in source.around(node):
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            return None
        if isinstance(outer, ast.If | ast.IfExp) and child is not outer.test:
            names = {each.id for each in ast.walk(outer.test) if isinstance(each, ast.Name)}
            return "hasattr" if names & {"hasattr", "getattr"} else "if"
        if isinstance(outer, ast.Try) and child in outer.body and _catches_missing(outer):
            return "try"
        child = outer
    return None


def _catches_missing(statement: ast.Try) -> bool:
    """Whether a handler catches AttributeError."""
    for handler in statement.handlers:
        caught = handler.type
        names = (
            {each.id for each in ast.walk(caught) if isinstance(each, ast.Name)} if caught else ()
        )
        if caught is None or {"AttributeError", "Exception", "BaseException"} & set(names):
            return True
    return False
