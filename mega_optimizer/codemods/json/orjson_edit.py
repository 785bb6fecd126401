"""Replace ``json.dumps(…)`` by ``orjson.dumps(…)``: a call by its bytes, imports as they stand."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.codemods.json.dumps import Dump

REQUIRES = ("orjson>=3.10",)


def orjson_edits(context: Context, path: str, dumps: Sequence[tuple[Dump, str]]) -> Edits | Skip:
    """Return the edits of one module; with each call the options that it gets, as code."""
    from mega_optimizer.codemods.finding import Edit, apply_edits
    from mega_optimizer.codemods.imports import ensure_module, without_import
    from mega_optimizer.codemods.python import edits_between, parse_module, skipped
    from mega_optimizer.repository.python import python_facts

    content = context.read(path)
    facts = context.python(path)
    if isinstance(content, Problem) or isinstance(facts, Problem):
        return skipped(content if isinstance(content, Problem) else facts)  # type: ignore[arg-type]
    edits = []
    for dump, options in dumps:
        source = dump.frame.tree.source
        start, end = source.range(dump.whole)
        first, last = source.range(dump.call.args[0])
        value = content[first:last]
        if b"#" in content[start:end]:
            return Skip(Place(path, dump.call.lineno), "commented", "comments stand in the call")
        given = b", " + options.encode() if options else b""
        edits.append(Edit(path, start, end, b"orjson.dumps(" + value + given + b")"))
    changed = apply_edits(content, edits)
    tree, after = parse_module(path, changed), python_facts(path, changed)
    if isinstance(tree, Problem) or isinstance(after, Problem):
        return skipped(tree if isinstance(tree, Problem) else after)  # type: ignore[arg-type]
    place = Place(path, dumps[0][0].call.lineno)
    line = min(each.line for each in after.functions)
    try:
        added = ensure_module(tree, after, "orjson", line)
        if isinstance(added, Skip):
            return added
        result, name = added
        if name != "orjson":
            return Skip(place, "name-taken", f"orjson is imported as {name}")
        result = without_import(result, after, _bound(dumps[0][0].call))
        return edits_between(path, content, result)
    except RecursionError:
        return Skip(place, "too-deep", "is nested too deeply to be rewritten safely")


def _bound(call: ast.Call) -> str:
    """Return the local name by which a module calls ``dumps``."""
    return ast.unparse(call.func).partition(".")[0]
