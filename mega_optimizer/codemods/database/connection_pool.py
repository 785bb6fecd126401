"""PostgreSQL connections from the pool of their driver instead of a new one for each request.

psycopg2 brings ``psycopg2.pool`` (https://www.psycopg.org/docs/pool.html), psycopg 3 has
``psycopg_pool`` (https://www.psycopg.org/psycopg3/docs/advanced/pool.html). A connection that is
opened and simply dropped is closed when it is collected; one from a pool must be given back on
every path. So only those shapes are rewritten in which a ``with`` or ``finally`` shows where a
connection ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.connection_shapes import Source, Usage, calls_of, usage
from mega_optimizer.codemods.database.constants import CACHES, Inputs, is_constant
from mega_optimizer.codemods.database.hazards import SESSION_STATE, forks_after_import, varies
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.object_life import lives_long
from mega_optimizer.codemods.program import Definition, Program
from mega_optimizer.codemods.request_paths import runs_before_fork, runs_per_request
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import is_migration

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.repository.python import Argument, Call, PythonFacts

DRIVERS = {
    "psycopg2.connect": "psycopg2",
    "psycopg.connect": "psycopg",
    "psycopg.Connection.connect": "psycopg",
}
WITHOUT_POOL = {
    "pymysql.connect": "PyMySQL has no pool of its own",
    "MySQLdb.connect": "mysqlclient has no pool of its own",
    "asyncpg.connect": "a pool of asyncpg has to be opened by the event loop that serves",
}
# What a borrower may leave behind in a connection, besides SQL.
STATE = (
    SESSION_STATE
    + rb"|\.autocommit\s*=|\.set_session\(|\.set_isolation_level\(|\.set_client_encoding\("
    rb"|\.isolation_level\s*=|\.add_notify_handler\(|\.row_factory\s*=|\bregister_hstore\("
)
REPLACED_IN_TESTS = frozenset({"psycopg2", "psycopg", "connect"})
TAKEN = frozenset(
    {"POOL_SIZE", "POOL_LIMIT", "_pool", "_pool_lock", "_connection", "_usable_connection"}
)
POOL_PACKAGE = "psycopg-pool>=3.2"


@dataclass(frozen=True, slots=True)
class _Opening:
    """A place that opens a connection in a known shape, with the places that use it."""

    call: Call
    place: Place
    usage: Usage
    callers: tuple[Usage, ...] = ()

    @property
    def commits(self) -> bool:
        """Whether a ``with`` of the connection ends its transaction."""
        uses = self.callers if self.usage.shape == "returned" else (self.usage,)
        return any(each.shape == "with" for each in uses)


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each module that connects per request, skips where it may not."""
    program = context.program
    pattern = rb"\b(?:psycopg2?|pymysql|MySQLdb|asyncpg)\b"
    for path in program.containing(pattern, program.product, b"connect"):
        facts = context.python(path)
        if isinstance(facts, Problem):
            yield Skip(Place(path, facts.line), facts.code, facts.message)
            continue
        yield from _without_pool(program, facts)
        yield from _in_module(context, program, facts)


def _without_pool(program: Program, facts: PythonFacts) -> Iterator[Skip]:
    for call in facts.called(*WITHOUT_POOL):
        if call.scope and runs_per_request(program, Definition(facts.path, call.scope)):
            place = Place(facts.path, call.line, call.column)
            yield Skip(place, "no-pool-to-use", WITHOUT_POOL[call.name or ""])


def _in_module(context: Context, program: Program, facts: PythonFacts) -> Iterator[Outcome]:
    calls = [call for call in facts.called(*DRIVERS) if call.scope]
    content = context.read(facts.path)
    if not calls or not isinstance(content, bytes) or is_migration(facts.path):
        return
    source = Source(content)
    openings: list[_Opening] = []
    for call in calls:
        found = _opening(context, program, facts, source, call)
        if isinstance(found, Skip):
            yield found
        elif found is not None:
            openings.append(found)
    if not openings:
        return
    first = openings[0]
    together: list[_Opening] = []
    for each in openings:
        alike = each.call.value == first.call.value and each.commits == first.commits
        returned = "returned" in (each.usage.shape, first.usage.shape)
        if each is first or (alike and not returned):
            together.append(each)
        else:
            yield Skip(each.place, "several-connections", "the module connects in other ways too")
    message = "take database connections from a pool"
    driver = DRIVERS[first.call.name or ""]
    needed = (POOL_PACKAGE,) if driver == "psycopg" and not _has_pool(context) else ()
    edits = partial(_edits, context, facts, source, together)
    yield Fix(first.place, message, edits, needed, beside=driver if needed else None)


