"""``FastAPI(...)`` below 0.130 answers with ``ORJSONResponse`` by default.

The default response class of an application applies to every route without one of its own
(https://fastapi.tiangolo.com/advanced/custom-response/). From 0.130 on response fields are
serialised by pydantic itself, so the rule's version gate ends there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.applications import (
    DEFAULT,
    FASTAPI,
    ambiguous_calls,
    answers_json,
    answers_little,
    read_application,
)
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.program import Program
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.repository.python import Call, PythonFacts

ORJSON = "fastapi.responses.ORJSONResponse"
REQUIRES = ("orjson>=3.10",)


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each application of the service that has no default response class."""
    program = context.program
    for path in program.containing(rb"\bFastAPI\b", program.product, b"FastAPI"):
        facts = context.python(path)
        if isinstance(facts, Problem):
            yield Skip(Place(path, facts.line), facts.code, facts.message)
            continue
        for each in facts.classes:
            if any(base.name in FASTAPI for base in each.bases):
                reason = f"{each.path} is a FastAPI of its own kind"
                yield Skip(Place(path, each.line), "subclassed", reason)
        for call in ambiguous_calls(facts):
            reason = "FastAPI may mean something else here (star import, rebinding)"
            yield Skip(Place(path, call.line), "ambiguous-name", reason)
        for call in facts.called(*FASTAPI):
            outcome = _judge(context, program, facts, call)
            if outcome is not None:
                yield outcome


def _judge(context: Context, program: Program, facts: PythonFacts, call: Call) -> Outcome | None:
    place = Place(facts.path, call.line, call.column)
    existing = call.argument(DEFAULT)
    if existing is not None:
        if existing.name == ORJSON:
            return None
        return Skip(place, "already-set", "the application has a default response class")
    if call.unpacks:
        return Skip(place, "arguments-hidden", "** may set the default response class")
    if any(store.text.endswith(f".{DEFAULT}") for store in facts.stores):
        return Skip(place, "already-set", "the default response class is assigned later")
    application = read_application(program, facts, call)
    affected = [
        each.route for each in application.routes if not each.classes and answers_json(each.route)
    ]
    if application.hidden is None and not affected:
        return Skip(place, "no-affected-route", "no route answers with the default response class")
    if application.hidden is None and all(answers_little(route) for route in affected):
        reason = "its JSON answers are small literals: a faster serialiser wins nothing"
        return Skip(place, "only-small-answers", reason)
    edits = partial(_edits, context, facts, call, place)
    return Fix(place, "answer with ORJSONResponse by default", edits, REQUIRES, beside="fastapi")


def _edits(context: Context, facts: PythonFacts, call: Call, place: Place) -> Edits | Skip:
    import libcst as cst

    from mega_optimizer.codemods.imports import ensure_import
    from mega_optimizer.codemods.python import edits_between, replace_calls, skipped, with_keyword

    tree = context.tree(facts.path)
    if isinstance(tree, Problem):
        return skipped(tree)
    try:
        added = ensure_import(tree, facts, "fastapi.responses", "ORJSONResponse", call.line)
        if isinstance(added, Skip):
            return added
        module, name = added
        changed = replace_calls(
            module, {call: lambda node: with_keyword(node, DEFAULT, cst.Name(name), call.column)}
        )
        if changed is None:
            return Skip(place, "not-found-again", "the call could not be found again in the tree")
        return edits_between(facts.path, tree.bytes, changed)
    except RecursionError:
        return Skip(place, "too-deep", "is nested too deeply to be rewritten safely")
