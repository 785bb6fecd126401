"""One set of parsed certificates for all HTTPX clients of a module.

Every client, and every ``httpx.get(…)``, reads and parses the certificates that it trusts, 20 ms of
CPU, though it may never speak TLS. ``verify=`` takes a context that was made once
(https://www.python-httpx.org/advanced/ssl/). ``httpx.create_ssl_context()`` is what a client calls
itself for ``verify=True``: the same certificates of certifi, or of SSL_CERT_FILE and SSL_CERT_DIR.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.bodies import bodies, position
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.http.clients import HTTPX, HTTPX_ASYNC
from mega_optimizer.codemods.http.kept_answers import is_kept
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_per_request
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import python_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, PythonFacts

PATTERN = (
    rb"\bhttpx\.(?:get|post|put|patch|delete|head|options|request|stream)\s*\(|"
    rb"\b(?:httpx\.|Async)Client\s*\("
)
LITERALS = (b"httpx.", b"AsyncClient")
FUNCTIONS = frozenset(
    f"httpx.{each}"
    for each in ("get", "post", "put", "patch", "delete", "head", "options", "request", "stream")
)
MAKING = FUNCTIONS | set(HTTPX.names) | set(HTTPX_ASYNC.names)
# Arguments that choose certificates, or make connections in a way of their own.
OWN = frozenset({"verify", "cert", "trust_env", "transport", "mounts", "app", "http2"})
CERTIFICATES = (
    rb"[\"']SSL_CERT_(?:FILE|DIR)[\"']\s*(?:\]\s*=|,)|\binject_into_ssl\b|"
    rb"\bcreate_default_context\s*=[^=]"
)
CERTIFICATE_WORDS = (b"SSL_CERT_", b"inject_into_ssl", b"create_default_context")
REPLACED = rb"(?:patch|setattr|Mock)[^\n]*\bhttpx\b"
INDENT = 4  # of a function's body, which libcst leaves out
NAMES = ("ssl_context", "httpx_ssl_context", "shared_ssl_context")
MADE = "@{}(maxsize=1)\ndef {}() -> {}.SSLContext:\n    return httpx.create_ssl_context()\n"


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each module that makes HTTPX clients while it serves requests."""
    program = context.program
    for path in program.containing(PATTERN, program.product, *LITERALS):
        facts = context.python(path)
        if isinstance(facts, Problem):
            yield Skip(Place(path, facts.line), facts.code, facts.message)
            continue
        yield from _of_module(context, facts)


def _of_module(context: Context, facts: PythonFacts) -> Iterator[Outcome]:
    program = context.program
    content = context.read(facts.path)
    made = [call for call in facts.called(*MAKING) if call.scope]
    if not made or not isinstance(content, bytes):
        return
    entered = bodies(facts.path, content).entered
    calls: list[Call] = []
    for call in made:
        objection = _objection(facts, call)
        if objection is not None:
            yield objection
        elif call.name not in FUNCTIONS and position(call) not in entered:
            reason = "no with statement bounds the life of this client: it may be a shared one"
            yield Skip(Place(facts.path, call.line, call.column), "not-entered", reason)
        else:
            calls.append(call)
    if not calls:
        return
    place = Place(facts.path, calls[0].line, calls[0].column)
    objection = _surrounding_objection(program, facts, place)
    if objection is not None:
        yield objection
        return
    scopes = dict.fromkeys(call.scope for call in calls)
    asked = [each for each in scopes if not is_kept(program, facts, each)]
    if not asked:
        reason = f"what {calls[0].scope} fetches is kept: it runs once in a while"
        yield Skip(place, "answer-kept", reason)
        return
    if not any(runs_per_request(program, Definition(facts.path, each)) for each in asked):
        reason = f"no route, dependency or task was seen to use {calls[0].scope}"
        yield Skip(place, "not-per-request", reason)
        return
    message = "parse the trusted certificates once"
    yield Fix(place, message, partial(_edits, context, facts, tuple(calls)))