def _has_pool(context: Context) -> bool:
    return any("pool" in each.extras for each in context.dependencies.declared("psycopg"))


def _opening(
    context: Context, program: Program, facts: PythonFacts, source: Source, call: Call
) -> _Opening | Skip | None:
    place = Place(facts.path, call.line, call.column)
    function = facts.function(call.scope)
    node = source.call(call)
    if function is None or node is None:
        return Skip(place, "shape-not-known", "stands in a class body, or in one of many functions")
    if any(each.text.rpartition(".")[2] in CACHES for each in function.decorators):
        return None
    here = Definition(facts.path, call.scope)
    if not runs_per_request(program, here):
        reason = f"no route, dependency or task was seen to use {call.scope}"
        return Skip(place, "not-per-request", reason)
    found = usage(source, node)
    opening = _Opening(call, place, found)
    if found.shape == "unclosed":
        reason = "the connection is not given up on every path: no with, no finally shows its end"
        return Skip(place, "not-closed-on-every-path", reason)
    if found.shape == "other" or function.is_async or function.global_names:
        return Skip(place, "shape-not-known", "the connection is kept, or outlives its block")
    if found.shape == "returned":
        callers = _callers(program, facts, source, call)
        if isinstance(callers, Skip):
            return callers
        opening = _Opening(call, place, found, tuple(callers))
    if DRIVERS[call.name or ""] == "psycopg":
        uses = opening.callers or (found,)
        if any(each.shape != "with" for each in uses):
            return Skip(place, "shape-not-known", "only connections in a with are known here")
    return _hazard(context, program, facts, call, place) or opening


def _callers(
    program: Program, facts: PythonFacts, source: Source, call: Call
) -> list[Usage] | Skip:
    """Return how the function around ``call`` is used, all uses in one known shape."""
    name = call.scope.rpartition(".")[2]
    function = facts.function(call.scope)
    place = Place(facts.path, call.line, call.column)
    definition = source.function(source.call(call) or source.tree)
    plain = function is not None and definition is not None
    if not plain or (function is not None and function.decorators):
        return Skip(place, "shape-not-known", "the function that connects has decorators")
    if definition is not None and len(definition.body) > 3:
        return Skip(place, "shape-not-known", "the function does more than connect")
    found: list[Usage] = []
    word = re.escape(name.encode())
    modules = (*program.product, *program.tests)
    for path in program.containing(rb"\b" + word + rb"\b", modules, name.encode()):
        other = source if path == facts.path else _source(program, path)
        if other is None:
            return Skip(place, "used-otherwise", f"{path} may use {name}, and cannot be read")
        for each in calls_of(other, name, call.text):
            used = usage(other, each) if each is not None else None
            if used is None or used.shape not in ("with", "closing"):
                unclosed = used is not None and used.shape == "unclosed"
                code = "not-closed-on-every-path" if unclosed else "used-otherwise"
                line = used.call.lineno if used is not None else 1
                return Skip(place, code, f"{path}, line {line}, has no with around {name}()")
            if other is not source and used.shape == "closing":
                return Skip(place, "used-otherwise", f"{path} closes the connection of {name}()")
            found.append(used)
    if len({each.shape for each in found}) != 1:
        return Skip(place, "used-otherwise", f"the uses of {name} differ")
    return found


def _source(program: Program, path: str) -> Source | None:
    content = program.read(path)
    return Source(content) if program.facts(path) is not None and content is not None else None


