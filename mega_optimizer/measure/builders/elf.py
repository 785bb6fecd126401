"""The shared libraries that an ELF file names (System V ABI, "Dynamic Section")."""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS = 1, 5
# A dynamic section or a list of names beyond this is no library of a Python package.
_AT_MOST = 1 << 20


def needed_libraries(stream: IO[bytes]) -> tuple[str, ...]:
    """Return the names under DT_NEEDED of a 64-bit little-endian ELF file; of others, none."""
    try:
        return tuple(_needed(stream))
    except (struct.error, ValueError, OSError):
        return ()


def _needed(stream: IO[bytes]) -> Iterator[str]:
    header = _read(stream, 0, 64)
    if header[:6] != b"\x7fELF\x02\x01":
        return
    (table,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    segments = [
        struct.unpack_from("<IIQQQQQQ", _read(stream, table + index * size, 56))
        for index in range(count)
    ]
    dynamic = next((segment for segment in segments if segment[0] == _DYNAMIC), None)
    if dynamic is None:
        return
    entries = list(struct.iter_unpack("<qQ", _read(stream, dynamic[2], dynamic[5] & ~15)))
    strings = next((value for tag, value in entries if tag == _STRINGS), None)
    holder = next(
        (
            segment
            for segment in segments
            if segment[0] == _LOAD
            and strings is not None
            and segment[3] <= strings < segment[3] + segment[5]
        ),
        None,
    )
    if strings is None or holder is None:
        return
    start = holder[2] + strings - holder[3]
    for tag, offset in entries:
        if tag == _NEEDED:
            stream.seek(start + offset)
            yield stream.read(256).split(b"\0")[0].decode("ascii", "replace")


def _read(stream: IO[bytes], offset: int, size: int) -> bytes:
    if size > _AT_MOST:
        raise ValueError("implausible size")
    stream.seek(offset)
    return stream.read(size)
