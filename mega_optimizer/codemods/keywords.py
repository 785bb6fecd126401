"""Find and rename the keyword arguments of calls, by ranges of bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit

if TYPE_CHECKING:
    import ast

    from mega_optimizer.codemods.source import Source


def keyword_of(call: ast.Call, name: str) -> ast.keyword | None:
    """Return the keyword argument ``name`` of ``call``, else None."""
    return next((each for each in call.keywords if each.arg == name), None)


def renamed_keyword(path: str, source: Source, keyword: ast.keyword, name: str) -> Edit:
    """Return the edit that gives a keyword argument another name."""
    start, _ = source.range(keyword)
    return Edit(path, start, start + len((keyword.arg or "").encode()), name.encode())
