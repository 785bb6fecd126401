"""Await the database in coroutines that hold the event loop for every query today.

A synchronous session in ``async def`` blocks all requests of the process while it waits
(https://fastapi.tiangolo.com/async/). psycopg 3 serves both kinds of engine under one URL
(https://docs.sqlalchemy.org/en/20/dialects/postgresql.html#module-sqlalchemy.dialects.postgresql.psycopg).
What an AsyncSession cannot do is load by itself when an attribute is read
(https://docs.sqlalchemy.org/en/20/orm/extensions/asyncio.html#preventing-implicit-io-when-using-asyncsession):
so there must be nothing to load.
"""

from __future__ import annotations

import ast
import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.async_session import (
    Objection,
    SessionModule,
    handler_objections,
    module_objections,
    session_module,
)
from mega_optimizer.codemods.dependents import dependents
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.serving.module_state import process_state
from mega_optimizer.codemods.source import Source, read_source
from mega_optimizer.codemods.startup import Startup, startup_of
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.database.async_rewrite import User
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.codemods.program import Program

URL = re.compile(r"postgresql\+psycopg(?:_async)?://")
EAGER = frozenset({"selectin", "joined", "subquery", "immediate", "raise", "noload", "write_only"})
LAZY = (
    rb"\brelationship\(|\bdeferred\(|\bdefer\(|\bload_only\(|\bobject_session\(|\bdynamic_loader\("
)
ONUPDATE = rb"\bserver_onupdate\s*=|\bonupdate\s*=\s*(?:sa\.)?(?:func|text)\b"
SHOWN = 6  # objections in one sentence
# SQLAlchemy installs greenlet by itself only on some platforms.
REQUIRES = ("greenlet>=1",)


def find(context: Context) -> Iterator[Outcome]:
    """Yield advice for each module whose sessions coroutines use; a skip says what hinders it."""
    program = context.program
    for path in program.containing(rb"\bsessionmaker\(", program.product, b"sessionmaker"):
        content, facts = context.read(path), context.python(path)
        if isinstance(facts, Problem) or isinstance(content, Problem):
            continue
        source = read_source(path, content)
        module = session_module(facts, source) if isinstance(source, Source) else None
        if module is not None:
            yield from _judge(context, module)


def _judge(context: Context, module: SessionModule) -> Iterator[Outcome]:
    place = Place(module.path, module.get.lineno)
    users = list(_users(context, module))
    coroutines = [each for each in users if isinstance(each.function, ast.AsyncFunctionDef)]
    if not coroutines:
        return
    found = (
        f"{len(coroutines)} coroutines hold the event loop"
        if len(coroutines) > 1
        else (f"{coroutines[0].function.name} holds the event loop")
    )
    objections = _first_of_each(_objections(context, module, users))
    startup = startup_of(context, module.path)
    if isinstance(startup, Skip):
        objections.append(
            (startup.place.path, Objection(startup.place.line, startup.code, startup.reason))
        )
    if objections or not isinstance(startup, Startup):
        said = [f"{each.reason} ({path}:{each.line})" for path, each in objections]
        more = f"; and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
        reason = f"{found} for each query; against awaiting it: {'; '.join(said[:SHOWN])}{more}"
        yield Skip(place, objections[0][1].code, reason)
        return
    from mega_optimizer.codemods.database.async_rewrite import rewrite

    yield Fix(
        place,
        f"{found} for each query: await the database",
        partial(rewrite, context, module, coroutines, startup),
        REQUIRES,
        beside="sqlalchemy",
    )


def _first_of_each(found: Iterator[tuple[str, Objection]]) -> list[tuple[str, Objection]]:
    """Return the first objection of each kind in each module."""
    first: dict[tuple[str, str], tuple[str, Objection]] = {}
    for path, each in found:
        first.setdefault((path, each.code), (path, each))
    return list(first.values())


def _users(context: Context, module: SessionModule) -> Iterator[User]:
    """Yield the functions into which the sessions are injected."""
    from mega_optimizer.codemods.database.async_rewrite import User

    target = Definition(module.path, module.get.name)
    for facts, name, parameter in dependents(context.program, target):
        content = context.read(facts.path)
        source = read_source(facts.path, content) if isinstance(content, bytes) else content
        if isinstance(source, Problem):
            continue
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name == name.rpartition(".")[2]:
                yield User(facts, source, node, parameter)


