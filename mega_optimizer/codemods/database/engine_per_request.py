"""One engine for the process instead of one for each request.

An SQLAlchemy engine owns a connection pool and is meant to live as long as the process
(https://docs.sqlalchemy.org/en/20/core/connections.html#basic-usage). Made per request, every
request pays for a new connection. ``pool_pre_ping`` is added because a connection from a pool,
other than a new one, may have been closed by the server in the meantime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import CACHES, Inputs, is_constant
from mega_optimizer.codemods.database.hazards import disposes, forks_after_import, hazard
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.object_life import made_per_request
from mega_optimizer.codemods.program import Definition, Program
from mega_optimizer.codemods.request_paths import runs_before_fork, runs_per_request
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import is_migration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.python import Call, Function, PythonFacts

CREATE_ENGINE = (
    "sqlalchemy.create_engine",
    "sqlalchemy.engine.create_engine",
    "sqlmodel.create_engine",
    "sqlalchemy.ext.asyncio.create_async_engine",
)
OWN_POOLS = ("poolclass", "pool", "creator", "async_creator", "module", "strategy")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each module that makes engines in functions, skips where it may not."""
    program = context.program
    for path in program.containing(rb"\bcreate_(async_)?engine\b", program.product, b"engine"):
        facts = context.python(path)
        if isinstance(facts, Problem):
            yield Skip(Place(path, facts.line), facts.code, facts.message)
            continue
        qualified: list[Call] = []
        for call in facts.called(*CREATE_ENGINE):
            if not call.scope or is_cached(facts, call):
                continue
            objection = _objection(context, program, facts, call)
            if objection is None:
                qualified.append(call)
            else:
                yield objection
        if qualified:
            yield from _rewrite(context, facts, qualified)


def is_cached(facts: PythonFacts, call: Call) -> bool:
    """Whether the function around a call keeps what it returns."""
    function = facts.function(call.scope)
    return function is not None and any(
        each.text.rpartition(".")[2] in CACHES for each in function.decorators
    )


def _objection(context: Context, program: Program, facts: PythonFacts, call: Call) -> Skip | None:
    place = Place(facts.path, call.line, call.column)
    if is_migration(facts.path):
        return Skip(place, "migration", "migrations run once, with an engine of their own")
    function = facts.function(call.scope)
    if function is None:
        return Skip(place, "shape-not-known", "stands in a class body, or in one of many functions")
    objection = _local_objection(program, facts, function, call, place)
    if objection is not None:
        return objection
    inputs = Inputs()
    constant = not call.unpacks and all(
        is_constant(program, facts, each.value, call.scope, inputs) for each in call.arguments
    )
    if not constant or not call.arguments:
        reason = "the arguments may differ from call to call"
        return Skip(place, "arguments-not-constant", reason)
    here = Definition(facts.path, call.scope)
    if disposes(program, here):
        return Skip(place, "disposed", "a caller disposes of the engine")
    objection = hazard(context, program, call, inputs, place)
    if not objection and runs_before_fork(
        program, here, after_import=forks_after_import(context, program)
    ):
        reason = "workers that are forked after the first use of the engine would share it"
        objection = Skip(place, "forked-after-import", reason)
    if not runs_per_request(program, here):
        reason = f"no route, dependency or task was seen to use {call.scope}"
        return Skip(place, "not-per-request", reason, None if objection else facts.path)
    return objection


def _local_objection(
    program: Program, facts: PythonFacts, function: Function, call: Call, place: Place
) -> Skip | None:
    """Return what the function itself says against sharing its engine."""
    own = next((name for name in OWN_POOLS if call.argument(name) is not None), None)
    if own is not None:
        return Skip(place, "own-pool", f"{own}= says how connections are to be made")
    targets = [
        each.target
        for each in facts.assignments
        if each.scope == call.scope and each.value == call.value
    ]
    kept = any("." in target for target in targets)
    if kept and _object_ends_with_request(program, facts, call, targets):
        return None
    if function.global_names or kept:
        return Skip(place, "engine-kept", "the engine is kept beyond the call already")
    variable = targets[0] if targets else None
    if variable is not None and any(
        each.scope == call.scope and each.value is not None and each.value.text == variable
        for each in facts.stores
    ):
        return Skip(place, "engine-kept", "the engine is kept beyond the call already")
    for other in facts.calls:
        if other.scope != call.scope:
            continue
        if other.text.endswith(".dispose"):
            return Skip(place, "disposed", "the engine is disposed of after use")
        if variable is not None and any(a.value.text == variable for a in other.arguments):
            callee = program.definition(facts.path, other.name)
            home = program.facts(callee.path) if callee is not None else None
            if callee is not None and home is not None and _disposes(home, callee.name):
                return Skip(place, "disposed", f"{callee.name} disposes of the engine")
    return None


def _object_ends_with_request(
    program: Program, facts: PythonFacts, call: Call, targets: list[str]
) -> bool:
    """Whether the engine is kept by an object that a request makes and drops, as it was made."""
    owner, _, method = call.scope.rpartition(".")
    target = targets[0]
    return (
        method == "__init__"
        and len(targets) == 1
        and target.startswith("self.")
        and any(each.path == owner for each in facts.classes)
        and sum(each.text == target for each in facts.stores) == 1
        and next(program.containing(rb"\.dispose\(", program.product, b"dispose"), None) is None
        and made_per_request(program, facts.path, owner)
    )


def _disposes(facts: PythonFacts, scope: str) -> bool:
    return any(each.scope == scope and each.text.endswith(".dispose") for each in facts.calls)


def _rewrite(context: Context, facts: PythonFacts, calls: list[Call]) -> Iterator[Outcome]:
    from mega_optimizer.codemods.database.engine_kind import ENGINE
    from mega_optimizer.codemods.shared_object import sharing

    yield from sharing(context, facts, calls, ENGINE, "share one engine between requests")
