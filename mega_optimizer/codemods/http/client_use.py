"""What the code does with a client that it has made for itself, and may not do to a shared one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.bodies import position
from mega_optimizer.codemods.database.constants import strings
from mega_optimizer.codemods.dependents import dependents
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.http.clients import HARMLESS, REQUESTS, Client
from mega_optimizer.codemods.program import Definition
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.bodies import Bodies
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, Function, PythonFacts, Value

CLOSING = frozenset({"close", "aclose", "detach"})
SIGN_IN = re.compile(r"(?i)log[-_ ]?in\b|sign[-_ ]?in\b|csrf|xsrf|session[-_]?id")
GATHERING = frozenset({"gather", "create_task", "ensure_future", "wait_for", "wait", "start_soon"})
READING = re.compile(r"\.(?:json|text|read|release)$")
ITERATING = re.compile(r"(?:^|\.)(?:a?iter_\w+|iter_chunk\w*|readline|readany)$")
DEPTH = 4
LONG = 300  # seconds


def use_objection(
    program: Program, facts: PythonFacts, call: Call, client: Client, standing: Bodies
) -> Skip | None:
    """Return what speaks against sharing the client that ``call`` makes, as the code uses it.

    Skip codes: ``client-changed``, ``client-closed``, ``client-handed-on``, ``cookie-state``,
    ``holds-connection``, ``redirects-anywhere``, ``response-not-released``.
    """
    place = Place(facts.path, call.line, call.column)
    bound = standing.entered[position(call)].bound
    if bound is None:
        return None
    objection = _objection(program, facts, call.scope, bound, place, DEPTH)
    if objection is not None:
        return objection
    function = facts.function(call.scope)
    requests = list(_requests(facts, call.scope, bound))
    if function is not None and function.is_generator and _streams(facts, function, requests):
        reason = f"{call.scope} streams: it would hold a connection of the pool for long"
        return Skip(place, "holds-connection", reason)
    open_ended = next(
        (each for each in requests if _stays_open(facts, each, client, standing)), None
    )
    if open_ended is not None:
        reason = f"nothing gives the connection of {open_ended.text} back to the pool"
        return Skip(place, "response-not-released", reason)
    if len(requests) > 1 and any(
        SIGN_IN.search(text) for each in requests for text in strings(each.value)
    ):
        reason = "it seems to sign in: its requests may depend on the cookies of earlier ones"
        return Skip(place, "cookie-state", reason)
    follows = client.follows_redirects or _is_true(call.argument("follow_redirects"))
    reads_json = any(each.text.endswith(".json") for each in _calls(facts, call.scope))
    if not reads_json and any(_goes_anywhere(facts, each, follows) for each in requests):
        reason = "follows redirects from any URL, which may need the cookies set on the way"
        return Skip(place, "redirects-anywhere", reason)
    return None


def waits_long(program: Program, facts: PythonFacts, call: Call, bound: str | None) -> bool:
    """Whether requests of the client may wait so long that a hundred of them could add up."""
    requests = _requests(facts, call.scope, bound) if bound else ()
    given = [each.argument("timeout") for each in (call, *requests)]
    return any(
        each is not None
        and (_is_long(program, facts, each) or (each is given[0] and _is_open(facts, call, each)))
        for each in given
    )


def _is_open(facts: PythonFacts, call: Call, timeout: Value) -> bool:
    """Whether nothing says how long ``timeout``, which goes with the requests, will be."""
    if timeout.kind != "name":
        return False
    root = timeout.text.partition(".")[0]
    local = facts.assigned(root, call.scope)
    if local is not None:
        return _is_open(facts, call, local)
    return root in ("self", "cls") or facts.resolve(root) is None


def _is_long(program: Program, facts: PythonFacts, timeout: Value) -> bool:
    if timeout.kind == "constant":
        seconds = timeout.constant
        return seconds is None or (isinstance(seconds, int | float) and seconds >= LONG)
    if timeout.kind == "name":
        found = program.definition(facts.path, timeout.name)
        home = program.facts(found.path) if found is not None else None
        value = home.assigned(found.name) if home is not None and found is not None else None
        return value is not None and value.kind != "name" and _is_long(program, facts, value)
    if timeout.kind == "binary":  # 3 * 3600
        return True
    return timeout.kind == "call" and any(
        _is_long(program, facts, each.value) for each in timeout.arguments
    )


def _objection(
    program: Program, facts: PythonFacts, scope: str, name: str, place: Place, depth: int
) -> Skip | None:
    """Return what the function ``scope`` does to the client ``name`` that forbids sharing it."""
    for text in _loads(facts, scope, name):
        attribute = text.removeprefix(f"{name}.").partition(".")[0]
        if attribute in CLOSING:
            return Skip(place, "client-closed", f"{scope} closes the client itself")
        if "cookie" in attribute:
            return Skip(place, "cookie-state", f"{scope} reads or sets cookies of the client")
        if text != name and attribute not in HARMLESS:
            return Skip(
                place, "client-changed", f"{scope} uses {text}, which may change the client"
            )
    for store in facts.stores:
        within = store.scope == scope or store.scope.startswith(f"{scope}.")
        if within and store.text.partition(".")[0] == name:
            return Skip(place, "client-changed", f"{scope} writes to {store.text}")
    if name not in _loads(facts, scope, name):
        return None
    handed = [call for call in _calls(facts, scope) if _place_of(call, name) is not None]
    function = facts.function(scope)
    injected = list(dependents(program, Definition(facts.path, scope)))
    if depth == 0 or not (handed or (function and function.is_generator and injected)):
        return Skip(place, "client-handed-on", f"{scope} hands the client on")
    for user, inner, given in injected:
        objection = _objection(program, user, inner, given, place, depth - 1)
        if objection is not None:
            return objection
    for call in handed:
        found = program.definition(facts.path, call.name)
        home = program.facts(found.path) if found is not None else None
        callee = home.function(found.name) if home is not None and found is not None else None
        where = _place_of(call, name)
        parameter = _parameter(callee, where) if callee is not None and where is not None else None
        if home is None or callee is None or parameter is None:
            if call.text.rpartition(".")[2] in GATHERING:
                continue
            return Skip(place, "client-handed-on", f"hands the client to {call.text}")
        objection = _objection(program, home, callee.path, parameter, place, depth - 1)
        if objection is not None:
            return objection
    return None


def _loads(facts: PythonFacts, scope: str, name: str) -> set[str]:
    return {
        text
        for inner, texts in facts.loads.items()
        if inner == scope or inner.startswith(f"{scope}.")
        for text in texts
        if text.partition(".")[0] == name
    }


def _calls(facts: PythonFacts, scope: str) -> Iterator[Call]:
    for call in facts.calls:
        if call.scope == scope or call.scope.startswith(f"{scope}."):
            yield call


def _requests(facts: PythonFacts, scope: str, name: str) -> Iterator[Call]:
    """Yield the calls that send a request with the client ``name``."""
    for call in _calls(facts, scope):
        receiver, _, method = call.text.rpartition(".")
        if receiver == name and method in REQUESTS:
            yield call


def _place_of(call: Call, name: str) -> int | str | None:
    """Return the position or keyword at which ``call`` is given the variable ``name``."""
    for number, each in enumerate(call.arguments):
        if each.value.kind == "name" and each.value.text == name and not each.star:
            return each.keyword or number
    return None


def _parameter(callee: Function, where: int | str) -> str | None:
    names = [each.name for each in callee.parameters]
    if isinstance(where, str):
        return where if where in names else None
    if names[:1] in (["self"], ["cls"]):
        names = names[1:]
    return names[where] if where < len(names) else None


def _stays_open(facts: PythonFacts, request: Call, client: Client, standing: Bodies) -> bool:
    """Whether nothing reads or closes the response, so that only closing the client would."""
    if position(request) in standing.entered:
        return False
    if client.package == "aiohttp":
        return not any(READING.search(each.text) for each in _calls(facts, request.scope))
    return _is_true(request.argument("stream"))


def _streams(facts: PythonFacts, function: Function, requests: list[Call]) -> bool:
    """Whether a generator yields while a request is under way."""
    return any(each.text.endswith(".stream") for each in requests) or any(
        ITERATING.search(call.text) for call in _calls(facts, function.path)
    )


def _is_true(value: Value | None) -> bool:
    return value is not None and value.constant is True


def _goes_anywhere(facts: PythonFacts, request: Call, follows: bool) -> bool:
    """Whether a request fetches a URL that is wholly a variable, and follows its redirects."""
    method = request.text.rpartition(".")[2]
    given = request.argument("follow_redirects") or request.argument("allow_redirects")
    if given is not None:
        follows = given.constant is not False
    positional = request.positional
    number = 1 if method in ("request", "stream") else 0
    url = request.argument("url") or (positional[number] if len(positional) > number else None)
    if not follows or method not in ("get", "request", "stream", "head") or url is None:
        return False
    root = url.text.partition(".")[0]
    known = root in ("self", "cls") or facts.resolve(root) is not None
    return url.kind == "name" and not known
