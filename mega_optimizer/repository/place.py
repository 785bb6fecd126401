"""Where something stands in a repository, and what stands there but cannot be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line of a file.

    ``path`` is relative to the root of the repository, with ``/`` between its parts.
    ``line``, ``column`` and ``end_line`` count from 1; columns count characters.
    """

    path: str
    line: int = 1
    column: int = 1
    end_line: int | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one file could not be understood. It costs that file only.

    ``code`` is one of the stable skip codes (``syntax-error``, ``templated``, ``too-large`` …).
    """

    path: str
    code: str
    message: str
    line: int = 1
