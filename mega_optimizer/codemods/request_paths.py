"""Which functions run for a request: found backwards, from a function to those that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.program import Definition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, Function, PythonFacts

# Decorators that make a function run once per request, message or task.
ENTRY_DECORATORS = frozenset(
    {
        "route", "get", "post", "put", "delete", "patch", "head", "options", "api_route",
        "websocket", "websocket_route", "middleware", "exception_handler", "before_request",
        "after_request", "errorhandler", "task", "shared_task", "actor",
    }
)  # fmt: skip
VIEW_BASES = frozenset(
    {"Resource", "MethodView", "View", "APIView", "RequestHandler", "BaseHTTPMiddleware"}
)
REGISTRATIONS = frozenset(
    {
        "add_api_route", "add_api_websocket_route", "add_url_rule", "add_route", "add_resource",
        "add_middleware", "add_exception_handler",
    }
)  # fmt: skip
# Methods that so many classes have that a call of one by its name alone says nothing.
COMMON_METHODS = frozenset(
    {
        "get", "set", "add", "put", "post", "delete", "patch", "head", "send", "call", "run",
        "open", "close", "start", "stop", "read", "write", "update", "load", "save", "pop", "keys",
        "items", "values", "copy", "clear", "execute", "connect", "request", "fetch", "process",
        "create", "find", "filter", "list", "search", "index", "count", "format", "join", "parse",
    }
)  # fmt: skip
DEPENDENCIES = frozenset({"Depends", "Security"})
# https://docs.gunicorn.org/en/stable/settings.html#server-hooks
MASTER_HOOKS = frozenset({"on_starting", "on_reload", "when_ready", "pre_fork", "pre_exec"})
# https://docs.celeryq.dev/en/stable/userguide/signals.html
WORKER_SIGNALS = ("worker_process_", "task_", "before_task_", "after_task_")
RUNNING = rb"\b(?:asyncio|anyio|uvloop|trio)\.run\(|\brun_until_complete\("
LIMIT = 200  # functions looked at; who needs more is not on a short way from a request
COMMON = 40  # modules that hold a name; one in more of them leads everywhere and shows nothing
COMMON_NAME = 12  # the same for the bare name of a method, which proves less
# Stands for the users of such a name.
LOST = Definition("", "")


def runs_per_request(
    program: Program, start: Definition, *, by_name: bool = False, unknown: bool = False
) -> bool:
    """Whether a route, dependency, view or task uses the function ``start``, through others too.

    An approximation by names: what is called through variables is not seen, but for methods, which
    ``by_name`` counts as used wherever one of their name is called on anything. That is enough
    for rules that are right off the way of a request too, only of less use. ``unknown`` is the
    answer where no way was seen, but a name on it is too common to be followed.
    """
    lost = False
    for target in _ways_to(program, start, by_name=by_name):
        if target is LOST:
            lost = True
            continue
        facts = program.facts(target.path) if target is not None else None
        if target is None or (facts is not None and _is_entry(facts, target)):
            return True
    return lost and unknown


def runs_alone(program: Program, start: Definition) -> bool:
    """Whether an event loop is started for the coroutine ``start``, and no request uses it."""
    word = start.name.rpartition(".")[2].encode()
    for path in program.containing(RUNNING, program.product, word):
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            if call.text.rpartition(".")[2] not in ("run", "run_until_complete"):
                continue
            if any(program.definition(path, each.value.name) == start for each in call.arguments):
                return not runs_per_request(program, start, by_name=True)
    return False


def runs_before_fork(program: Program, start: Definition, *, after_import: bool) -> bool:
    """Whether ``start`` runs, through others too, before a server or worker pool forks.

    That is in a hook of gunicorn's master process; where the fork comes ``after_import``, also
    while a module is imported, or in a receiver of one of Celery's signals that is neither sent
    by a worker process nor for a task.
    """
    for target in _ways_to(program, start):
        if target is None:
            continue
        if target is LOST or target.name in MASTER_HOOKS:
            return True
        home = program.facts(target.path) if after_import else None
        if home is None:
            continue
        if _hears_signals(home, target):
            return True
        if _method_runs_at_import(program, home, target):
            return True
        for path in program.with_word(target.name.partition(".")[0]):
            facts = program.facts(path)
            if facts and any(
                not call.scope and _means(program, facts, "", call.text, target)
                for call in facts.calls
            ):
                return True
    return False


def _ways_to(
    program: Program, start: Definition, *, by_name: bool = False
) -> Iterator[Definition | None]:
    """Yield ``start`` and all functions that lead to it; None where a framework calls one."""
    seen = {start}
    waiting = [start]
    while waiting and len(seen) < LIMIT:
        target = waiting.pop()
        yield target
        if target is LOST:
            continue
        for user in users(program, target, by_name=by_name):
            if user is None:
                yield None
            elif user not in seen:
                seen.add(user)
                waiting.append(user)


def users(
    program: Program, target: Definition, *, by_name: bool = False
) -> Iterator[Definition | None]:
    """Yield the functions that use ``target``; None where a framework calls it per request.

    ``by_name`` is that of :func:`runs_per_request`. ``LOST`` stands for users too many to follow.
    """
    owner, _, last = target.name.rpartition(".")
    word = owner.rpartition(".")[2] or last
    home = program.facts(target.path)
    is_method = home is not None and any(each.path == owner for each in home.classes)
    if is_method and home is not None:
        for scope, texts in home.loads.items():
            if scope.startswith(f"{owner}.") and not texts.isdisjoint(
                (f"self.{last}", f"cls.{last}")
            ):
                yield Definition(target.path, scope)
        if any(
            _registers(call) and any(each.value.text == f"self.{last}" for each in call.arguments)
            for call in home.calls
            if call.scope.startswith(f"{owner}.")
        ):
            yield None
        if by_name and last not in COMMON_METHODS and not last.startswith("_"):
            yield from _users_by_name(program, last)
    wanted = Definition(target.path, owner) if is_method else target
    paths = program.with_word(word)
    if len(paths) > COMMON:
        yield LOST
        return
    for path in paths:
        facts = program.facts(path)
        if facts is None:
            continue
        for call in facts.calls:
            if _registers(call) and any(
                _means(program, facts, call.scope, each.value.text, wanted)
                for each in call.arguments
            ):
                yield None
        for scope, texts in facts.loads.items():
            if scope and any(_means(program, facts, scope, text, wanted) for text in texts):
                yield Definition(path, scope)
        if is_method:
            yield from _instance_users(program, facts, wanted, last)


def _registers(call: Call) -> bool:
    last = call.text.rpartition(".")[2]
    return last in DEPENDENCIES or last in REGISTRATIONS


def _means(program: Program, facts: PythonFacts, scope: str, text: str, wanted: Definition) -> bool:
    if wanted.name.rpartition(".")[2] not in text.split("."):
        # an alias is rare enough to be left out: the word itself must stand there
        return False
    root, dot, rest = text.partition(".")
    local = next((i for i in facts.imports if i.scope == scope and i.bound == root), None)
    name = f"{local.target}{dot}{rest}" if local is not None else facts.resolve(text)
    found = program.definition(facts.path, name)
    if found is None:
        return False
    return found == wanted or (
        found.path == wanted.path and found.name.startswith(f"{wanted.name}.")
    )


def _instance_users(
    program: Program, facts: PythonFacts, wanted: Definition, method: str
) -> Iterator[Definition]:
    """Yield functions that call a method of an object of the class.

    That is of one that a module keeps, of another module's too, or of a parameter that is
    annotated with the class.
    """
    for each in facts.functions:
        for parameter in each.parameters:
            kind = parameter.annotation
            text = f"{parameter.name}.{method}"
            if (
                kind is not None
                and text in facts.loads.get(each.path, ())
                and _means(program, facts, each.path, kind.text, wanted)
            ):
                yield Definition(facts.path, each.path)
    for kept in _instances(program, facts, wanted):
        for scope, path in _method_uses(program, kept, method):
            if scope:
                yield Definition(path, scope)


def _instances(program: Program, facts: PythonFacts, wanted: Definition) -> Iterator[Definition]:
    """Yield the variables of a module that hold an object of the class from import on."""
    for each in facts.assignments:
        made = each.value.kind == "call" and not each.scope and "." not in each.target
        if made and _means(program, facts, "", each.value.text, wanted):
            yield Definition(facts.path, each.target)


def _method_uses(program: Program, instance: Definition, method: str) -> Iterator[tuple[str, str]]:
    """Yield (scope, path) where a method of an object that a module keeps is used."""
    for path in program.with_word(instance.name):
        facts = program.facts(path)
        for scope, texts in facts.loads.items() if facts else ():
            for text in texts:
                owner, _, last = text.rpartition(".")
                if facts and last == method and _is(program, facts, owner, instance):
                    yield scope, path


def _method_runs_at_import(program: Program, facts: PythonFacts, target: Definition) -> bool:
    owner, _, method = target.name.rpartition(".")
    if not any(each.path == owner for each in facts.classes):
        return False
    return any(
        not scope
        for kept in _instances(program, facts, Definition(target.path, owner))
        for scope, _ in _method_uses(program, kept, method)
    )


def _is(program: Program, facts: PythonFacts, text: str, wanted: Definition) -> bool:
    return program.definition(facts.path, facts.resolve(text)) == wanted


def _users_by_name(program: Program, method: str) -> Iterator[Definition]:
    """Yield functions that call a method of that name on a variable."""
    paths = program.with_word(method)
    if len(paths) > COMMON_NAME:
        yield LOST
        return
    for path in paths:
        facts = program.facts(path)
        for scope, texts in facts.loads.items() if facts else ():
            if scope and any(text.endswith(f".{method}") for text in texts):
                yield Definition(path, scope)


def _is_entry(facts: PythonFacts, target: Definition) -> bool:
    function = facts.function(target.name)
    if function is None:
        return False
    return any(_last(each.text) in ENTRY_DECORATORS for each in function.decorators) or _is_view(
        facts, function
    )


def _hears_signals(facts: PythonFacts, target: Definition) -> bool:
    function = facts.function(target.name)
    return function is not None and any(
        _last(each.text) == "connect" and not _last(each.text[:-8]).startswith(WORKER_SIGNALS)
        for each in function.decorators
    )


def _is_view(facts: PythonFacts, function: Function) -> bool:
    owner = function.path.rpartition(".")[0]
    return any(
        each.path == owner and any(_last(base.text) in VIEW_BASES for base in each.bases)
        for each in facts.classes
    )


def _last(text: str) -> str:
    return text.rpartition(".")[2]
