"""The files of a repository as the engine sees them: paths and bytes, never the disk itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mega_optimizer.repository.words import Searches, WordIndex


class UnreadableFile(Exception):
    """A file that cannot be read; ``code`` and ``message`` become a skip of that file."""

    def __init__(self, path: str, code: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.code = code
        self.message = message


class Files(Protocol):
    """A set of files at one moment: the scanned tree, or a workspace laid over it."""

    @property
    def paths(self) -> Sequence[str]:
        """All paths, sorted, relative to the root, with ``/`` between their parts."""

    @property
    def holds_history(self) -> bool:
        """Whether the root holds ``.git``, which is never one of the files."""

    def __contains__(self, path: object) -> bool:
        """Whether ``path`` is one of the files."""

    def read(self, path: str) -> bytes:
        """Return the bytes of ``path``; raise :class:`UnreadableFile` where that is impossible."""

    def holding(self, literal: bytes) -> frozenset[str]:
        """Return the paths of the Python files in whose bytes ``literal`` occurs."""

    def with_word(self, word: bytes) -> frozenset[str]:
        """Return the paths of the Python files that hold ``word`` as a word of its own."""

    def matching(self, pattern: bytes) -> Callable[[str], bool]:
        """Return what says whether the file at a path matches a regular expression.

        Each file is searched once for each pattern; one that cannot be read never matches.
        """


class MemoryFiles:
    """Files held in memory: what examples and tests are made of.

    ``unreadable`` are paths whose reading fails with the given code (a symlink, for instance).
    """

    holds_history = True

    def __init__(
        self, contents: dict[str, bytes], unreadable: dict[str, str] | None = None
    ) -> None:
        self._contents = dict(contents)
        self._unreadable = unreadable or {}
        self.paths: Sequence[str] = sorted({*contents, *self._unreadable})

    def __contains__(self, path: object) -> bool:
        return path in self._contents or path in self._unreadable

    def read(self, path: str) -> bytes:
        """Return the bytes of ``path``; raise :class:`UnreadableFile` where there is none."""
        if path in self._unreadable:
            raise UnreadableFile(path, self._unreadable[path], "it cannot be read")
        if path not in self._contents:
            raise UnreadableFile(path, "missing-file", "no such file")
        return self._contents[path]

    def holding(self, literal: bytes) -> frozenset[str]:
        """Return the paths of the Python files in whose bytes ``literal`` occurs."""
        return self._words.holding(literal)

    def with_word(self, word: bytes) -> frozenset[str]:
        """Return the paths of the Python files that hold ``word`` as a word of its own."""
        return self._words.with_word(word)

    def matching(self, pattern: bytes) -> Callable[[str], bool]:
        """Return what says whether the file at a path matches a regular expression."""
        return self._searches.matching(pattern)

    @cached_property
    def _searches(self) -> Searches:
        from mega_optimizer.repository.words import Searches

        return Searches(self)

    @cached_property
    def _words(self) -> WordIndex:
        from mega_optimizer.repository.words import WordIndex

        return WordIndex(self)
