"""Write into a RUN the way it is written: one line, or one command a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.repository.dockerfile import Dockerfile, Instruction

_LONGEST = 120


def chained_after(
    content: bytes, dockerfile: Dockerfile, instruction: Instruction, last: int, command: str
) -> bytes:
    """Return ``command`` as the next one of the chain that ends in a command at ``last``.

    ``last`` is where the last command starts. ``&&`` stands where the chain has it already.
    """
    plain = f" && {command}".encode()
    line_start = content.rfind(b"\n", 0, instruction.end) + 1
    if instruction.line == instruction.end_line:
        if instruction.end - line_start + len(plain) <= _LONGEST:
            return plain
        indent = "    "
    else:
        indent = _indentation(content, instruction, last)
    escape, newline = dockerfile.escape, dockerfile.newline
    text = content[instruction.start : instruction.end]
    if re.search(rb"&&[ \t]*" + re.escape(escape.encode()) + rb"[ \t]*\r?\n", text):
        return f" && {escape}{newline}{indent}{command}".encode()
    return f" {escape}{newline}{indent}&& {command}".encode()


def _indentation(content: bytes, instruction: Instruction, last: int) -> str:
    """Return the indentation of the line where the last command starts, else of the last line."""
    for position in (last, instruction.end - 1):
        start = content.rfind(b"\n", 0, position) + 1
        if start > instruction.start:
            blank = re.match(rb"[ \t]*", content[start:])
            return blank[0].decode() if blank else ""
    return "    "


def with_comments(content: bytes, instruction: Instruction) -> int:
    """Return where the lines of ``instruction`` start, the comments right above it included."""
    start = content.rfind(b"\n", 0, instruction.start) + 1
    while start > 0:
        above = content.rfind(b"\n", 0, start - 1) + 1
        if not content[above:start].lstrip().startswith(b"#"):
            break
        start = above
    return start
