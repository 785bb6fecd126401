"""A route that lets a language model write a text gets a sibling that streams it.

The sibling takes the same parameters, asks in the same way, and hands on each piece of text as soon
as ``TextStreamer`` of transformers has decoded it. The old route stays as it is.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.ml.written_text import Writing, answer_parts, writing_of
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.ml.written_text import FunctionNode
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts, Route

MODULE = "text_stream"
OURS = b"async def stream_text("
SUFFIX = "/stream"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_STREAMS = ("TextIteratorStreamer", "AsyncTextIteratorStreamer", "EventSourceResponse")


@dataclass(frozen=True, slots=True)
class Sibling:
    """A route, its module, and the function that writes: itself, or one that it calls."""

    facts: PythonFacts
    route: Route
    home: Definition
    writing: Writing
    call: ast.Call | None


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each route that returns a text as it was written, and why others stay."""
    for path in context.modules(b".generate("):
        content = context.read(path) if path in context.program.product else b""
        if not isinstance(content, bytes) or b"decode(" not in content:
            continue
        facts, source = context.python(path), read_source(path, content)
        if facts is None or isinstance(facts, Problem) or isinstance(source, Problem):
            continue  # a module that cannot be read is reported by the rules of its framework
        for function in source.tree.body:
            if isinstance(function, _FUNCTIONS):
                generates = next((each for each in ast.walk(function) if _generates(each)), None)
                if isinstance(generates, ast.Call):
                    yield from _outcomes(context, facts, function, generates)


def _generates(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "generate"
    )


def _outcomes(
    context: Context, facts: PythonFacts, function: FunctionNode, call: ast.Call
) -> Iterator[Outcome]:
    home = Definition(facts.path, function.name)
    routes = list(_routes(context, home))
    if not routes:
        return
    place = Place(facts.path, call.lineno, call.col_offset + 1)
    writing = writing_of(context.program, facts, function, function.name)
    if isinstance(writing, tuple):
        yield Skip(place, *writing)
        return
    for other, route in routes:
        spot = Place(other.path, route.line)
        objection = _objection(context, other, route)
        found = _sibling(context, other, route, home, writing) if objection is None else objection
        if isinstance(found, tuple):
            yield Skip(spot, *found)
            continue
        message = f"stream the text of {route.path} at {_path(route)} as well"
        yield Fix(spot, message, partial(_edits, context, found))


def _routes(context: Context, home: Definition) -> Iterator[tuple[PythonFacts, Route]]:
    """Yield the routes whose handler is ``home``, or calls it."""
    program = context.program
    for path in program.with_word(home.name):
        facts = program.facts(path) if path in program.product else None
        for route in facts.routes if facts else ():
            if facts is None or "WEBSOCKET" in route.methods:
                continue
            handler = route.handler.path
            if Definition(path, handler) == home or any(
                each.scope == handler and program.definition(path, each.name) == home
                for each in facts.calls
            ):
                yield facts, route


def _path(route: Route) -> str:
    return f"{(route.path or '').rstrip('/')}{SUFFIX}"


def _objection(context: Context, facts: PythonFacts, route: Route) -> tuple[str, str] | None:
    program = context.program
    if route.path is None or route.owner is None or ":path}" in route.path:
        return "shape-not-known", "which paths the route answers cannot be told"
    if route.path.endswith(SUFFIX):
        return "streams-already", "it is a stream"
    others = (each for path in program.product if (each := program.facts(path)))
    if any(each.path == _path(route) for one in others for each in one.routes):
        return "streams-already", f"{_path(route)} is there"
    for word in _STREAMS:
        path = next((each for each in program.with_word(word) if each in program.product), None)
        if path is not None:
            return "streams-already", f"{path} streams by {word}"
    zipped = next(iter(program.with_word("GZipMiddleware")), None)
    if zipped is not None:
        return "compressed", f"GZipMiddleware ({zipped}) holds pieces back until it has many"
    if len(route.handler.decorators) != 1:
        return "decorated", f"what else decorates {route.handler.path} may count on its answer"
    if route.decorator.argument("status_code") is not None:
        return "shape-not-known", "the route says its own status"
    kinds = [each.annotation for each in route.handler.parameters if each.annotation is not None]
    if any(each.text.rpartition(".")[2] == "Response" for each in kinds):
        return "shape-not-known", "what it does to the response would be lost"
    return None


def _sibling(
    context: Context, facts: PythonFacts, route: Route, home: Definition, writing: Writing
) -> Sibling | tuple[str, str]:
    if route.handler.is_async and writing.sets_tokenizer and writing.lock is None:
        # The coroutine had the tokenizer for itself; its sibling runs in a thread.
        reason = "a call changes how the tokenizer pads and cuts, and threads would share it"
        return "model-not-thread-safe", reason
    if Definition(facts.path, route.handler.path) == home:
        return Sibling(facts, route, home, writing, None)
    if writing.answer is not writing.text:
        return "shape-not-known", f"{home.name} returns more than the text"
    content = context.read(facts.path)
    source = read_source(facts.path, content) if isinstance(content, bytes) else content
    if isinstance(source, Problem):
        return "encoding", "is not UTF-8"
    call = _handed_on(source, facts, context, route, home)
    if call is None:
        return "processed", f"{route.handler.path} does more than to return what {home.name} gives"
    return Sibling(facts, route, home, writing, call)


def _handed_on(
    source: Source, facts: PythonFacts, context: Context, route: Route, home: Definition
) -> ast.Call | None:
    """Return the call of ``home`` whose result the handler returns as the one varying part."""
    handler = next(
        (e for e in source.tree.body if isinstance(e, _FUNCTIONS) and e.name == route.handler.path),
        None,
    )
    body = handler.body if handler is not None else []
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    last = body[-1] if body else None
    if not isinstance(last, ast.Return) or last.value is None or len(body) > 2:
        return None
    for part in answer_parts(last.value):
        made: ast.expr = part
        if len(body) == 2:
            first = body[0]
            if not isinstance(first, ast.Assign) or not isinstance(part, ast.Name):
                return None
            if [ast.unparse(each) for each in first.targets] != [part.id]:
                return None
            made = first.value
        if isinstance(made, ast.Call):
            name = facts.resolve(ast.unparse(made.func))
            if context.program.definition(facts.path, name) == home:
                return made
    return None


def _edits(context: Context, sibling: Sibling) -> Edits | Skip:
    from mega_optimizer.codemods.cache.generated_module import context_with, module_beside
    from mega_optimizer.codemods.cache.rendered import rendered
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.finding import Edit
    from mega_optimizer.codemods.ml.sibling_routes import add_sibling

    path = module_beside(context, sibling.home.path, MODULE, OURS)
    if isinstance(path, Skip):
        return path
    content = context.program.read(path)
    new: Edits = ()
    if content is None:
        most = int(context.parameters["most"])
        content = rendered("ml/text_stream.py.j2", most=most).encode()
        new = (Edit(path, 0, 0, content),)
    draft = Draft(context_with(context, path, content))
    objection = add_sibling(draft, sibling, path)
    return objection or (*new, *draft.edits())
