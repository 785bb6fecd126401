"""What else in a service makes one shared HTTP client differ from a client per request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.module_paths import reaches
from mega_optimizer.repository.dependencies.allowed import holds

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.http.clients import Client
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.startup import Startup
    from mega_optimizer.repository.place import Place
    from mega_optimizer.repository.python import PythonFacts

LOOPS = rb"\basyncio\.run\(|run_until_complete\(|new_event_loop\(|async_to_sync\b|anyio\.run\("
LOOP_LITERALS = (b".run(", b"run_until_complete", b"new_event_loop", b"async_to_sync")
# httpcore loses connections of cancelled requests below: https://github.com/encode/httpcore/pull/880
POOLS = {"httpcore": ">=1.0.3", "httpx": ">=0.25", "aiohttp": ">=3.8"}
NEEDED = {"httpx": ("httpx", "httpcore"), "aiohttp": ("aiohttp",)}


def hazard(
    context: Context, facts: PythonFacts, startup: Startup, client: Client, place: Place
) -> Skip | None:
    """Return why the service forbids sharing a client of the module, else None.

    Skip codes: ``several-event-loops``, ``tests-replace-client``, ``shared-already``,
    ``version-excluded``.
    """
    program = context.program
    for package in NEEDED[client.package]:
        objection = _too_old(context, package, place)
        if objection is not None:
            return objection
    if client.is_async:
        for path in program.containing(LOOPS, program.product, *LOOP_LITERALS):
            used = path == facts.path or reaches(program, path, facts.path)
            if not used or not reaches(program, startup.path, path):
                continue
            own = program.facts(path)
            runs = own is not None and any(
                call.scope and re.search(LOOPS, f"{call.text}(".encode()) for call in own.calls
            )
            if runs:
                reason = f"a client belongs to one event loop, {path} runs another"
                return Skip(place, "several-event-loops", reason)
    test = _replacing_test(program, facts, client)
    if test is not None:
        return Skip(place, "tests-replace-client", f"{test} puts something else for {client.name}")
    shared = _shared_elsewhere(program, client)
    if shared is not None:
        return Skip(place, "shared-already", f"{shared} keeps a client that others could use")
    return None


def _replacing_test(program: Program, facts: PythonFacts, client: Client) -> str | None:
    """Return a test module that names the class of clients in a string, as mocking does."""
    stem = facts.path.removesuffix(".py").removesuffix("/__init__").rpartition("/")[2].encode()
    owners = rb"(?:%s|%s)" % (client.package.encode(), re.escape(stem))
    name = client.name.encode()
    dotted = rb"[\"'](?:[\w.]+\.)?%s(?:\.\w+)*\.%s[\"'.]" % (owners, name)
    attribute = rb"\b%s\s*,\s*[\"']%s[\"']" % (owners, name)
    return next(program.containing(dotted + b"|" + attribute, program.tests, name), None)


def _shared_elsewhere(program: Program, client: Client) -> str | None:
    """Return a module that keeps a client of the class in a variable of its own."""
    pattern = rb"\b%s\s*\(" % client.name.encode()
    for path in program.containing(pattern, program.product, client.name.encode()):
        facts = program.facts(path)
        for each in facts.assignments if facts is not None else ():
            if facts is None or each.value.kind != "call" or each.value.name not in client.names:
                continue
            function = facts.function(each.scope) if each.scope else None
            if not each.scope or (function and each.target in function.global_names):
                return path
    return None


def _too_old(context: Context, package: str, place: Place) -> Skip | None:
    from packaging.specifiers import SpecifierSet

    wanted = SpecifierSet(POOLS[package])
    verdict = holds(context.dependencies, package, wanted)
    if verdict.answer != "fails":
        return None
    reason = f"needs {package} {wanted}: {verdict.why}"
    return Skip(verdict.place or place, "version-excluded", reason)
