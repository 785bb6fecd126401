"""One Redis client for the process instead of one for each request.

A client of redis-py is a pool of connections, made to be shared by threads: each command takes a
connection out and puts it back (``redis/client.py``: ``execute_command``). The pool is also safe to
fork (``redis/connection.py``: ``ConnectionPool._checkpid``), and replaces connections that the
server has closed. That of ``redis.asyncio`` belongs to the event loop that opened its connections,
and hands out closed ones in redis-py 4 and, made by ``from_url``, in 8.1 (tried on a server that
was restarted).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import CACHES, Inputs, is_constant
from mega_optimizer.codemods.database.hazards import disposes, forks_after_import, varies
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.program import Definition, Program
from mega_optimizer.codemods.request_paths import runs_before_fork, runs_per_request, users
from mega_optimizer.repository.dependencies.allowed import holds
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.python import Call, Function, PythonFacts

PACKAGES = ("redis", "redis.client", "redis.asyncio", "redis.asyncio.client")
MAKERS = tuple(
    f"{package}.{name}"
    for package in PACKAGES
    for name in ("Redis", "StrictRedis", "from_url", "Redis.from_url", "StrictRedis.from_url")
)
RECONNECTS = ">=5,<8.1"  # versions of which an asyncio client notices that the server was restarted
CLOSING = (".close", ".aclose", ".disconnect", ".reset", ".connection_pool")
OWN_POOLS = {
    "connection_pool": "own-pool",
    "max_connections": "bounded-pool",
    "single_connection_client": "own-pool",
    "auto_close_connection_pool": "own-pool",
}
# What stays with the connection that it was said on.
CONNECTION_STATE = (
    rb"\.(?:client_setname|client_tracking\w*|client_no_evict|client_reply|monitor)\("
    rb"|(?:redis|cache|client|conn\w*|\br)\.select\("
    rb"|execute_command\(\s*[\"'](?:SELECT|CLIENT|AUTH|MONITOR)\b"
)
REPLACED_IN_TESTS = frozenset({"redis", "strictredis", "from_url"})


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each module that makes clients in functions, skips where it may not."""
    if not any(context.modules(b"redis")):
        return
    program = context.program
    for path in program.containing(rb"\b(Strict)?Redis\b|\bfrom_url\b", program.product, b"redis"):
        facts = context.python(path)
        if isinstance(facts, Problem):
            yield Skip(Place(path, facts.line), facts.code, facts.message)
            continue
        qualified: list[Call] = []
        for call in facts.called(*MAKERS):
            if not call.scope or _is_cached(facts, call):
                continue
            objection = _objection(context, program, facts, call)
            if objection is None:
                qualified.append(call)
            else:
                yield objection
        if qualified:
            yield from _rewrite(context, facts, qualified)


def _is_cached(facts: PythonFacts, call: Call) -> bool:
    function = facts.function(call.scope)
    return function is not None and any(
        each.text.rpartition(".")[2] in CACHES for each in function.decorators
    )


def _is_asyncio(call: Call) -> bool:
    return ".asyncio." in (call.name or "")


def _reconnects(context: Context) -> bool:
    from packaging.specifiers import SpecifierSet

    return holds(context.dependencies, "redis", SpecifierSet(RECONNECTS)).answer == "holds"


def _objection(context: Context, program: Program, facts: PythonFacts, call: Call) -> Skip | None:
    place = Place(facts.path, call.line, call.column)
    function = facts.function(call.scope)
    if function is None:
        return Skip(place, "shape-not-known", "stands in a class body, or in one of many functions")
    objection = _local_objection(context, program, facts, function, call, place)
    if objection is not None:
        return objection
    inputs = Inputs()
    constant = not call.unpacks and all(
        is_constant(program, facts, each.value, call.scope, inputs) for each in call.arguments
    )
    if not constant:
        return Skip(place, "arguments-not-constant", "the arguments may differ from call to call")
    here = Definition(facts.path, call.scope)
    if disposes(program, here, CLOSING):
        return Skip(place, "closed", "a caller closes the client, or the connections of its pool")
    stateful = next(program.containing(CONNECTION_STATE, program.product), None)
    if stateful is not None:
        reason = f"{stateful} leaves state in a connection, which the next request would find"
        return Skip(place, "connection-state", reason)
    loop_bound = "an asyncio client" if _is_asyncio(call) else None
    if loop_bound and not _reconnects(context):
        reason = f"only asyncio clients of redis{RECONNECTS} notice that the server was restarted"
        return Skip(place, "asyncio-reconnect", reason)
    objection = varies(program, inputs, place, loop_bound, REPLACED_IN_TESTS)
    if objection is None and loop_bound:
        after_import = forks_after_import(context, program)
        if runs_before_fork(program, here, after_import=after_import):
            reason = "workers that are forked after the first use of the client would share it"
            objection = Skip(place, "forked-after-import", reason)
    if not runs_per_request(program, here):
        reason = f"no route, dependency or task was seen to use {call.scope}"
        return Skip(place, "not-per-request", reason, None if objection else facts.path)
    return objection