def _objections(
    context: Context, module: SessionModule, users: list[User]
) -> Iterator[tuple[str, Objection]]:
    program = context.program
    for own in module_objections(module):
        yield module.path, own
    yield from _of_url(context, module)
    for user in users:
        if not isinstance(user.function, ast.AsyncFunctionDef):
            text = f"{user.function.name} uses its session in a thread"
            yield user.facts.path, Objection(user.function.lineno, "used-in-threads", text)
            continue
        for each in handler_objections(user.source, user.function, user.session):
            yield user.facts.path, each
    yield from _of_names(context, module)
    for path in program.containing(
        LAZY,
        program.product,
        b"relationship",
        b"defer",
        b"load_only",
        b"object_session",
        b"dynamic",
    ):
        line = _loads_late(context, path)
        if line is not None:
            text = "attributes may be loaded when they are read"
            yield path, Objection(line, "loaded-when-read", text)
    for path in program.containing(ONUPDATE, program.product, b"onupdate"):
        text = "the database computes a column on update, which would be loaded when it is read"
        yield path, Objection(1, "loaded-when-read", text)
    paths = sorted({user.facts.path for user in users})
    state = next(process_state(program, paths), None)
    if state is not None:
        text = f"{state.name} is written by requests, which would no longer run one by one"
        yield state.place.path, Objection(state.place.line, "process-state", text)


def _loads_late(context: Context, path: str) -> int | None:
    """Return the line of what is loaded when it is read, None where all is loaded before."""
    facts = context.program.facts(path)
    for call in facts.calls if facts is not None else ():
        name = call.text.rpartition(".")[2]
        lazy = call.argument("lazy")
        if name in ("deferred", "defer", "load_only", "object_session", "dynamic_loader"):
            return call.line
        if name == "relationship" and (lazy is None or lazy.constant not in EAGER):
            return call.line
    return None


def _of_url(context: Context, module: SessionModule) -> Iterator[tuple[str, Objection]]:
    """Yield an objection unless all that is known of the URL names psycopg 3."""
    value = module.facts.assigned(module.name(module.engine))
    texts = [each for each in _strings(context, module)]
    line = module.engine.lineno
    if value is None or not texts or not all(URL.match(each) for each in texts):
        text = "nothing shows that the URL is one of psycopg 3, which serves both kinds of engine"
        yield module.path, Objection(line, "driver-unknown", text)


def _strings(context: Context, module: SessionModule) -> Iterator[str]:
    """Yield the URLs that the code and its deployments give the engine."""
    from mega_optimizer.codemods.serving.addresses import setting

    value = module.facts.assigned(module.name(module.engine))
    given = value.arguments[0].value if value is not None and value.arguments else None
    found = setting(context.program, module.path, given) if given is not None else None
    variable = found.variable if found is not None else None
    if found is not None and found.text:
        yield found.text
    if found is None and given is not None:
        variable = (given.text.rpartition(".")[2]).upper()
    for each in context.service.deployments:
        if variable and variable in each.environment:
            yield each.environment[variable]


def _of_names(context: Context, module: SessionModule) -> Iterator[tuple[str, Objection]]:
    """Yield other modules that use the engine or its sessions, tests that replace them included."""
    program = context.program
    names = {module.name(module.engine), module.name(module.factory), module.get.name}
    for path in (*program.product, *program.tests):
        facts = program.facts(path) if module.path in program.imports(path) else None
        if facts is None or path == module.path:
            continue
        for each in facts.imports:
            found = program.definition(path, each.target)
            if found is None or found.path != module.path or found.name not in names:
                continue
            is_test = path in program.tests
            if is_test:
                yield path, Objection(each.line, "tests-use-sessions", f"{path} uses {found.name}")
            elif found.name != module.get.name:
                text = f"{path} uses {found.name} by itself"
                yield path, Objection(each.line, "sessions-elsewhere", text)
            elif not _only_injects(program.read(path) or b"", each.bound):
                text = f"{path} calls {found.name} by itself"
                yield path, Objection(each.line, "sessions-elsewhere", text)
        if any(_is_module(program, path, each.target, module) for each in facts.imports):
            text = f"{path} imports the whole module"
            yield path, Objection(1, "sessions-elsewhere", text)


def _is_module(program: Program, path: str, target: str, module: SessionModule) -> bool:
    found = program.definition(path, target)
    return found is not None and found.path == module.path and not found.name


def _only_injects(content: bytes, name: str) -> bool:
    """Whether every mention of ``name`` but its import stands in ``Depends(...)``."""
    word = re.escape(name.encode())
    mentions = len(re.findall(rb"\b" + word + rb"\b", content))
    injected = len(re.findall(rb"\bDepends\(\s*" + word + rb"\s*\)", content))
    imported = len(re.findall(rb"\bimport\b[^\n]*\b" + word + rb"\b", content))
    return mentions <= injected + max(imported, 1)
