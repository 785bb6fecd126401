"""The hidden marker of a pull request: which plan it shows, so that the next run knows it again."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VERSION = 1
_MARKER = re.compile(r"<!-- mega-optimize: (\{.*?\}) -->")
# Stands in the one comment that says why a branch is left alone.
LEFT_ALONE = "<!-- mega-optimize: left alone -->"


@dataclass(frozen=True, slots=True)
class Marker:
    """The rules of a plan, the hash of its patch, and the title that the pull request was given."""

    patch: str
    rules: tuple[str, ...] = ()
    title: str = ""

    def __str__(self) -> str:
        held = {"version": VERSION, "patch": self.patch, "rules": self.rules, "title": self.title}
        # Inside JSON these three stand in strings only; as escapes they cannot end the comment.
        text = json.dumps(held, separators=(",", ":"))
        for character in "<>-":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return f"<!-- mega-optimize: {text} -->"


def read_marker(body: str | None) -> Marker | None:
    """Return the last marker in ``body``; None where there is none that can be read."""
    found = _MARKER.findall(body or "")
    try:
        held = json.loads(found[-1]) if found else None
    except ValueError:
        return None
    if not isinstance(held, dict) or held.get("version") != VERSION:
        return None
    patch, rules, title = held.get("patch"), held.get("rules"), held.get("title")
    if not (isinstance(patch, str) and isinstance(rules, list) and isinstance(title, str)):
        return None
    return Marker(patch, tuple(str(rule) for rule in rules), title)


def patch_hash(changes: Mapping[str, tuple[bytes | None, bytes]]) -> str:
    """Return a name for what ``changes`` remove and add.

    Where the lines stand and what stands around them is left out, so that a base branch that
    moves on elsewhere does not make a new patch.
    """
    digest = hashlib.sha256()
    for path, (before, after) in sorted(changes.items()):
        digest.update(b"file %s\0%d\0" % (path.encode("utf-8", "surrogateescape"), before is None))
        for line in _changed_lines((before or b"").splitlines(True), after.splitlines(True)):
            digest.update(b"%d\0%s" % (len(line), line))
    return digest.hexdigest()[:32]


def _changed_lines(before: Sequence[bytes], after: Sequence[bytes]) -> Iterator[bytes]:
    for tag, old, old_end, new, new_end in SequenceMatcher(
        None, before, after, False
    ).get_opcodes():
        if tag != "equal":
            yield from (b"-" + line for line in before[old:old_end])
            yield from (b"+" + line for line in after[new:new_end])
