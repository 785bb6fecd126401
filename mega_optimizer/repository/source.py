"""Text lifted out of a file, with the way back to the bytes that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Source:
    """``text``, and for each of its bytes the offset in the file.

    ``offsets`` is None where the text cannot be found again in the file, byte for byte.
    """

    text: bytes
    offsets: Sequence[int] | None

    def file_range(self, start: int, end: int) -> tuple[int, int]:
        """Return the byte range in the file of ``text[start:end]`` (not empty), else (-1, -1)."""
        if self.offsets is None or start >= end:
            return (-1, -1)
        return (self.offsets[start], self.offsets[end - 1] + 1)


def contiguous(content: bytes, start: int = 0, end: int | None = None) -> Source:
    """Return ``content[start:end]`` as it stands."""
    stop = len(content) if end is None else end
    return Source(content[start:stop], range(start, stop))


def unescaped_json(content: bytes, start: int, end: int) -> Source:
    """Return the value of the JSON string that stands, with its quotes, at ``start:end``."""
    import json
    import re

    text = bytearray()
    offsets: list[int] = []
    body = content[start + 1 : end - 1]
    # Two escapes of a surrogate pair make one character.
    pieces = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\u[0-9a-fA-F]{4}|\\.|[^\\]"
    for piece in re.finditer(pieces, body, re.DOTALL):
        raw = piece.group()
        value = raw
        if raw.startswith(b"\\"):
            try:
                value = json.loads(b'"' + raw + b'"').encode("utf-8", "surrogatepass")
            except ValueError:
                value = raw
        text += value
        offsets += [start + 1 + piece.start()] * len(value)
    return Source(bytes(text), offsets)
