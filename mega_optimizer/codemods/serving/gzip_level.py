"""``GZipMiddleware`` compresses at level 4 instead of 9, where nobody chose a level.

``compresslevel`` is an argument since Starlette 0.15, with 9 as its default
(https://www.starlette.io/middleware/#gzipmiddleware).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.repository.python import Call, PythonFacts

GZIP = frozenset(
    {"starlette.middleware.gzip.GZipMiddleware", "fastapi.middleware.gzip.GZipMiddleware"}
)
KEYWORD = "compresslevel"
# How many positional arguments may stand in front of the level: (app, minimum_size).
BEFORE_LEVEL = 2


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each use of the middleware that leaves its level open."""
    program = context.program
    for path in program.containing(rb"\bGZipMiddleware\b", program.product, b"GZipMiddleware"):
        facts = context.python(path)
        if isinstance(facts, Problem):
            yield Skip(Place(path, facts.line), facts.code, facts.message)
            continue
        for call in facts.calls:
            if _configures_gzip(call):
                outcome = _judge(context, facts, call)
                if outcome is not None:
                    yield outcome


def _configures_gzip(call: Call) -> bool:
    """Whether ``call`` is ``x.add_middleware(GZip…)``, ``Middleware(GZip…)`` or ``GZip…(app)``."""
    if call.name in GZIP:
        return True
    given = call.positional
    registers = call.text.rpartition(".")[2] in ("add_middleware", "Middleware")
    return registers and bool(given) and given[0].kind == "name" and given[0].name in GZIP


def _judge(context: Context, facts: PythonFacts, call: Call) -> Outcome | None:
    place = Place(facts.path, call.line, call.column)
    level = int(context.parameters["level"])
    given = call.argument(KEYWORD)
    if given is not None and given.constant == level:
        return None
    if given is not None or (call.name in GZIP and len(call.positional) > BEFORE_LEVEL):
        return Skip(place, "level-chosen", "somebody chose this level of compression")
    if call.unpacks:
        return Skip(place, "arguments-hidden", "the unpacked arguments may choose a level")
    edits = partial(_edits, context, facts, call, place, level)
    return Fix(place, f"Compress answers at level {level} instead of 9", edits)


def _edits(
    context: Context, facts: PythonFacts, call: Call, place: Place, level: int
) -> Edits | Skip:
    import libcst as cst

    from mega_optimizer.codemods.call_edits import change_calls
    from mega_optimizer.codemods.python import with_keyword

    content = context.read(facts.path)
    if isinstance(content, Problem):
        return Skip(place, content.code, content.message)
    value = cst.Integer(str(level))
    return change_calls(
        facts.path, content, {call: lambda node: with_keyword(node, KEYWORD, value, call.column)}
    )
