"""``time.sleep`` in a coroutine becomes ``await asyncio.sleep``.

``time.sleep`` holds up the event loop, and with it all other requests of the process
(https://docs.python.org/3/library/asyncio-dev.html#running-blocking-code).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.bodies import bodies, position
from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_alone
from mega_optimizer.codemods.source import Source, read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, PythonFacts

SLEEP = "time.sleep"
# What calls it or may, by its name or another one.
SLEEPING = (
    rb"\btime\s*\.\s*sleep\b|\bfrom[ \t]+time[ \t]+import\b|\bimport\b[^\n#]*\btime[ \t]+as\b"
)
REPLACED = rb"[\"'](?:[\w.]+\.)?(?:time\.)?sleep[\"']"


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each module whose coroutines sleep, skips where they may not be changed."""
    program = context.program
    coroutines = tuple(program.with_word("async"))
    for path in program.containing(SLEEPING, coroutines, b"time"):
        facts = context.python(path)
        content = context.read(path)
        if isinstance(facts, Problem) or isinstance(content, Problem):
            continue
        asleep = [call for call in facts.called(SLEEP) if _is_in_coroutine(facts, call)]
        source = read_source(path, content) if asleep else None
        if source is None or isinstance(source, Problem):
            continue
        fit: list[Call] = []
        for call in asleep:
            objection = _objection(program, facts, content, source, call)
            if objection is None:
                fit.append(call)
            else:
                yield objection
        if fit:
            place = Place(path, fit[0].line, fit[0].column)
            edits = partial(_edits, context, facts, tuple(fit))
            yield Fix(place, "sleep without holding up the event loop", edits)


def _is_in_coroutine(facts: PythonFacts, call: Call) -> bool:
    function = facts.function(call.scope)
    return function is not None and function.is_async


def _objection(
    program: Program, facts: PythonFacts, content: bytes, source: Source, call: Call
) -> Skip | None:
    from mega_optimizer.codemods.coroutine_edits import no_await

    place = Place(facts.path, call.line, call.column)
    if runs_alone(program, Definition(facts.path, call.scope)):
        return Skip(place, "runs-alone", "its event loop has nothing else to do")
    objection = no_await(facts, source, call)
    if objection is not None:
        return objection
    if position(call) not in bodies(facts.path, content).statements:
        return Skip(place, "shape-not-known", "its result is used")
    if call.unpacks or len(call.arguments) != 1:
        return Skip(place, "shape-not-known", "not called with one duration")
    replaced = next(program.containing(REPLACED, program.tests, b"sleep"), None)
    if replaced is not None:
        return Skip(place, "tests-replace-sleep", f"{replaced} puts something else for sleep")
    return None


def _edits(context: Context, facts: PythonFacts, calls: tuple[Call, ...]) -> Edits | Skip:
    from mega_optimizer.codemods.coroutine_edits import rewrite

    def change(source: Source, asyncio: str) -> Iterator[Edit]:
        for call in calls:
            node = source.call(call)
            if node is not None:
                start, end = source.range(node.func)
                yield Edit(facts.path, start, end, f"await {asyncio}.sleep".encode())

    roots = frozenset(call.text.partition(".")[0] for call in calls)
    return rewrite(context, facts, change, unused=roots)
