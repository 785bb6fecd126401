"""A module that a rule adds to a service: where it stands, and the service as it is with it."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dockerfile.stages import copies
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.words import words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mega_optimizer.repository.files import Files


class _WithFile:
    """Files with one more among them."""

    def __init__(self, files: Files, path: str, content: bytes) -> None:
        self._files = files
        self._path = path
        self._content = content

    @cached_property
    def paths(self) -> Sequence[str]:
        """All paths, sorted."""
        return sorted({*self._files.paths, self._path})

    @property
    def holds_history(self) -> bool:
        """Whether the root holds ``.git``."""
        return self._files.holds_history

    def __contains__(self, path: object) -> bool:
        return path == self._path or path in self._files

    def read(self, path: str) -> bytes:
        """Return the bytes of ``path``."""
        return self._content if path == self._path else self._files.read(path)

    def holding(self, literal: bytes) -> frozenset[str]:
        """Return the Python files in which ``literal`` occurs."""
        found = self._files.holding(literal) - {self._path}
        return found | {self._path} if literal in self._content else found

    def with_word(self, word: bytes) -> frozenset[str]:
        """Return the Python files that hold ``word`` as a word of its own."""
        found = self._files.with_word(word) - {self._path}
        return found | {self._path} if word in words_of(self._content) else found

    def matching(self, pattern: bytes) -> Callable[[str], bool]:
        """Return what says whether the file at a path matches a regular expression."""
        others = self._files.matching(pattern)
        own = re.search(pattern, self._content) is not None
        return lambda path: own if path == self._path else others(path)


def context_with(context: Context, path: str, content: bytes) -> Context:
    """Return the context of the service as it is once the module at ``path`` is there."""
    modules = tuple(sorted({*context.service.modules, path}))
    service = replace(context.service, modules=modules)
    return Context(service, _WithFile(context.files, path, content), context.parameters)


def module_beside(context: Context, neighbour: str, name: str, mark: bytes) -> str | Skip:
    """Return the path of a new module called ``name`` beside ``neighbour``, or of ours.

    A module that holds ``mark`` is one that an earlier run made. Skip codes: ``name-taken``,
    ``not-copied`` (the Dockerfile copies file by file).
    """
    path = posixpath.join(posixpath.dirname(neighbour), f"{name}.py")
    if path in context.files:
        content = context.read(path)
        if isinstance(content, bytes) and mark in content:
            return path
        return Skip(Place(path), "name-taken", f"{path} holds something else")
    if not _is_copied(context, path):
        reason = f"{context.service.dockerfile} copies files by name, and would not copy {path}"
        return Skip(Place(context.service.dockerfile or path), "not-copied", reason)
    return path


def _is_copied(context: Context, path: str) -> bool:
    """Whether an instruction of the Dockerfile copies the folder of a new file whole."""
    if context.service.dockerfile is None:
        return True
    dockerfile = context.dockerfile(context.service.dockerfile)
    if isinstance(dockerfile, Problem):
        return True
    inside = posixpath.relpath(path, context.service.root or ".")
    sources = [
        posixpath.normpath(source.lstrip("/") or ".")
        for stage in dockerfile.stages
        for instruction in stage.instructions
        for copy in (copies(instruction),)
        if copy is not None and copy.from_stage is None
        for source in copy.sources
    ]
    return not sources or any(
        source == "." or inside.startswith(f"{source}/") or source in ("*", "*.py")
        for source in sources
    )
