"""``json.dumps(x, indent=2, sort_keys=True, default=str)`` → the same options of orjson.

As json/orjson-dumps, for calls with options and for numbers that may pass the limits of orjson.
``indent=2`` is ``OPT_INDENT_2``, ``sort_keys`` is ``OPT_SORT_KEYS``; ``ensure_ascii=False`` and
``separators=(",", ":")`` are what orjson does anyway (https://github.com/ijl/orjson#option).
"""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.json.dumps import dumps_of, modules_with_dumps
from mega_optimizer.codemods.json.orjson_dumps import EXACT
from mega_optimizer.codemods.json.orjson_edit import REQUIRES, orjson_edits
from mega_optimizer.codemods.json.shape import all_leaves, first_unknown, has_parsed, holds_many
from mega_optimizer.codemods.json.values import Values
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.codemods.json.dumps import Dump


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each module with calls whose options orjson has, skips for the others."""
    program = context.program
    values = Values(program)
    for path in modules_with_dumps(program):
        proven: list[tuple[Dump, str]] = []
        for call, dump in dumps_of(context, values, path):
            if dump is None or len(call.args) != 1:
                continue
            place = Place(path, call.lineno, call.col_offset + 1)
            options = _options(call)
            shape = values.shape(dump.frame, call.args[0])
            missing = first_unknown(shape)
            exact = not has_parsed(shape) and all_leaves(shape) <= EXACT
            if not call.keywords and (missing or exact):
                continue  # of json/orjson-dumps, or of none
            if options is None:
                reason = f"orjson has no option for {ast.unparse(call)}"
                yield Skip(place, "option-not-known", reason)
            elif missing:
                yield Skip(place, "leaf-not-proven", f"it writes {missing}")
            elif not holds_many(shape):
                reason = "it writes a few values: nothing to win"
                yield Skip(place, "only-small-answers", reason)
            else:
                proven.append((dump, options))
        if proven:
            place = Place(path, proven[0][0].call.lineno)
            message = f"write {proven[0][0].sink} with orjson"
            yield Fix(place, message, partial(orjson_edits, context, path, proven), REQUIRES)


def _options(call: ast.Call) -> str | None:
    """Return the options as orjson's, None where it has none of the kind."""
    options: list[str] = []
    default = ""
    for each in call.keywords:
        value = each.value.value if isinstance(each.value, ast.Constant) else ...
        match each.arg:
            case "indent" if value == 2:
                options.append("orjson.OPT_INDENT_2")
            case "sort_keys" if value is True:
                options.append("orjson.OPT_SORT_KEYS")
            case "default":
                # all leaves are JSON already: it is never called
                default = f"default={ast.unparse(each.value)}"
            case "indent" | "sort_keys" | "ensure_ascii" | "cls" | "skipkeys" if not value:
                continue
            case "allow_nan" | "check_circular":
                continue
            case "separators" if ast.unparse(each.value) == "(',', ':')":
                continue
            case _:
                return None
    option = f"option={' | '.join(options)}" if options else ""
    return ", ".join(each for each in (default, option) if each)
