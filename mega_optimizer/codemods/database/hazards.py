"""What else in a service makes one shared engine or client differ from one per request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import strings
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.request_paths import users
from mega_optimizer.repository.python import is_test

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.database.constants import Inputs
    from mega_optimizer.codemods.program import Definition, Program
    from mega_optimizer.repository.place import Place
    from mega_optimizer.repository.python import Call, PythonFacts

# SQL that leaves something behind in a connection, which the next request would find.
SESSION_STATE = (
    rb"[\"'\s(](?:SET|set)\s+(?:SESSION|ROLE|role|search_path|TIME ZONE|time zone)\b"
    rb"|CREATE\s+(?:GLOBAL\s+|LOCAL\s+)?TEMP|\bLISTEN\s+\w|pg_advisory_lock|[\"'\s]set_config\("
)
EVENT_LOOPS = (
    rb"asyncio\.run\b|run_until_complete|new_event_loop|async_to_sync|anyio\.run\b"
    rb"|\b[Cc]elery\b|nest_asyncio"
)
SETTINGS_FILE = re.compile(r"^\.env|\.env$|\.(?:ini|cfg|conf|toml|ya?ml|json)$")
FORKING = rb"(?i)\bcelery\b|\bdramatiq\b|\brq\b|\buwsgi\b"
ASYNC_TESTS = rb"TestClient|asyncio|anyio|AsyncClient"
DELETIONS = frozenset({"remove", "unlink", "rmtree"})
PATCHING = frozenset(
    {
        "setenv", "delenv", "setattr", "setitem", "delitem", "patch", "object", "dict",
        "multiple", "override_settings", "reload", "update", "setdefault", "pop", "putenv",
    }
)  # fmt: skip
MAKERS = frozenset({"create_engine", "create_async_engine"})
TEST_SETTINGS = ("pytest.ini", "pyproject.toml", "setup.cfg", "tox.ini", ".env.test")


def hazard(
    context: Context, program: Program, call: Call, inputs: Inputs, place: Place
) -> Skip | None:
    """Return why the service as a whole forbids sharing the engine that ``call`` makes."""
    sqlite = may_be_sqlite(context, program, inputs, place)
    if sqlite is not None:
        return sqlite
    path = next(program.containing(SESSION_STATE, program.product), None)
    if path is not None:
        reason = f"{path} leaves state in a connection, which the next request would find"
        return Skip(place, "session-state", reason)
    listener = next(_listeners(program), None)
    if listener is not None:
        return Skip(place, "event-listeners", f"{listener} attaches listeners to engines")
    is_async = call.text.endswith("create_async_engine")
    return varies(
        program, inputs, place, "an async engine" if is_async else None, MAKERS
    ) or tests_use_sqlite(context, program, place)


def may_be_sqlite(context: Context, program: Program, inputs: Inputs, place: Place) -> Skip | None:
    """Return why the URL that ``inputs`` make may be one of SQLite, which has other pools."""
    if _may_be_sqlite(program, inputs):
        return Skip(place, "sqlite", "the URL is SQLite, or falls back to it")
    configured = _configured_as_sqlite(context, inputs)
    if configured is not None:
        return Skip(place, "sqlite", f"{configured} sets a SQLite URL")
    return None


def tests_use_sqlite(context: Context, program: Program, place: Place) -> Skip | None:
    """Return why the tests may put SQLite in the place of the database."""
    return _tests_use_sqlite(program, place) or _test_settings_use_sqlite(context, place)


def varies(
    program: Program,
    inputs: Inputs,
    place: Place,
    bound_to_loop: str | None,
    makers: frozenset[str],
) -> Skip | None:
    """Return what in the service or its tests makes the shared object mean different things.

    ``bound_to_loop`` names an object that belongs to one event loop; ``makers`` are the words,
    lower case, by which tests replace what makes it.
    """
    rebound = _rebound(program, inputs)
    if rebound is not None:
        return Skip(place, "arguments-not-constant", f"{rebound} assigns what the URL is made of")
    if bound_to_loop is not None:
        loops = [
            *program.containing(EVENT_LOOPS, program.product),
            *program.containing(ASYNC_TESTS, program.tests),
        ]
        if loops:
            reason = f"{bound_to_loop} belongs to one event loop, {loops[0]} runs several"
            return Skip(place, "several-event-loops", reason)
    words = {word.lower() for word in inputs.words} | makers
    for path in program.tests:
        facts = program.facts(path)
        if facts is None:
            continue
        if any(_varies(call, words) for call in facts.calls) or any(
            store.scope and str(store.key or store.text.rpartition(".")[2]).lower() in words
            for store in facts.stores
        ):
            noun = "engine" if makers is MAKERS else "client"
            return Skip(place, "tests-vary-url", f"{path} changes what the {noun} is made of")
    return None


def _may_be_sqlite(program: Program, inputs: Inputs) -> bool:
    if any("sqlite" in text for text in inputs.texts):
        return True
    for path in program.containing(rb"sqlite", program.product):
        facts = program.facts(path)
        for each in facts.assignments if facts else ():
            word = each.target.rpartition(".")[2]
            if word in inputs.words and any("sqlite" in text for text in strings(each.value)):
                return True
    return False


def _configured_as_sqlite(context: Context, inputs: Inputs) -> str | None:
    """Return a file of settings of the service that gives one of the inputs a SQLite URL."""
    words = [word.lower().encode() for word in inputs.words if word]
    prefix = f"{context.service.root}/" if context.service.root else ""
    for path in context.files.paths:
        name = path.rpartition("/")[2]
        is_settings = path == context.service.dockerfile or SETTINGS_FILE.search(name)
        if not is_settings or not path.startswith(prefix) or is_test(path):
            continue
        content = context.read(path)
        if not isinstance(content, bytes) or b"sqlite" not in content:
            continue
        lines = (line.lower() for line in content.splitlines() if b"sqlite" in line)
        if any(word in line for line in lines for word in words):
            return path
    return None


def _listeners(program: Program) -> Iterator[str]:
    """Yield modules in which a function, not the module itself, listens to engines."""
    pattern = rb"listens_for|event\.listen\b|SQLAlchemyInstrumentor"
    for path in program.containing(pattern, program.product):
        facts = program.facts(path)
        for call in facts.calls if facts else ():
            if call.scope and re.search(pattern, call.text.encode()):
                yield path


def _rebound(program: Program, inputs: Inputs) -> str | None:
    """Return a module whose functions write to a setting or variable that the URL is made of."""
    words = [word for word in inputs.words if word]
    if not words:
        return None
    alternatives = b"|".join(re.escape(word.encode()) for word in words)
    pattern = rb"\b(" + alternatives + rb")\b[\"'\]]*\s*=[^=]"
    for path in program.containing(pattern, program.product):
        facts = program.facts(path)
        for store in facts.stores if facts else ():
            written = store.key if store.key is not None else store.text.rpartition(".")[2]
            if store.scope and written in words and not store.text.startswith("self."):
                return path
        if facts and any(not f.global_names.isdisjoint(words) for f in facts.functions):
            return path
    return None


def _tests_use_sqlite(program: Program, place: Place) -> Skip | None:
    for path in program.tests:
        facts = program.facts(path)
        if facts is None:
            continue
        if _uses_memory_database(facts):
            return Skip(place, "sqlite", f"{path} puts an in-memory SQLite in its place")
        deletes = any(call.text.rpartition(".")[2] in DELETIONS for call in facts.calls)
        if deletes and next(program.containing(rb"sqlite", (path,), b"sqlite"), None):
            reason = f"{path} deletes database files that a shared engine would hold open"
            return Skip(place, "tests-delete-database", reason)
    return None


def _test_settings_use_sqlite(context: Context, place: Place) -> Skip | None:
    for name in TEST_SETTINGS:
        path = f"{context.service.root}/{name}".lstrip("/")
        content = context.read(path) if path in context.files else b""
        if isinstance(content, bytes) and re.search(rb":memory:|sqlite://(?:[\s\"']|$)", content):
            return Skip(place, "sqlite", f"{path} puts an in-memory SQLite in its place")
    return None


def _varies(call: Call, words: set[str]) -> bool:
    last = call.text.rpartition(".")[2]
    if last not in PATCHING:
        return False
    if last == "reload":
        return True
    if last in ("update", "setdefault", "pop") and "environ" not in call.text:
        return False
    if not call.scope and last == "setdefault":
        return False  # a module-level default holds for the whole run
    named = {text.rpartition(".")[2].lower() for text in strings(call.value)}
    named |= {(each.keyword or "").lower() for each in call.arguments}
    clears = last == "dict" and any("environ" in each.value.text for each in call.arguments)
    return not named.isdisjoint(words) or (clears and call.argument("clear") is not None)


def _uses_memory_database(facts: PythonFacts) -> bool:
    stored = [store.value for store in facts.stores if "environ" in store.text and store.value]
    passed = [call for call in facts.calls if "environ" in call.text]
    values = [*stored, *(part.value for call in passed for part in call.arguments)]
    return any(
        value.constant in ("sqlite://", "sqlite:///")
        or any(":memory:" in text for text in strings(value))
        for value in values
    )


def forks_after_import(context: Context, program: Program) -> bool:
    """Whether Celery, Dramatiq, RQ or uWSGI may run the service: they fork after importing it."""
    if next(program.containing(FORKING, program.product), None) is not None:
        return True
    manifests = [context.read(path) for path in context.service.manifests]
    if any(isinstance(each, bytes) and re.search(FORKING, each) for each in manifests):
        return True
    started = [context.base_image or "", *(site.command for site in context.service.launch)]
    return any(re.search(FORKING, text.encode()) for text in started)


def disposes(
    program: Program, definition: Definition, ends: tuple[str, ...] = (".dispose",)
) -> bool:
    """Whether a function that gets its object from ``definition`` puts an end to one."""
    for user in users(program, definition):
        facts = program.facts(user.path) if user is not None else None
        if (
            user is not None
            and facts is not None
            and any(c.scope == user.name and c.text.endswith(ends) for c in facts.calls)
        ):
            return True
    return False