def _local_objection(
    context: Context,
    program: Program,
    facts: PythonFacts,
    function: Function,
    call: Call,
    place: Place,
) -> Skip | None:
    """Return what the function itself says against sharing its client."""
    for keyword, code in OWN_POOLS.items():
        if call.argument(keyword) is not None:
            return Skip(place, code, f"{keyword}= says how connections are to be made")
    targets = [
        each.target
        for each in facts.assignments
        if each.scope == call.scope and each.value == call.value
    ]
    kept = [
        each
        for each in targets
        if "." in each
        and (
            not _is_request_scoped(facts, each) or _used_elsewhere(program, facts, each, call.scope)
        )
    ]
    variable = targets[0] if targets else None
    if (
        function.global_names
        or kept
        or any(
            each.scope == call.scope and each.value is not None and each.value.text == variable
            for each in facts.stores
        )
    ):
        return Skip(place, "client-kept", "the client is kept beyond the call already")
    if _opened_by_with(context, program, facts, call) or any(
        each.scope == call.scope and each.text.endswith(CLOSING) for each in facts.calls
    ):
        return Skip(place, "closed", "the client, or its pool, is closed after use")
    return None


def _is_request_scoped(facts: PythonFacts, target: str) -> bool:
    """Whether ``target`` is an attribute of Flask's ``g``, which lives as long as a request."""
    return facts.resolve(target.rpartition(".")[0]) in ("flask.g", "flask.globals.g")


def _used_elsewhere(program: Program, facts: PythonFacts, attribute: str, scope: str) -> bool:
    """Whether anything but the function itself uses the attribute of ``g``."""
    name = attribute.rpartition(".")[2]
    pattern = rb"\b" + attribute.encode() + rb"\b|(?:pop|get|hasattr)\([^)]*[\"']" + name.encode()
    for path in program.containing(pattern, (*program.product, *program.tests)):
        if path != facts.path:
            return True
    texts = (t for other, texts in facts.loads.items() if other != scope for t in texts)
    if any(text == attribute or text.startswith(f"{attribute}.") for text in texts):
        return True
    return any(
        call.text.endswith((".pop", ".get"))
        and any(a.value.constant == name for a in call.arguments)
        for call in facts.calls
        if call.text.rpartition(".")[0] == attribute.rpartition(".")[0]
    )


def _opened_by_with(context: Context, program: Program, facts: PythonFacts, call: Call) -> bool:
    """Whether a ``with`` statement closes the client: in its function, or in one that uses it.

    Leaving the block disconnects the pool, also the connections that other threads are using.
    """
    here = Definition(facts.path, call.scope)
    own_name = call.scope.rpartition(".")[2]
    places = {here, *(user for user in users(program, here) if user is not None)}
    for place in places:
        known = program.facts(place.path)
        if known is None:
            continue
        function = known.function(place.name)
        names = {each.name for each in function.parameters} if function and place != here else set()
        names |= {
            each.target
            for each in known.assignments
            if each.scope == place.name
            and (each.value == call.value or each.value.text.rpartition(".")[2] == own_name)
        }
        for entered in _entered(context, place.path):
            if isinstance(entered, ast.Name) and entered.id in names:
                return True
            if not isinstance(entered, ast.Call):
                continue
            position = (place.path, entered.lineno, entered.col_offset + 1)
            if position == (facts.path, call.line, call.column):
                return True
            if ast.unparse(entered.func).rpartition(".")[2] == own_name:
                return True
    return False


def _entered(context: Context, path: str) -> Iterator[ast.expr]:
    """Yield what the ``with`` statements of a module enter, without ``await``."""
    content = context.read(path)
    if not isinstance(content, bytes):
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                expression = item.context_expr
                yield expression.value if isinstance(expression, ast.Await) else expression


def _rewrite(context: Context, facts: PythonFacts, calls: list[Call]) -> Iterator[Outcome]:
    from mega_optimizer.codemods.database.redis_kind import CLIENT
    from mega_optimizer.codemods.shared_object import sharing

    yield from sharing(context, facts, calls, CLIENT, "share one Redis client between requests")
