"""What a ``.dockerignore`` keeps out of a build context.

The rules are those of Docker's documentation ("Build context", section .dockerignore files) and of
the library moby/patternmatcher that Docker, BuildKit and Podman share. They are not those of
``.gitignore``: every pattern is rooted at the build context, ``__pycache__`` means the top folder
only, and the last pattern that matches decides.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.repository.files import Files

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern, cleaned as Docker cleans it; ``negated`` where it began with ``!``."""

    text: str
    line: int
    negated: bool = False

    def matches(self, path: str) -> bool:
        """Whether the pattern matches ``path`` or a folder that holds it."""
        return _together((self,)).fullmatch(path) is not None


def parse_dockerignore(path: str, content: bytes) -> tuple[Pattern, ...] | Problem:
    """Return the patterns of an ignore file, in order.

    A pattern that Go's ``filepath.Match`` rejects fails the build: the file is then a ``Problem``
    (``bad-pattern``).
    """
    try:
        text = content.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError:
        return Problem(path, "not-utf-8", "The file is not UTF-8 text")
    patterns = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("#"):
            continue
        stripped = line.strip()
        if not stripped:
            continue
        negated = stripped.startswith("!")
        pattern = stripped[1:].strip() if negated else stripped
        if negated and not pattern:
            return Problem(path, "bad-pattern", "A lone ! is no pattern", number)
        cleaned = _clean(pattern)
        if _is_malformed(cleaned):
            return Problem(path, "bad-pattern", f"{pattern!r} is no valid pattern", number)
        # For historical reasons Docker ignores the pattern ".".
        if cleaned != ".":
            patterns.append(Pattern(cleaned, number, negated))
    return tuple(patterns)


def ignored(patterns: Sequence[Pattern], path: str) -> bool:
    """Whether ``path`` (relative to the build context, ``/`` between parts) stays outside."""
    return _is_ignored(_last_first(tuple(patterns)), path)


def _is_ignored(expressions: tuple[tuple[bool, re.Pattern[str]], ...], path: str) -> bool:
    for negated, expression in expressions:
        if expression.fullmatch(path):
            return not negated
    return False


@lru_cache(maxsize=64)
def _last_first(patterns: tuple[Pattern, ...]) -> tuple[tuple[bool, re.Pattern[str]], ...]:
    """Return an expression for each run of patterns of the same kind, the last run first."""
    runs = [(negated, tuple(run)) for negated, run in groupby(patterns, lambda each: each.negated)]
    return tuple((negated, _together(run)) for negated, run in reversed(runs))


@lru_cache(maxsize=512)
def _together(patterns: tuple[Pattern, ...]) -> re.Pattern[str]:
    """Return the expression of what any of ``patterns`` matches, or a folder of which it does."""
    either = "|".join(f"(?:{_expression(pattern.text)})" for pattern in patterns)
    return re.compile(f"(?:{either})(?:/.*)?", re.DOTALL)


def ignore_file(files: Files, context: str, dockerfile: str) -> str | None:
    """Return the ignore file that a build of ``dockerfile`` with ``context`` reads, if any.

    ``<Dockerfile>.dockerignore`` beside the Dockerfile comes before ``.dockerignore`` at the root
    of the context (Docker's documentation, "Filename and location").
    """
    candidates = (f"{dockerfile}.dockerignore", posixpath.join(context, ".dockerignore"))
    return next((candidate for candidate in candidates if candidate in files), None)


def context_files(
    files: Files, context: str, patterns: Sequence[Pattern] = ()
) -> Iterator[tuple[str, str]]:
    """Yield the files that reach the builder: (path in the context, path in the repository)."""
    prefix = f"{context}/" if context else ""
    expressions = _last_first(tuple(patterns))
    for path in files.paths:
        if path.startswith(prefix) and not _is_ignored(expressions, path[len(prefix) :]):
            yield path[len(prefix) :], path


def _clean(pattern: str) -> str:
    """Return ``pattern`` as Go's ``filepath.Clean`` and Docker's reader leave it."""
    cleaned = posixpath.normpath(pattern)
    # normpath keeps two leading slashes, Clean does not; Docker then drops the one that is left.
    return cleaned.lstrip("/") or "/"


def _expression(pattern: str) -> str:
    """Return the regular expression that matches what ``pattern`` matches, parents aside."""
    parts = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if pattern.startswith("**", position):
            position += 2
            if pattern.startswith("/", position):
                position += 1
            if position == len(pattern):
                parts.append(".*")
            elif parts or pattern[position - 1] == "/":
                parts.append("(?:.*/)?")
            else:
                # "**name" at the start is a plain suffix match in moby/patternmatcher.
                parts.append(".*" if not re.search(r"[*?\[\\]", pattern[2:]) else "(?:.*/)?")
            continue
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            end = _class_end(pattern, position)
            parts.append(_character_class(pattern[position + 1 : end - 1]))
            position = end
            continue
        elif character == "\\":
            position += 1
            parts.append(re.escape(pattern[position]))
        else:
            parts.append(re.escape(character))
        position += 1
    return "".join(parts)


def _character_class(body: str) -> str:
    negation = "^" if body.startswith("^") else ""
    ranges = body[len(negation) :]
    # "[" and "&&" have a meaning in Python's classes that they lack in Go's.
    escaped = re.sub(r"(\\.)|([\[&~|])", lambda match: match[1] or f"\\{match[2]}", ranges)
    return f"[{negation}{escaped}]"


def _class_end(pattern: str, start: int) -> int:
    """Return the offset behind the ``]`` of the class at ``start``; 0 where it is malformed."""
    position = start + 1
    if pattern.startswith("^", position):
        position += 1
    first = True
    while position < len(pattern):
        if pattern[position] == "]":
            return 0 if first else position + 1
        low, position = _class_character(pattern, position)
        if not low:
            return 0
        if pattern.startswith("-", position):
            high, position = _class_character(pattern, position + 1)
            if not high or high < low:
                return 0
        first = False
    return 0


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern) or pattern[position] in "-]":
        return "", position
    if pattern[position] == "\\":
        position += 1
    return pattern[position : position + 1], position + 1


def _is_malformed(pattern: str) -> bool:
    """Whether Go's ``filepath.Match`` reports ``ErrBadPattern``."""
    position = 0
    while position < len(pattern):
        if pattern[position] == "\\":
            position += 2
            if position > len(pattern):
                return True
        elif pattern[position] == "[":
            position = _class_end(pattern, position)
            if not position:
                return True
        else:
            position += 1
    return False
