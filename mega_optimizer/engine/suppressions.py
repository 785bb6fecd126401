"""Suppression comments: ``# mega-optimize: ignore[rule-id] reason``.

On the line of a finding or on the line above it, in Python, Dockerfile and YAML alike;
``ignore-file[rule-id]`` anywhere in a file covers the whole file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.repository.memo import by_content

if TYPE_CHECKING:
    from mega_optimizer.repository.place import Place

MARKER = b"mega-optimize:"
COMMENT = re.compile(rb"#\s*mega-optimize:\s*ignore(-file)?\[([^\]\r\n]+)\]")


@dataclass(frozen=True, slots=True)
class Suppression:
    """One suppression comment; ``rules`` are rule ids or categories."""

    path: str
    line: int
    rules: tuple[str, ...]
    whole_file: bool

    def covers(self, rule_id: str, place: Place) -> bool:
        """Whether a finding of ``rule_id`` at ``place`` (in this file) is suppressed by it."""
        if rule_id not in self.rules and rule_id.split("/")[0] not in self.rules:
            return False
        last = place.end_line or place.line
        return self.whole_file or place.line - 1 <= self.line <= last


@by_content(size=4096)
def suppressions(path: str, content: bytes) -> tuple[Suppression, ...]:
    """Return the suppression comments of a file."""
    if MARKER not in content:
        return ()
    return tuple(
        Suppression(
            path=path,
            line=number,
            rules=tuple(rule.strip() for rule in match[2].decode("ascii", "replace").split(",")),
            whole_file=match[1] is not None,
        )
        for number, line in enumerate(content.split(b"\n"), start=1)
        for match in COMMENT.finditer(line)
    )
