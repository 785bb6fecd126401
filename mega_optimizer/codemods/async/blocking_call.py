"""A coroutine waits for the network in a thread, and lets the event loop go on.

A handler that awaits nothing becomes a plain function, which FastAPI runs in a thread by itself
(https://fastapi.tiangolo.com/async/#path-operation-functions). Elsewhere the call that blocks
moves into a thread (https://docs.python.org/3/library/asyncio-task.html#running-in-threads).
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.annotations import oldest_python
from mega_optimizer.codemods.blocking import WAITING, blocks, may_block, thread_hazard
from mega_optimizer.codemods.call_graph import callee_of, calls_of, function_of, reached
from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_per_request, users
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call, Function, PythonFacts, Route

ROUTE = rb"@[\w.]+\.(?:get|post|put|delete|patch|api_route)\("
# Where no routes are, only calls that wait themselves are looked at: there is much other code.
DIRECT = (
    rb"\b(?:requests|httpx)\.(?:get|post|put|patch|delete|head|request)\(|\burlopen\("
    rb"|\bsubprocess\."
)
DIRECT_WORDS = (b"requests.", b"httpx.", b"urlopen", b"subprocess.")
NEAREST = 6  # functions of a helper that are looked at: what lies deeper may never run
NEAR = 3  # imports from a handler to what it waits for
LOOPS = frozenset({"asyncio", "anyio", "trio", "uvloop"})


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each handler or coroutine that blocks, skips where it may not change."""
    program = context.program
    waiting = may_block(program)
    paths = program.containing(rb"\basync\s+def\b", program.product, b"async") if waiting else ()
    for path in paths:
        routes_here = next(program.containing(ROUTE, (path,)), None) is not None
        direct = program.containing(DIRECT, (path,), *DIRECT_WORDS)
        if not routes_here and next(direct, None) is None:
            continue
        if not _is_near(program, path, waiting, NEAR if routes_here else 0):
            continue
        homes = waiting if routes_here else frozenset()
        facts = context.python(path)
        if isinstance(facts, Problem):
            continue
        routes = {each.handler.path: each for each in facts.routes}
        for function in facts.functions:
            if not function.is_async or facts.function(function.path) is None:
                continue
            route = routes.get(function.path)
            if route is not None and not _waits(function):
                yield from _handler(context, facts, route)
            else:
                yield from _coroutine(context, facts, function, homes)


def _is_near(program: Program, path: str, goals: frozenset[str], depth: int) -> bool:
    """Whether a module is one of ``goals``, or imports one through few others."""
    level = {path}
    for _ in range(depth + 1):
        if not goals.isdisjoint(level):
            return True
        level = {each.path for one in level for each in program.imported(one)}
    return False


def _waits(function: Function) -> bool:
    return "." in function.path or function.is_generator or function.waits


# Handlers that await nothing


def _handler(context: Context, facts: PythonFacts, route: Route) -> Iterator[Outcome]:
    """Yield what is to be said of a handler that awaits nothing: often nothing."""
    program = context.program
    handler = Definition(facts.path, route.handler.path)
    functions = _plain(program, reached(program, handler))
    blocking = next(((f, call) for f in functions if (call := blocks(program, f))), None)
    if blocking is None:
        return
    place = Place(facts.path, route.line)
    where, call = blocking
    objection = _handler_objection(program, facts, route, place)
    if objection is None:
        hazard = thread_hazard(program, functions)
        objection = Skip(place, *hazard) if hazard is not None else None
    if objection is not None:
        yield objection
        return
    through = "" if where == handler else f" in {where.name}"
    message = f"run {handler.name} in a thread: {call.text}{through} blocks"
    yield Fix(place, message, partial(_as_function, context, facts, route))


def _plain(program: Program, functions: list[Definition]) -> list[Definition]:
    """Return the functions that run in the caller's thread: coroutines only run when awaited."""
    first, *others = functions
    rest = [(each, function_of(program, each)) for each in others]
    return [first, *(each for each, function in rest if function and not function.is_async)]


def _handler_objection(
    program: Program, facts: PythonFacts, route: Route, place: Place
) -> Skip | None:
    handler = route.handler
    known = {each.decorator.text for each in facts.routes if each.handler.path == handler.path}
    foreign = [each for each in handler.decorators if each.text not in known]
    if foreign:
        return Skip(place, "decorated", f"@{foreign[0].text} may need a coroutine")
    texts = {
        text
        for scope, loaded in facts.loads.items()
        if scope == handler.path or scope.startswith(f"{handler.path}.")
        for text in loaded
    }
    loop = next((t for t in sorted(texts) if t.partition(".")[0] in LOOPS), None)
    if loop is not None:
        return Skip(place, "needs-loop", f"uses {loop}, which belongs to the event loop")
    caller = _caller(program, Definition(facts.path, handler.path))
    if caller is not None:
        return Skip(place, "awaited-elsewhere", f"{caller} calls it as a coroutine")
    return None


