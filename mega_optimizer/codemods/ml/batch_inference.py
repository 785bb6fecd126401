"""Let the requests of a route share calls of the model that each asks about rows of its own.

An estimator answers for each row by itself; how many rows it is asked about at once changes
nothing but the time that it takes.
"""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.cache.routes import constructor
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.ml.estimators import METHODS, is_estimator, own_estimator
from mega_optimizer.codemods.ml.shared_calls import Handler, Rows, rows_of
from mega_optimizer.codemods.ml.steady import dotted
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.source import read_source
from mega_optimizer.codemods.startup import startup_of
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.codemods.startup import Startup
    from mega_optimizer.repository.python import PythonFacts, Route

LITERALS = tuple(f".{each}(".encode() for each in sorted(METHODS))
DEFERRED = (
    ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.For, ast.While,
    ast.AsyncFor, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef,
)  # fmt: skip


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each route that asks its model once, and why others stay as they are."""
    program = context.program
    for path in context.modules(*LITERALS):
        facts = context.python(path) if path in program.product else None
        if facts is None or isinstance(facts, Problem) or not facts.routes:
            continue
        content = context.read(path)
        source = read_source(path, content) if isinstance(content, bytes) else content
        if isinstance(source, Problem):
            continue  # a module that cannot be read is reported by the rules of its framework
        yield from _of_routes(context, facts, source)


def _of_routes(context: Context, facts: PythonFacts, source: Source) -> Iterator[Outcome]:
    seen: set[str] = set()
    for route in facts.routes:
        handler = next(
            (
                each
                for each in source.tree.body
                if isinstance(each, Handler) and each.name == route.handler.path
            ),
            None,
        )
        if handler is None or handler.name in seen:
            continue
        seen.add(handler.name)
        calls = [
            each
            for each in ast.walk(handler)
            if isinstance(each, ast.Call)
            and isinstance(each.func, ast.Attribute)
            and each.func.attr in METHODS
        ]
        if calls:
            yield _outcome(context, facts, source, handler, calls, route)


def _outcome(
    context: Context,
    facts: PythonFacts,
    source: Source,
    handler: Handler,
    calls: list[ast.Call],
    route: Route,
) -> Outcome:
    call = calls[0]
    place = Place(facts.path, call.lineno, call.col_offset + 1)
    if len(calls) > 1:
        return Skip(place, "several-predictions", "the route asks for more than one prediction")
    if "WEBSOCKET" in route.methods:
        return Skip(place, "shape-not-known", "a web socket asks in its own order")
    if isinstance(handler, ast.FunctionDef) and not _is_of_fastapi(context, facts, route):
        return Skip(place, "shape-not-known", "that FastAPI serves the route cannot be seen")
    outer = _outer_objection(source, handler, call)
    if outer is not None:
        return Skip(place, "shape-not-known", outer)
    model = dotted(call.func.value) if isinstance(call.func, ast.Attribute) else None
    if model is None or len(call.args) != 1 or call.keywords:
        return Skip(place, "shape-not-known", "how the model is asked cannot be told")
    if not is_estimator(context, facts, model, handler.name):
        return Skip(place, "model-not-known", f"that {model} is an estimator cannot be seen")
    own = own_estimator(context.program)
    if own is not None:
        return Skip(place, "own-estimator", f"a class in {own} may look at the other rows")
    rows = rows_of(facts, source, handler, call, model)
    if isinstance(rows, str):
        return Skip(place, "shape-not-known", rows)
    tested = _tests_replace(context, facts, rows)
    if tested is not None:
        reason = f"{tested} puts something else in the place of the model"
        return Skip(place, "tests-replace-model", reason)
    startup = startup_of(context, facts.path)
    if isinstance(startup, Skip):
        return Skip(place, startup.code, f"{startup.reason} ({startup.place})")
    edits = partial(_edits, context, facts, source, startup, handler, call, rows, place)
    return Fix(place, "let requests that arrive together share one call of the model", edits)


def _is_of_fastapi(context: Context, facts: PythonFacts, route: Route) -> bool:
    """Whether the module makes or imports the application or router; Flask has routes alike."""
    owner = context.program.definition(facts.path, route.owner)
    return owner is not None and constructor(context.program, owner) is not None


def _outer_objection(source: Source, handler: Handler, call: ast.Call) -> str | None:
    for outer in source.around(call):
        if outer is handler:
            return None
        if isinstance(outer, DEFERRED):
            return "the prediction stands in a loop or in a function within the route"
        if isinstance(outer, ast.With):
            return "a with statement around the prediction would be held while others wait"
    return "the prediction stands beside the body of the route"


def _tests_replace(context: Context, facts: PythonFacts, rows: Rows) -> str | None:
    """Return a test that patches the model, which a call in a thread would still see."""
    word = rows.model.partition(".")[0].encode()
    pattern = rb"\b(?:patch|monkeypatch|Mock|MagicMock)\b"
    for path in context.program.containing(pattern, context.program.tests):
        content = context.program.read(path) or b""
        if word in content:
            return path
    return None


def _edits(
    context: Context,
    facts: PythonFacts,
    source: Source,
    startup: Startup,
    handler: Handler,
    call: ast.Call,
    rows: Rows,
    place: Place,
) -> Edits | Skip:
    from mega_optimizer.codemods.cache.generated_module import context_with, module_beside
    from mega_optimizer.codemods.cache.rendered import rendered
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.finding import Edit
    from mega_optimizer.codemods.ml.shared_calls import share_calls

    kind = "micro" if isinstance(handler, ast.AsyncFunctionDef) else "thread"
    batcher = f"{kind.title()}Batcher"
    mark = f"class {batcher}:".encode()
    path = module_beside(context, startup.path, f"{kind}_batcher", mark)
    if isinstance(path, Skip):
        return path
    content = context.program.read(path)
    new: Edits = ()
    if content is None:
        wait = int(context.parameters["max_wait_ms"]) / 1000
        content = rendered(
            f"ml/{kind}_batcher.py.j2",
            max_batch=int(context.parameters["max_batch"]),
            max_wait=f"{wait:g}",
            max_waiting=int(context.parameters["max_waiting"]),
        ).encode()
        new = (Edit(path, 0, 0, content),)
    extended = context_with(context, path, content)
    draft = Draft(extended)
    objection = share_calls(
        extended, draft, facts, source, Definition(path, batcher), handler, call, rows, place
    )
    return objection or (*new, *draft.edits())
