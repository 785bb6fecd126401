"""Which Python files hold a given text: the first question of every rule, after one pass.

The words of all files are kept with the files that hold them. A literal is looked for among the
words, which are a twentieth of the text, and then only in the files that can hold it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.repository.files import UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mega_optimizer.repository.files import Files

_WORD_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
_TO_WORDS = bytes(byte if byte in _WORD_BYTES else 32 for byte in range(256))
_RUNS = re.compile(rb"\w+")


class WordIndex:
    """The words of the Python files of one snapshot."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._holders: dict[bytes, list[str]] = {}
        self._paths = [path for path in files.paths if path.endswith(".py")]
        for path in self._paths:
            for word in words_of(_content(files, path)):
                self._holders.setdefault(word, []).append(path)
        self._vocabulary = b"\n%s\n" % b"\n".join(self._holders)
        self._known: dict[bytes, frozenset[str]] = {}

    def holding(self, literal: bytes) -> frozenset[str]:
        """Return the paths of the Python files in whose bytes ``literal`` occurs."""
        if literal not in self._known:
            self._known[literal] = frozenset(self._search(literal))
        return self._known[literal]

    def with_word(self, word: bytes) -> frozenset[str]:
        """Return the paths of the Python files that hold ``word`` as a word of its own."""
        return frozenset(self._holders.get(word, ()))

    def _search(self, literal: bytes) -> Iterable[str]:
        run = max(_RUNS.findall(literal), key=len, default=b"")
        candidates = set(self._paths)
        if run:
            candidates = {path for word in self._words_around(run) for path in self._holders[word]}
        if run == literal:
            return candidates
        return (path for path in candidates if literal in _content(self._files, path))

    def _words_around(self, run: bytes) -> Iterator[bytes]:
        """Yield the words of which ``run`` is a part."""
        end = 0
        while (at := self._vocabulary.find(run, end)) >= 0:
            start = self._vocabulary.rfind(b"\n", 0, at) + 1
            end = self._vocabulary.find(b"\n", at)
            yield self._vocabulary[start:end]


class Searches:
    """Searches of the files of one snapshot; none is searched twice for one pattern."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[bytes, dict[str, bool]] = {}

    def matching(self, pattern: bytes) -> Callable[[str], bool]:
        """Return what says whether the file at a path matches a regular expression."""
        search = re.compile(pattern).search
        known = self._known.setdefault(pattern, {})

        def matches(path: str) -> bool:
            if path not in known:
                try:
                    known[path] = search(self._files.read(path)) is not None
                except UnreadableFile:
                    known[path] = False
            return known[path]

        return matches


def words_of(content: bytes) -> set[bytes]:
    """Return the words of ``content``: runs of ASCII letters, digits and underscores."""
    return set(content.translate(_TO_WORDS).split())


def _content(files: Files, path: str) -> bytes:
    try:
        return files.read(path)
    except UnreadableFile:
        return b""
