"""The import statements of a module, found in its bytes: enough to see who imports whom.

The facts about a file say this exactly, but reading all modules that an application imports would
cost more than any rule may.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mega_optimizer.repository.memo import by_content

if TYPE_CHECKING:
    from collections.abc import Iterator

# always: whenever the module is imported; maybe: under a condition or ``try``; ever: in functions
When = Literal["ever", "maybe", "always"]

STATEMENT = re.compile(
    rb"^(?P<indent>[ \t]*)(?:from[ \t]+(?P<module>[.\w]+)[ \t]+import[ \t]*"
    rb"(?P<names>\([^)]*\)|[^\n;]*)|import[ \t]+(?P<modules>[^\n;]+))",
    re.MULTILINE,
)
TOP = re.compile(
    rb"^(?:(?P<scope>async[ \t]+def|def|class)\b|(?P<checking>if[^\n]*TYPE_CHECKING)|\w)", re.M
)


@dataclass(frozen=True, slots=True)
class ImportLine:
    """One thing that is imported: a module, or a name of a module that may be one."""

    target: str
    when: When


@by_content(size=4096)
def import_lines(path: str, content: bytes) -> tuple[ImportLine, ...]:
    """Return what the module imports, but for what only type checkers see."""
    if b"import" not in content:
        return ()
    return tuple(_read(content))


def _read(content: bytes) -> Iterator[ImportLine]:
    tops: list[re.Match[bytes]] | None = None
    starts: list[int] = []
    for found in STATEMENT.finditer(content):
        when: When = "always"
        if found["indent"]:
            if tops is None:
                tops = list(TOP.finditer(content))
                starts = [each.start() for each in tops]
            place = bisect_right(starts, found.start()) - 1
            top = tops[place] if place >= 0 else None
            if top is not None and top["checking"]:
                continue
            when = "ever" if top is not None and top["scope"] else "maybe"
        for target in _targets(found):
            yield ImportLine(target, when)


def _targets(found: re.Match[bytes]) -> Iterator[str]:
    if found["modules"] is not None:
        for part in found["modules"].partition(b"#")[0].split(b","):
            name = part.split()[:1]
            if name:
                yield name[0].decode(errors="replace")
        return
    module = found["module"].decode(errors="replace")
    joint = "" if module.endswith(".") else "."
    for line in found["names"].strip(b"()").split(b"\n"):
        for part in line.partition(b"#")[0].split(b","):
            name = part.strip(b"\\ \t\r()").split()[:1]
            if name:
                yield f"{module}{joint}{name[0].decode(errors='replace')}"
