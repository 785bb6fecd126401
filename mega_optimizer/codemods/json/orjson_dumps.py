"""``json.dumps(x)`` that becomes a response's body or a value in Redis → ``orjson.dumps(x)``.

orjson (https://github.com/ijl/orjson#serialize) writes no spaces, UTF-8 instead of escapes and null
for NaN. It refuses integers beyond 64 bits and other keys than strings: all leaves must be seen.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.json.dumps import dumps_of, modules_with_dumps
from mega_optimizer.codemods.json.orjson_edit import REQUIRES, orjson_edits
from mega_optimizer.codemods.json.shape import all_leaves, first_unknown, has_parsed, holds_many
from mega_optimizer.codemods.json.values import Values
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.codemods.json.dumps import Dump

EXACT = frozenset({"str", "bool", "none", "int64", "finite"})


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each module with calls that are proven, skips for the others."""
    program = context.program
    values = Values(program)
    for path in modules_with_dumps(program):
        proven: list[tuple[Dump, str]] = []
        for call, dump in dumps_of(context, values, path):
            if dump is None or call.keywords or len(call.args) != 1:
                continue
            objection = _objection(values, dump, Place(path, call.lineno, call.col_offset + 1))
            if objection is None:
                proven.append((dump, ""))
            else:
                yield objection
        if proven:
            place = Place(path, proven[0][0].call.lineno)
            message = f"write {proven[0][0].sink} with orjson"
            yield Fix(place, message, partial(orjson_edits, context, path, proven), REQUIRES)


def _objection(values: Values, dump: Dump, place: Place) -> Skip | None:
    shape = values.shape(dump.frame, dump.call.args[0])
    missing = first_unknown(shape)
    if missing:
        return Skip(place, "leaf-not-proven", f"it writes {missing}")
    if has_parsed(shape) or not all_leaves(shape) <= EXACT:
        reason = "it may write NaN, or an integer beyond 64 bits"
        return Skip(place, "number-not-bounded", reason)
    if not holds_many(shape):
        return Skip(place, "only-small-answers", "it writes a few values: nothing to win")
    return None
