"""A workspace: the files of a repository with changes laid over them, in memory."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from mega_optimizer.repository.words import words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mega_optimizer.repository.files import Files


class Workspace:
    """One snapshot: ``base`` with ``overlay`` (path → content) over it. Never written to disk."""

    def __init__(self, base: Files, overlay: Mapping[str, bytes] | None = None) -> None:
        self.base = base
        self.overlay: Mapping[str, bytes] = overlay or {}
        self._holding: dict[bytes, frozenset[str]] = {}

    @cached_property
    def paths(self) -> Sequence[str]:
        """All paths, sorted."""
        return sorted({*self.base.paths, *self.overlay}) if self.overlay else self.base.paths

    @property
    def holds_history(self) -> bool:
        """Whether the root of the base holds ``.git``."""
        return self.base.holds_history

    def __contains__(self, path: object) -> bool:
        return path in self.overlay or path in self.base

    def read(self, path: str) -> bytes:
        """Return the bytes of ``path``; raises what the base raises."""
        return self.overlay[path] if path in self.overlay else self.base.read(path)

    def holding(self, literal: bytes) -> frozenset[str]:
        """Return the paths of the Python files in whose bytes ``literal`` occurs."""
        if not self.overlay:
            return self.base.holding(literal)
        if literal not in self._holding:
            changed = {
                path
                for path, content in self.overlay.items()
                if path.endswith(".py") and literal in content
            }
            self._holding[literal] = self.base.holding(literal).difference(self.overlay) | changed
        return self._holding[literal]

    def with_word(self, word: bytes) -> frozenset[str]:
        """Return the paths of the Python files that hold ``word`` as a word of its own."""
        changed = {
            path
            for path, content in self.overlay.items()
            if path.endswith(".py") and word in content and word in words_of(content)
        }
        return self.base.with_word(word).difference(self.overlay) | changed

    def matching(self, pattern: bytes) -> Callable[[str], bool]:
        """Return what says whether the file at a path matches a regular expression."""
        below = self.base.matching(pattern)
        if not self.overlay:
            return below
        search = re.compile(pattern).search
        overlay = self.overlay

        def matches(path: str) -> bool:
            return search(overlay[path]) is not None if path in overlay else below(path)

        return matches

    def with_changes(self, changes: Mapping[str, bytes]) -> Workspace:
        """Return a later snapshot; this one stays as it is."""
        return Workspace(self.base, {**self.overlay, **changes})
