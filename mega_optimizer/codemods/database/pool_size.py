"""A pool of SQLAlchemy that is as large as its process needs, within the connection budget.

By default a pool keeps 5 connections and opens 10 more for a moment
(https://docs.sqlalchemy.org/en/20/core/pooling.html#sqlalchemy.pool.QueuePool), while FastAPI
serves 40 plain routes or any number of async ones at the same time: those beyond wait, 30 seconds
at most. What all processes may open together has to stay below what the server takes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.budget import Budget, connection_budget
from mega_optimizer.codemods.database.constants import Inputs, is_constant
from mega_optimizer.codemods.database.engine_per_request import CREATE_ENGINE, OWN_POOLS, is_cached
from mega_optimizer.codemods.database.hazards import may_be_sqlite, tests_use_sqlite
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import is_migration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.repository.python import Call, PythonFacts

SIZE, OVERFLOW = 5, 10  # SQLAlchemy's defaults
THREADS = 40  # anyio's default limit, which Starlette's thread pool has


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each engine whose pool may grow, a skip where the budget is exceeded."""
    if not any(context.modules(b"create_engine", b"create_async_engine")):
        return
    if not context.launch and not context.service.deployments:
        return
    program = context.program
    for path in program.containing(rb"\bcreate_(async_)?engine\b", program.product, b"engine"):
        facts = context.python(path)
        if isinstance(facts, Problem) or is_migration(path) or facts.has_main_guard:
            continue
        for call in facts.called(*CREATE_ENGINE):
            outcome = _judge(context, facts, call)
            if outcome is not None:
                yield outcome


def _judge(context: Context, facts: PythonFacts, call: Call) -> Outcome | None:
    place = Place(facts.path, call.line, call.column)
    if call.unpacks or any(call.argument(name) is not None for name in OWN_POOLS):
        return None
    inputs = Inputs()
    for each in call.arguments:
        is_constant(context.program, facts, each.value, call.scope, inputs)
    sqlite = may_be_sqlite(context, context.program, inputs, place)
    if sqlite is not None:
        return sqlite
    if context.service.trait("postgres") is None:
        return Skip(place, "server-unknown", "nothing shows that the server is PostgreSQL")
    budget = connection_budget(context)
    if budget is None:
        return Skip(place, "workers-unknown", "how many processes serve cannot be read")
    given = [call.argument("pool_size"), call.argument("max_overflow")]
    sizes = [
        (each.constant if isinstance(each.constant, int) else None) if each else default
        for each, default in zip(given, (SIZE, OVERFLOW), strict=True)
    ]
    size, overflow = sizes
    if size is None or overflow is None:
        return None
    if budget.exceeds(size + overflow):
        return Skip(place, "budget-exceeded", budget.sum(size, overflow))
    if given[0] is not None or given[1] is not None:
        return None
    return _grown(context, facts, call, budget, place)


def _grown(
    context: Context, facts: PythonFacts, call: Call, budget: Budget, place: Place
) -> Outcome:
    demand = _demand(context)
    if demand <= SIZE + OVERFLOW:
        reason = f"a process serves {demand} requests at the same time, the pool has 15 connections"
        return Skip(place, "pool-large-enough", reason)
    if call.scope and not is_cached(facts, call):
        reason = "the engine is made in a function: how many pools there are is not known"
        return Skip(place, "engine-in-function", reason)
    wanted = int(context.parameters["size"])
    if not budget.fits(wanted + OVERFLOW):
        return Skip(place, "budget-too-small", budget.sum(wanted, OVERFLOW))
    sqlite = tests_use_sqlite(context, context.program, place)
    if sqlite is not None:
        return sqlite
    message = f"keep {wanted} connections: {budget.sum(wanted, OVERFLOW)}"
    return Fix(place, message, partial(_edits, context, facts, call, wanted, place))


def _demand(context: Context) -> int:
    """Return how many requests a process serves at the same time."""
    if context.service.trait("fastapi") or context.service.trait("starlette"):
        return THREADS
    threads = [site.option("--threads") for site in context.launch]
    return max([int(each) for each in threads if each and each.isdecimal()], default=1)


def _edits(
    context: Context, facts: PythonFacts, call: Call, size: int, place: Place
) -> Edits | Skip:
    import libcst as cst

    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.python import replace_calls, with_keyword

    draft = Draft(context)
    target = next(
        (
            each.target
            for each in facts.assignments
            if each.line <= call.line and not each.scope and each.value == call.value
        ),
        call.scope.partition(".")[0],
    )
    getenv = "os.getenv"
    if facts.bindings.get("os") != "os":
        added = draft.add_import(facts.path, "os", "getenv", above=target)
        if isinstance(added, Skip):
            return added
        getenv = added
    tree = draft.tree(facts.path)
    if isinstance(tree, Skip):
        return tree
    value = cst.parse_expression(f'int({getenv}("DB_POOL_SIZE", "{size}"))')
    changed = replace_calls(
        tree, {call: lambda node: with_keyword(node, "pool_size", value, call.column)}
    )
    if changed is None:
        return Skip(place, "not-found-again", "the call could not be found again in the tree")
    draft.put(facts.path, changed)
    return draft.edits()
