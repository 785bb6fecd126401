"""The bytes of an instruction with the comments above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.repository.dockerfile import Instruction


def block_start(content: bytes, instruction: Instruction, after: int) -> int:
    """Return where the comment lines right above ``instruction`` begin, not before ``after``."""
    start = instruction.start
    while True:
        line = content.rfind(b"\n", 0, max(start - 1, 0)) + 1
        is_comment = content[line:start].lstrip().startswith(b"#")
        if line >= start or not is_comment or line <= after:
            return start
        start = line


def line_after(content: bytes, position: int) -> int:
    """Return where the line after that of ``position`` begins."""
    end = content.find(b"\n", position)
    return len(content) if end < 0 else end + 1


def text_of(content: bytes, start: int, instruction: Instruction) -> bytes:
    """Return the text from ``start`` to the end of ``instruction``, without a line ending."""
    return content[start : instruction.end].rstrip(b"\r\n")


def is_blank_above(content: bytes, start: int) -> bool:
    """Whether the line above the one that begins at ``start`` is blank."""
    line = content.rfind(b"\n", 0, max(start - 1, 0)) + 1
    return start > 0 and not content[line:start].strip()


def is_blank_at(content: bytes, start: int) -> bool:
    """Whether a blank line begins at ``start``."""
    return start < len(content) and not content[start : line_after(content, start)].strip()
