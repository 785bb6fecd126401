"""Which functions run for a request: found backwards, from a function to those that use it."""

from __future__ import annotations

import re
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
        "websocket", "middleware", "exception_handler", "before_request", "after_request",
        "errorhandler", "task", "shared_task", "actor",
    }
)  # fmt: skip
VIEW_BASES = frozenset({"Resource", "MethodView", "View", "APIView", "RequestHandler"})
REGISTRATIONS = frozenset({"add_api_route", "add_url_rule", "add_route", "add_resource"})
DEPENDENCIES = frozenset({"Depends", "Security"})
# https://docs.gunicorn.org/en/stable/settings.html#server-hooks
MASTER_HOOKS = frozenset({"on_starting", "on_reload", "when_ready", "pre_fork", "pre_exec"})
# https://docs.celeryq.dev/en/stable/userguide/signals.html
WORKER_SIGNALS = ("worker_process_", "task_", "before_task_", "after_task_")
LIMIT = 500  # functions looked at; who needs more is not on a short way from a request


def runs_per_request(program: Program, start: Definition) -> bool:
    """Whether a route, dependency, view or task uses the function ``start``, through others too.

    An approximation by names: what is called through variables is not seen.
    """
    for target in _ways_to(program, start):
        facts = program.facts(target.path) if target is not None else None
        if target is None or (facts is not None and _is_entry(facts, target)):
            return True
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
        if target.name in MASTER_HOOKS:
            return True
        home = program.facts(target.path) if after_import else None
        if home is None:
            continue
        if _hears_signals(home, target):
            return True
        word = target.name.partition(".")[0].encode()
        for path in program.containing(rb"\b" + re.escape(word) + rb"\b", program.product, word):
            facts = program.facts(path)
            if facts and any(
                not call.scope and _means(program, facts, "", call.text, target)
                for call in facts.calls
            ):
                return True
    return False


def _ways_to(program: Program, start: Definition) -> Iterator[Definition | None]:
    """Yield ``start`` and all functions that lead to it; None where a framework calls one."""
    seen = {start}
    waiting = [start]
    while waiting and len(seen) < LIMIT:
        target = waiting.pop()
        yield target
        for user in users(program, target):
            if user is None:
                yield None
            elif user not in seen:
                seen.add(user)
                waiting.append(user)


def users(program: Program, target: Definition) -> Iterator[Definition | None]:
    """Yield the functions that use ``target``; None where a framework calls it per request."""
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
    wanted = Definition(target.path, owner) if is_method else target
    for path in program.containing(
        rb"\b" + re.escape(word.encode()) + rb"\b", program.product, word.encode()
    ):
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
    """Yield functions that call ``instance.method`` of a module-level instance of the class."""
    for each in facts.assignments:
        made = each.value.kind == "call" and not each.scope
        if made and _means(program, facts, "", each.value.text, wanted):
            text = f"{each.target}.{method}"
            for scope, texts in facts.loads.items():
                if scope and text in texts:
                    yield Definition(facts.path, scope)


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
