"""Change single calls without a tree of their whole module, which takes fifty times as long."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import libcst as cst

from mega_optimizer.codemods.finding import Edit, Skip, apply_edits
from mega_optimizer.codemods.python import edits_between, parse_module, replace_calls, skipped
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call

    Changes = Mapping[Call, Callable[[cst.Call], cst.BaseExpression]]

CODING = re.compile(rb"\A(?:[^\n]*\n)?[^\n]*coding[:=]")


def change_calls(path: str, content: bytes, changes: Changes) -> tuple[Edit, ...] | Skip:
    """Return the edits that put what ``changes`` make of calls in their place.

    Skip codes: those of :func:`parse_module`, ``not-found-again`` and ``too-deep``.
    """
    place = Place(path, min((call.line for call in changes), default=1))
    try:
        new = _each_alone(path, content, changes)
        if new is None:
            tree = parse_module(path, content)
            if isinstance(tree, Problem):
                return skipped(tree)
            whole = replace_calls(tree, changes)
            new = whole.bytes if whole is not None else None
    except RecursionError:
        return Skip(place, "too-deep", "is nested too deeply to be rewritten safely")
    if new is None:
        return Skip(place, "not-found-again", "the call could not be found again in the tree")
    return edits_between(path, content, new)


def _each_alone(path: str, content: bytes, changes: Changes) -> bytes | None:
    """Return the changed module; None where a call cannot be read without what is around it."""
    source = read_source(path, content)
    if isinstance(source, Problem) or (not content.isascii() and CODING.search(content)):
        return None  # columns are not bytes of the file
    ending = "\r\n" if b"\r\n" in content.partition(b"\n")[0] + b"\n" else "\n"
    edits: list[Edit] = []
    for call, change in changes.items():
        edit = _alone(source, path, call, change, ending)
        if edit is None:
            return None
        edits.append(edit)
    edits.sort(key=lambda edit: edit.start)
    if any(one.end > other.start for one, other in pairwise(edits)):
        return None  # one call is an argument of the other
    return apply_edits(content, edits)


def _alone(
    source: Source,
    path: str,
    call: Call,
    change: Callable[[cst.Call], cst.BaseExpression],
    ending: str,
) -> Edit | None:
    node = source.call(call)
    if node is None:
        return None
    start, end = source.range(node)
    text = source.content[start:end].decode()
    module = cst.Module([], default_newline=ending)
    try:
        parsed = cst.parse_expression(text, module.config_for_parsing)
    except cst.ParserSyntaxError:
        return None  # it is broken over lines inside of brackets that are not its own
    if not isinstance(parsed, cst.Call) or module.code_for_node(parsed) != text:
        return None
    changed = module.code_for_node(change(parsed))
    if "\n" in changed and "\n" not in text:
        return None  # new lines are indented as the statement around it is
    return Edit(path, start, end, changed.encode())
