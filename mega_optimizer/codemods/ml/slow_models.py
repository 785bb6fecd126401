"""Load what is slow to load once, and lock what threads must not use at the same time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.hazards import varies
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.ml.holders import calls_each_other, crossing, holders_of
from mega_optimizer.codemods.ml.loading import Objection
from mega_optimizer.codemods.ml.loading_shapes import loading_of
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_per_request
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.ml.holders import Holder
    from mega_optimizer.codemods.ml.loading import Loading
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call, PythonFacts


def share_slow_models(
    context: Context,
    facts: PythonFacts,
    calls: list[Call],
    replaced: Callable[[Place], Skip | None],
    patched: frozenset[str],
) -> Iterator[Outcome]:
    """Yield one fix for the loads of a module that can be shared, skips for the others.

    ``replaced`` says what replaces the files of models while the service runs; ``patched`` are
    the words by which tests put something else in the place of a load.
    """
    content = context.read(facts.path)
    source = read_source(facts.path, content) if isinstance(content, bytes) else content
    if isinstance(source, Problem):
        yield Skip(Place(facts.path, source.line), source.code, source.message)
        return
    program = context.program
    sources = {facts.path: source}
    found: list[tuple[Loading, tuple[Holder, ...]]] = []
    done: set[str] = set()
    for call in calls:
        place = Place(facts.path, call.line, call.column)
        loading = loading_of(program, facts, source, call)
        if isinstance(loading, Objection):
            yield Skip(place, loading.code, loading.reason)
            continue
        if loading.is_factory and loading.scope in done:
            continue
        done.add(loading.scope if loading.is_factory else "")
        if not runs_per_request(program, Definition(facts.path, call.scope)):
            reason = f"no route, dependency or task was seen to use {call.scope}"
            yield Skip(place, "not-per-request", reason, facts.path)
            continue
        holders = holders_of(program, sources, loading)
        if isinstance(holders, Objection):
            yield Skip(place, holders.code, holders.reason)
            continue
        objection = crossing(program, holders) or calls_each_other(program, holders)
        if objection is not None:
            yield Skip(place, objection.code, objection.reason)
            continue
        hazard = replaced(place) or varies(program, loading.inputs, place, None, patched)
        if hazard is not None:
            yield hazard
            continue
        found.append((loading, holders))
    parts = {statement for loading, _ in found for statement in loading.copied}
    found = [each for each in found if parts.isdisjoint(each[0].moved)]  # they move with the whole
    if found:
        first = found[0][0].call
        locked = any(any(loading.taking_turns) for loading, _ in found)
        message = "load the model once for the process"
        message += ", and let threads take turns with it" if locked else ""
        edits = partial(_edits, context, facts, sources, tuple(found))
        yield Fix(Place(facts.path, first.line, first.column), message, edits)


def _edits(
    context: Context,
    facts: PythonFacts,
    sources: dict[str, Source],
    found: tuple[tuple[Loading, tuple[Holder, ...]], ...],
) -> Edits | Skip:
    from mega_optimizer.codemods.ml.shared_code import share

    return share(context, facts, sources, found)