def _caller(program: Program, handler: Definition) -> str | None:
    """Return a module that calls the handler itself: it gets a coroutine, and awaits it."""
    for user in users(program, handler):
        if user is not None and user != handler:
            facts = program.facts(user.path)
            calls = [call for call in facts.calls if call.scope == user.name] if facts else []
            if any(program.definition(user.path, call.name) == handler for call in calls):
                return user.path
    word = handler.name.encode()
    called = rb"\b" + re.escape(word) + rb"\("
    for path in program.containing(called, program.tests, word):
        content = program.read(path) or b""
        own = re.search(rb"(?m)^(?:async )?def " + called, content)
        if own is None or rb"." + word + rb"(" in content:
            return path  # a helper of the tests that has the same name is not the handler
    return None


def _as_function(context: Context, facts: PythonFacts, route: Route) -> Edits | Skip:
    import ast

    content = context.read(facts.path)
    source = read_source(facts.path, content) if isinstance(content, bytes) else None
    place = Place(facts.path, route.line)
    if source is None or isinstance(source, Problem):
        return Skip(place, "encoding", "is not UTF-8")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.AsyncFunctionDef) and node.name == route.handler.path:
            start, _ = source.range(node)
            word = re.compile(rb"async\s+(?=def\b)").match(source.content, start)
            if word is not None:
                return (Edit(facts.path, start, word.end(), b""),)
    return Skip(place, "not-found-again", "the handler could not be found again in the tree")


# Coroutines that await something else, or are no handlers


def _coroutine(
    context: Context, facts: PythonFacts, function: Function, waiting: frozenset[str]
) -> Iterator[Outcome]:
    """Yield one fix for the blocking calls in the body of a coroutine."""
    program = context.program
    here = Definition(facts.path, function.path)
    blocking = [
        call
        for call in calls_of(program, here)
        if call.scope == function.path and _blocks(program, here, call, waiting)
    ]
    content = context.read(facts.path)
    source = read_source(facts.path, content) if blocking and isinstance(content, bytes) else None
    if source is None or isinstance(source, Problem):
        return
    if not runs_per_request(program, here, by_name=True):
        place = Place(facts.path, blocking[0].line, blocking[0].column)
        reason = f"no route, dependency or task was seen to use {function.path}"
        yield Skip(place, "not-per-request", reason)
        return
    fit: list[Call] = []
    for call in blocking:
        objection = _call_objection(context, facts, function, source, call)
        if objection is None:
            fit.append(call)
        else:
            yield objection
    if fit:
        place = Place(facts.path, fit[0].line, fit[0].column)
        names = ", ".join(dict.fromkeys(call.text for call in fit))
        edits = partial(_in_threads, context, facts, tuple(fit))
        yield Fix(place, f"wait for {names} in a thread", edits)


def _blocks(program: Program, caller: Definition, call: Call, waiting: frozenset[str]) -> bool:
    """Whether ``call`` waits itself, or runs a function of a module in ``waiting`` that does."""
    if call.name in WAITING:
        return True
    own = (call.name or "").startswith(":") or call.text.startswith("self.")
    module = program.imported_module(caller.path, call.name) if call.name and not own else None
    home = caller.path if own else module[1] if module is not None else None
    if home not in waiting:
        return False
    callee = callee_of(program, caller, call)
    function = function_of(program, callee) if callee is not None else None
    if callee is None or function is None or function.is_async or function.is_generator:
        return False
    if callee.name.endswith("__init__") or function.decorators:
        return False
    nearest = _plain(program, reached(program, callee))[:NEAREST]
    return any(blocks(program, each) is not None for each in nearest)


def _call_objection(
    context: Context, facts: PythonFacts, function: Function, source: Source, call: Call
) -> Skip | None:
    from mega_optimizer.codemods.coroutine_edits import no_await

    program = context.program
    place = Place(facts.path, call.line, call.column)
    objection = no_await(facts, source, call)
    if objection is not None:
        return objection
    if call.argument("stream") is not None:
        return Skip(place, "streams", "the body is read later, and would block then")
    oldest = oldest_python(context)
    if oldest is not None and oldest < (3, 9):
        return Skip(place, "version-excluded", "asyncio.to_thread came with Python 3.9")
    if call.name in WAITING:
        return None
    callee = callee_of(program, Definition(facts.path, function.path), call)
    functions = _plain(program, reached(program, callee)) if callee is not None else []
    hazard = thread_hazard(program, functions)
    return Skip(place, *hazard) if hazard is not None else None


def _in_threads(context: Context, facts: PythonFacts, calls: tuple[Call, ...]) -> Edits | Skip:
    from mega_optimizer.codemods.coroutine_edits import in_thread, rewrite

    def change(source: Source, asyncio: str) -> Iterator[Edit]:
        for call in calls:
            edit = in_thread(source, facts.path, call, asyncio)
            if edit is not None:
                yield edit

    return rewrite(context, facts, change)
