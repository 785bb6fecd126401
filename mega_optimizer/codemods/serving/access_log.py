"""Uvicorn's access log, where the service logs every request itself.

https://www.uvicorn.org/settings/#logging
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.launch_sites import with_words
from mega_optimizer.codemods.serving.surroundings import is_for_developers
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.python import PythonFacts

QUIET = frozenset({"warning", "error", "critical"})
CONFIGURED = ("--log-config", "--access-log")
LOGS = re.compile(r"(?:^|[._])(?:log|logger|logging|access)\.(?:info|warning|log|msg)$")


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each command with Uvicorn's access log beside one of the service's own."""
    for site in context.launch:
        if site.server != "uvicorn" or site.source == "python" or not site.words:
            continue
        if site.option("--no-access-log") is not None or site.option("--log-level") in QUIET:
            continue
        own = next(_own_logs(context), None)
        if own is None:
            return
        if is_for_developers(context, site):
            yield Skip(site.place, "for-developers", "this command is written for developers")
            continue
        if any(site.option(name) is not None for name in CONFIGURED):
            reason = "the log is configured elsewhere, or wanted"
            yield Skip(site.place, "log-configured", reason)
            continue
        last = len(site.words)
        last -= 1 if site.words[-1].text.startswith(("$@", "$*", "${@")) else 0
        yield Fix(
            site.place,
            f"Log every request once: the service does so itself ({own})",
            partial(with_words, context, site, last, last, ("--no-access-log",)),
        )


def _own_logs(context: Context) -> Iterator[Place]:
    """Yield the places at which middleware of the service logs a request."""
    program = context.program
    for path in program.containing(rb"\bcall_next\b|\basync def __call__\(", program.product):
        facts = program.facts(path)
        if facts is None:
            continue
        scopes = tuple(_middleware(facts))
        for call in facts.calls:
            if LOGS.search(call.text.lower()) and _is_inside(call.scope, scopes):
                yield Place(path, call.line)


def _middleware(facts: PythonFacts) -> Iterator[str]:
    for function in facts.functions:
        names = [parameter.name for parameter in function.parameters]
        pure = function.path.endswith(".__call__") and names[1:] == ["scope", "receive", "send"]
        if function.is_async and ("call_next" in names or pure):
            yield function.path


def _is_inside(scope: str, functions: tuple[str, ...]) -> bool:
    return any(scope == each or scope.startswith(f"{each}.") for each in functions)