def _objection(facts: PythonFacts, call: Call) -> Skip | None:
    place = Place(facts.path, call.line, call.column)
    given = {each.keyword for each in call.arguments}
    if call.unpacks:
        return Skip(place, "arguments-hidden", "** may say which certificates to trust")
    if facts.function(call.scope) is None:
        return Skip(place, "shape-not-known", "stands in a class body, or in one of many functions")
    own = sorted(each for each in given if each in OWN)
    if own:
        return Skip(place, "own-certificates", f"{own[0]}= sets up its connections")
    if facts.resolve("httpx") != "httpx":
        reason = "httpx is not imported as a module at the top level"
        return Skip(place, "import-not-plain", reason)
    return None


def _surrounding_objection(program: Program, facts: PythonFacts, place: Place) -> Skip | None:
    for path in program.containing(CERTIFICATES, program.product, *CERTIFICATE_WORDS):
        reason = f"{path} says which certificates to trust, perhaps after this module was imported"
        return Skip(place, "certificates-set", reason)
    for path in program.containing(REPLACED, program.tests, b"httpx"):
        reason = f"{path} puts something else for httpx, which may not take verify="
        return Skip(place, "tests-replace-client", reason)
    if all(name in facts.bound_names for name in NAMES):
        return Skip(place, "name-taken", f"{NAMES[0]} means something else in this file")
    return None


def _edits(context: Context, facts: PythonFacts, calls: tuple[Call, ...]) -> Edits | Skip:
    import libcst as cst

    from mega_optimizer.codemods.imports import ensure_import, ensure_module
    from mega_optimizer.codemods.layout import inserted_above
    from mega_optimizer.codemods.python import edits_between, parse_module, replace_calls, skipped

    tree = context.tree(facts.path)
    content = context.read(facts.path)
    if isinstance(tree, Problem) or isinstance(content, Problem):
        return skipped(tree if isinstance(tree, Problem) else content)  # type: ignore[arg-type]
    place = Place(facts.path, calls[0].line)
    name = next(each for each in NAMES if each not in facts.bound_names)
    first = min(calls, key=lambda call: call.line).scope.partition(".")[0]
    cached = cst.parse_expression(f"{name}()")
    try:
        changed = replace_calls(
            tree,
            {call: partial(_verified, value=cached, column=call.column) for call in calls},
        )
        if changed is None:
            return Skip(place, "not-found-again", "a call could not be found again in the tree")
        imported = ensure_import(changed, facts, "functools", "lru_cache", _line(facts, first))
        if isinstance(imported, Skip):
            return imported
        changed, decorator = imported
        again, known = changed.bytes, python_facts(facts.path, changed.bytes)
        tree = parse_module(facts.path, again)
        if isinstance(tree, Problem) or isinstance(known, Problem):
            return skipped(tree if isinstance(tree, Problem) else known)  # type: ignore[arg-type]
        module = ensure_module(tree, known, "ssl", _line(known, first))
        if isinstance(module, Skip):
            return module
        made = cst.parse_statement(MADE.format(decorator, name, module[1]))
        result = inserted_above(module[0], first, [made])
        if result is None:
            return Skip(place, "not-found-again", f"{first} was not found again in the tree")
        return edits_between(facts.path, content, result)
    except RecursionError:
        return Skip(place, "too-deep", "is nested too deeply to be rewritten safely")


def _line(facts: PythonFacts, name: str) -> int:
    """Return the line of the top-level function or class ``name``."""
    lines = [each.line for each in facts.functions if each.path == name]
    lines += [each.line for each in facts.classes if each.path == name]
    return min(lines)


def _verified(call: cst.Call, value: cst.BaseExpression, column: int) -> cst.Call:
    import libcst as cst

    from mega_optimizer.codemods.python import LINE_LENGTH, one_per_line, with_keyword

    added = with_keyword(call, "verify", value, column)
    lines = cst.Module([]).code_for_node(added).split("\n")
    fits = max(map(len, lines[1:]), default=0) + INDENT <= LINE_LENGTH
    return added if fits or any("#" in line for line in lines) else one_per_line(added)
