"""Add a return type to a function by editing a few bytes."""

from __future__ import annotations

import tokenize
from io import BytesIO
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit

if TYPE_CHECKING:
    from mega_optimizer.codemods.json.tree import FunctionNode
    from mega_optimizer.codemods.source import Source

LINE_LENGTH = 88  # Black's and ruff's


def with_return_type(
    source: Source, path: str, function: FunctionNode, text: str
) -> tuple[Edit, ...] | None:
    """Return the edits that make ``function`` return ``text``, None where it says so already.

    A signature on one line that gets longer than any line of the file is broken as Black does it.
    """
    found = _brackets(source, function)
    if found is None:
        return None
    opening, closing = found
    content = source.content
    added = Edit(path, closing + 1, closing + 1, f" -> {text}".encode())
    start = content.rfind(b"\n", 0, opening) + 1
    ends = content.find(b"\n", opening)
    line = content[start : ends if ends >= 0 else len(content)].rstrip(b"\r")
    longest = max(LINE_LENGTH, *(len(each.decode()) for each in content.splitlines()))
    inner = content[opening + 1 : closing]
    fits = len(line.decode()) + len(added.replacement) <= longest
    if fits or closing > start + len(line) or not inner.strip() or inner.rstrip().endswith(b","):
        return (added,)
    indent = line[: len(line) - len(line.lstrip())]
    newline = b"\r\n" if content[ends - 1 : ends] == b"\r" else b"\n"
    broken = newline + indent + b"    " + inner + newline + indent
    replacement = broken + b")" + added.replacement
    return (Edit(path, opening + 1, closing + 1, replacement),)


def _brackets(source: Source, function: FunctionNode) -> tuple[int, int] | None:
    """Return the offsets of the brackets around the parameters, None before a return type."""
    start, end = source.range(function)
    code = source.content[start:end]
    lines = code.splitlines(keepends=True)
    opening: int | None = None
    depth = 0
    try:
        for token in tokenize.tokenize(BytesIO(code).readline):
            if token.type != tokenize.OP:
                continue
            row, column = token.start
            before = sum(len(each) for each in lines[: row - 1])
            offset = before + len(lines[row - 1].decode()[:column].encode())
            depth += token.string in ("(", "[", "{")
            depth -= token.string in (")", "]", "}")
            if opening is None and token.string == "(":
                opening = offset
            if depth == 0 and token.string == ")" and opening is not None:
                typed = not code[offset + 1 :].lstrip().startswith(b":")
                return None if typed else (start + opening, start + offset)
    except (tokenize.TokenError, SyntaxError):
        return None
    return None