def _hazard(
    context: Context, program: Program, facts: PythonFacts, call: Call, place: Place
) -> Skip | None:
    inputs = Inputs()
    owner = _owner(facts, call)
    if not call.arguments or not all(
        _is_settled(program, facts, each, call.scope, inputs, owner) for each in call.arguments
    ):
        return Skip(place, "arguments-not-constant", "the arguments may differ from call to call")
    if any(each.value.name and f":{call.scope}." in each.value.name for each in call.arguments):
        return Skip(place, "shape-not-known", "uses names that only its function knows")
    stateful = next(program.containing(STATE, program.product), None)
    if stateful is not None:
        reason = f"{stateful} leaves state in a connection, which the next request would find"
        return Skip(place, "session-state", reason)
    objection = varies(program, inputs, place, None, REPLACED_IN_TESTS)
    here = Definition(facts.path, call.scope)
    after_import = forks_after_import(context, program)
    if objection is None and runs_before_fork(program, here, after_import=after_import):
        reason = "workers that are forked after the first use of the pool would share it"
        return Skip(place, "forked-after-import", reason)
    if objection is None and owner is not None and not lives_long(program, facts.path, owner):
        reason = f"{owner} is made per request, and its pool would be too"
        return Skip(place, "object-per-request", reason)
    return objection


def _owner(facts: PythonFacts, call: Call) -> str | None:
    """Return the class around ``call`` where an attribute of its object is an argument."""
    owner = call.scope.rpartition(".")[0]
    uses_self = any(each.value.text.startswith("self.") for each in call.arguments)
    return owner if uses_self and any(each.path == owner for each in facts.classes) else None


def _is_settled(
    program: Program,
    facts: PythonFacts,
    argument: Argument,
    scope: str,
    inputs: Inputs,
    owner: str | None,
) -> bool:
    """Whether an argument keeps its value: a constant, or an attribute that is set only once."""
    value = argument.value
    if not value.text.startswith("self."):
        return not argument.star and is_constant(program, facts, value, scope, inputs)
    stored = [each for each in facts.stores if each.text == value.text]
    made = [each for each in stored if each.scope == f"{owner}.__init__" and each.key is None]
    changed = any(
        call.text.startswith(f"{value.text}.") and call.text.endswith((".update", ".pop", ".clear"))
        for call in facts.calls
    )
    if owner is None or len(stored) != 1 or not made or changed:
        return False
    inputs.words.add(value.text.removeprefix("self."))
    return True


def _edits(
    context: Context, facts: PythonFacts, source: Source, openings: list[_Opening]
) -> Edits | Skip:
    import libcst as cst

    from mega_optimizer.codemods.database.pool_source import Plan, write
    from mega_optimizer.codemods.draft import Draft

    first = openings[0]
    if not TAKEN.isdisjoint(facts.bound_names):
        return Skip(first.place, "name-taken", "a name that the pool needs means something else")
    plan = Plan(
        DRIVERS[first.call.name or ""],
        tuple(each.usage for each in openings),
        tuple(each for opening in openings for each in opening.callers),
        _class_node(source, facts, first.call),
        any(each.commits for each in openings),
    )
    module = first.call.text.rpartition(".")[0]
    if not module:
        return Skip(first.place, "shape-not-known", "connect is imported without its module")
    known = facts.bindings.get("os") == "os"
    written = write(source, plan, module, "os.getenv" if known else "getenv")
    draft = Draft(context)
    tree = draft.tree(facts.path)
    if isinstance(tree, Skip):
        return tree
    draft.put(facts.path, cst.parse_module(written.content))
    imports = [*written.imports, *([] if known else [("os", "getenv")])]
    for package, name in sorted(imports):
        added = draft.add_import(facts.path, package, name, above=written.first)
        if isinstance(added, Skip):
            return added
        if added != name:
            return Skip(first.place, "name-taken", f"{name} is imported under another name")
    return draft.edits()


def _class_node(source: Source, facts: PythonFacts, call: Call) -> ast.ClassDef | None:
    import ast

    if _owner(facts, call) is None:
        return None
    found = source.around(source.call(call) or source.tree, ast.ClassDef)
    return found if isinstance(found, ast.ClassDef) else None
