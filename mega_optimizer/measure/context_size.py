"""How many bytes of the repository a COPY or ADD brings into an image."""

from __future__ import annotations

import posixpath
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.repository.dockerignore import (
    Pattern,
    context_files,
    ignore_file,
    ignored,
    parse_dockerignore,
)
from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mega_optimizer.repository.files import Files

_BLOCK = 512
# Compressing more than this takes seconds.
COMPRESSED_AT_MOST = 64_000_000


@dataclass(frozen=True, slots=True)
class BuildContext:
    """A build context after its ignore file: path in the context → path in the repository."""

    files: dict[str, str]
    patterns: tuple[Pattern, ...]

    def copied_by(self, source: str) -> tuple[str, ...] | None:
        """Return the repository's files that ``COPY source`` takes; None where nothing matches."""
        cleaned = posixpath.normpath(source.lstrip("/") or ".")
        if cleaned == ".":
            return tuple(self.files.values())
        pattern = Pattern(cleaned, 0)
        return tuple(path for inner, path in self.files.items() if pattern.matches(inner)) or None

    def lets_in(self, path: str) -> bool:
        """Whether ``path``, tracked or not, would reach the builder."""
        return not ignored(self.patterns, path)


@dataclass(frozen=True, slots=True)
class Bytes:
    """The size of files as a layer. ``compressed`` is None where there was too much of it."""

    on_disk: int
    compressed: int | None


def build_context(files: Files, root: str, dockerfile: str) -> BuildContext | Problem:
    """Return what a build of ``dockerfile`` with the folder ``root`` as context is given."""
    path = ignore_file(files, root, dockerfile)
    patterns: tuple[Pattern, ...] | Problem = ()
    if path is not None:
        try:
            patterns = parse_dockerignore(path, files.read(path))
        except UnreadableFile as error:
            return Problem(path, error.code, error.message)
    if isinstance(patterns, Problem):
        return patterns
    return BuildContext(dict(context_files(files, root, patterns)), patterns)


def size_of(files: Files, paths: Iterable[str]) -> Bytes | Problem:
    """Return how large the files are as a layer: a tar stream, and that stream through gzip.

    In tar each file has a header of 512 bytes and is filled up to a multiple of that (POSIX ustar).
    Docker's default level of gzip is 6.
    """
    on_disk = compressed = 0
    compressor = zlib.compressobj(6)
    for path in paths:
        try:
            content = files.read(path)
        except UnreadableFile as error:
            return Problem(path, error.code, error.message)
        header = tarfile.TarInfo(path)
        header.size = len(content)
        filled = header.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % _BLOCK)
        on_disk += len(filled)
        if on_disk <= COMPRESSED_AT_MOST:
            compressed += len(compressor.compress(filled))
    compressed += len(compressor.flush())
    if not on_disk:
        return Bytes(0, 0)
    return Bytes(on_disk, compressed if on_disk <= COMPRESSED_AT_MOST else None)
