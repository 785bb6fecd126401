"""One requests.Session for the calls of a module, which keeps connections between them.

``requests.get(…)`` makes a session, sends one request and closes the connection: every call pays
for a connection, over HTTPS for a handshake and a parsed set of certificates, too
(https://requests.readthedocs.io/en/latest/user/advanced/#session-objects). The session here keeps
no cookies. Those that a redirect sets still go with the rest of the same call: each request has a
jar of its own for them (``SessionRedirectMixin.resolve_redirects``).
"""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.http.upstream import is_settled
from mega_optimizer.codemods.module_paths import reaches
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_before_fork, runs_per_request
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import python_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, PythonFacts

PATTERN = rb"\bimport\s+requests\b"
LITERALS = (b"import requests",)
# How many arguments a method of a session takes by position.
POSITIONAL = {
    "get": 1, "head": 1, "options": 1, "delete": 1, "post": 3, "put": 2, "patch": 2, "request": 4,
}  # fmt: skip
FUNCTIONS = {f"requests.{method}": method for method in POSITIONAL}
SESSIONS = ("requests.Session", "requests.session", "requests.sessions.Session")
FORKS = rb"\bos\.fork\(|\bmultiprocessing\b|\bProcessPoolExecutor\b"
FORK_WORDS = (b"os.fork", b"multiprocessing", b"ProcessPoolExecutor")
REPLACED = (
    rb"(?:patch|setattr|Mock)[^\n]*\brequests\b|"
    rb"[\"'](?:[\w.]+\.)?requests\.(?:get|head|options|delete|post|put|patch|request)[\"']|"
    rb"\brequests\.(?:get|head|options|delete|post|put|patch|request)\s*=[^=]|"
    rb"[\"'](?:[\w.]+\.)requests[\"']|\bimport vcr\b"
)
REPLACED_WORDS = (b"requests", b"vcr")
MODULES = 3  # that get a session of their own; more of them should have one in common
NAMES = ("_session", "_http_session", "_requests_session")
MADE = """\
# Keeps connections open from one request to the next, but no cookies.
{name} = {requests}.Session()
{name}.cookies.set_policy({policy}(allowed_domains=()))
{name}.mount("http://", {adapter}(pool_connections=10, pool_maxsize=40))
{name}.mount("https://", {adapter}(pool_connections=10, pool_maxsize=40))


"""


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each module that calls requests while it serves requests."""
    program = context.program
    fixes: list[Fix] = []
    for path in program.containing(PATTERN, program.product, *LITERALS):
        facts = context.python(path)
        if isinstance(facts, Problem):
            yield Skip(Place(path, facts.line), facts.code, facts.message)
            continue
        for outcome in _of_module(context, facts):
            if isinstance(outcome, Fix):
                fixes.append(outcome)
            else:
                yield outcome
    if len(fixes) <= MODULES:
        yield from fixes
        return
    for fix in fixes:
        reason = f"{len(fixes)} modules call requests: where their common session stands is design"
        yield Skip(fix.place, "many-modules", reason)


def _of_module(context: Context, facts: PythonFacts) -> Iterator[Outcome]:
    program = context.program
    calls: list[Call] = []
    for call in facts.called(*FUNCTIONS):
        if not call.scope:
            continue
        objection = _objection(program, facts, call)
        if objection is None:
            calls.append(call)
        else:
            yield objection
    if not calls:
        return
    place = Place(facts.path, calls[0].line, calls[0].column)
    objection = _surrounding_objection(program, facts, place)
    if objection is not None:
        yield objection
        return
    scopes = [Definition(facts.path, each) for each in dict.fromkeys(call.scope for call in calls)]
    if not any(runs_per_request(program, each) for each in scopes):
        reason = f"no route, dependency or task was seen to use {calls[0].scope}"
        yield Skip(place, "not-per-request", reason)
        return
    if any(runs_before_fork(program, each, after_import=True) for each in scopes):
        reason = "it is used while modules are imported: forked workers would share the connection"
        yield Skip(place, "forked-after-use", reason)
        return
    edits = partial(_edits, context, facts, tuple(calls))
    yield Fix(place, "keep the connections of requests open between requests", edits)


def _objection(program: Program, facts: PythonFacts, call: Call) -> Skip | None:
    place = Place(facts.path, call.line, call.column)
    function = facts.function(call.scope)
    if function is None:
        return Skip(place, "shape-not-known", "stands in a class body, or in one of many functions")
    if function.is_async:
        return Skip(place, "in-coroutine", "blocks the event loop: that comes first")
    if call.text.count(".") != 1 or facts.resolve(call.text) != call.name:
        reason = "requests is not imported as a module at the top level"
        return Skip(place, "import-not-plain", reason)
    if call.unpacks:
        return Skip(place, "arguments-hidden", "* or ** may say how to connect")
    own = next((each for each in ("verify", "cert", "stream") if call.argument(each)), None)
    if own == "stream":
        return Skip(place, "streams", "a response that is not read keeps its connection")
    if own is not None:
        reason = f"{own}= chooses certificates, which the connections of a session keep"
        return Skip(place, "own-certificates", reason)
    auth = call.argument("auth")
    if auth is not None and auth.kind != "collection":
        return Skip(place, "own-auth", "auth= may log in a connection, not a request")
    if len(call.positional) > POSITIONAL[FUNCTIONS[call.name or ""]]:
        return Skip(place, "positional", "a session takes fewer arguments by position")
    first = 1 if call.text.endswith(".request") else 0
    url = call.argument("url") or next(iter(call.positional[first:]), None)
    if url is None or not is_settled(program, facts, url, call.scope):
        return Skip(place, "host-varies", "the host may be another one in each call")
    return None


def _surrounding_objection(program: Program, facts: PythonFacts, place: Place) -> Skip | None:
    if facts.called(*SESSIONS):
        return Skip(place, "session-already", "this module makes a session of its own")
    if all(name in facts.bound_names for name in NAMES):
        return Skip(place, "name-taken", f"{NAMES[0]} means something else in this file")
    for path in program.containing(REPLACED, program.tests, *REPLACED_WORDS):
        reason = f"{path} puts something else for functions of requests"
        return Skip(place, "tests-replace-client", reason)
    for path in program.containing(FORKS, program.product, *FORK_WORDS):
        if path == facts.path or reaches(program, path, facts.path):
            reason = f"{path} starts processes, which would share open connections"
            return Skip(place, "forks", reason)
    return None


def _edits(context: Context, facts: PythonFacts, calls: tuple[Call, ...]) -> Edits | Skip:
    from mega_optimizer.codemods.imports import ensure_import
    from mega_optimizer.codemods.python import edits_between, parse_module, skipped

    path, place = facts.path, Place(facts.path, calls[0].line)
    content, tree = context.read(path), context.tree(path)
    if isinstance(tree, Problem) or isinstance(content, Problem):
        return skipped(tree if isinstance(tree, Problem) else content)  # type: ignore[arg-type]
    before = min(call.line for call in calls)
    used = []
    current = facts
    for module, name in (
        ("http.cookiejar", "DefaultCookiePolicy"),
        ("requests.adapters", "HTTPAdapter"),
    ):
        imported = ensure_import(tree, current, module, name, before)
        if isinstance(imported, Skip):
            return imported
        changed = imported[0].bytes
        used.append(imported[1])
        again, known = parse_module(path, changed), python_facts(path, changed)
        if isinstance(again, Problem) or isinstance(known, Problem):
            return skipped(again if isinstance(again, Problem) else known)  # type: ignore[arg-type]
        tree, current = again, known
    result = _with_session(current, changed, calls, used[0], used[1])
    if result is None:
        return Skip(place, "not-found-again", "a call could not be found again")
    return edits_between(path, content, result)


def _with_session(
    facts: PythonFacts, content: bytes, calls: tuple[Call, ...], policy: str, adapter: str
) -> bytes | None:
    """Return the file with a session above the first function that uses it, None where not."""
    wanted = {(call.text, call.scope, call.ordinal) for call in calls}
    found = [each for each in facts.calls if (each.text, each.scope, each.ordinal) in wanted]
    owners = {call.scope.partition(".")[0] for call in calls}
    at = _first_line(content, owners)
    if len(found) != len(calls) or at is None:
        return None
    name = next(each for each in NAMES if each not in facts.bound_names)
    lines = content.splitlines(keepends=True)
    for call in sorted(found, key=lambda each: (each.line, each.column), reverse=True):
        line, start = lines[call.line - 1], call.column - 1
        root = call.text.partition(".")[0].encode()
        if not line[start:].startswith(root + b"."):
            return None
        lines[call.line - 1] = line[:start] + name.encode() + line[start + len(root) :]
    package = found[0].text.partition(".")[0]
    made = MADE.format(name=name, requests=package, policy=policy, adapter=adapter).encode()
    newline = b"\r\n" if lines[0].endswith(b"\r\n") else b"\n"
    lines.insert(at, made.replace(b"\n", newline))
    return b"".join(lines)


def _first_line(content: bytes, owners: set[str]) -> int | None:
    """Return the index of the line above which a name must be bound to be known in ``owners``."""
    lines = content.splitlines()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for each in ast.parse(content).body:
        if isinstance(each, kinds) and each.name in owners:
            at = min([each.lineno, *(one.lineno for one in each.decorator_list)]) - 1
            while at and lines[at - 1].startswith(b"#"):
                at -= 1
            return at
    return None
