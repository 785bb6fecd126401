"""The one way to a file of the target: inside the root, regular, and no symlink on the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mega_optimizer.repository.files import UnreadableFile

# The largest module of fourteen public repositories that no tool wrote has 261 kB; libcst takes
# 1.6 s of CPU for each megabyte.
MAX_PYTHON_BYTES = 1 << 20
MAX_OTHER_BYTES = 2 << 20
# A lock file is data that is read and never parsed as code; a uv.lock with 1.3 MB is not rare.
MAX_LOCK_BYTES = 16 << 20
_LOCK_NAMES = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml")

_NOT_NAMES = frozenset(["", ".", ".."])

# The flags that a platform lacks are about links and pipes that it lacks as well.
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class Guard:
    """Opens files below one folder, and refuses whatever leads elsewhere.

    Folders are checked once per guard for reading, and every time for writing.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self._prefix = os.path.join(self.root, "")
        self._real_folders = {""}

    def read(self, path: str) -> bytes:
        """Return the bytes of ``path``; raise :class:`UnreadableFile` where that is refused.

        Codes: ``outside-root``, ``symlink``, ``missing-file``, ``not-a-file``, ``too-large``,
        ``unreadable``.
        """
        self._check_folders(path, self._real_folders)
        try:
            descriptor = os.open(self._prefix + path, _OPEN_FLAGS)
        except OSError as error:
            raise self._refusal(path, error) from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableFile(path, "not-a-file", "it is not a regular file")
            if found.st_size > size_limit(path):
                raise UnreadableFile(
                    path, "too-large", f"{found.st_size:,} bytes are over {size_limit(path):,}"
                )
            return _read_all(path, descriptor, found.st_size)
        except OSError as error:
            raise self._refusal(path, error) from None
        finally:
            os.close(descriptor)

    def resolve_for_writing(self, path: str) -> Path:
        """Return the absolute path of ``path``, which may not exist yet, but whose folder does.

        Raises :class:`UnreadableFile` with the codes of :meth:`read` where the path leaves the
        root, crosses a symlink, or names something else than a regular file.
        """
        self._check_folders(path, {""})
        absolute = self.root / path
        if not absolute.parent.is_dir():
            raise UnreadableFile(path, "missing-file", "its folder does not exist")
        try:
            mode = absolute.lstat().st_mode
        except FileNotFoundError:
            return absolute
        if stat.S_ISLNK(mode):
            raise self._link_refusal(path, path)
        if not stat.S_ISREG(mode):
            raise UnreadableFile(path, "not-a-file", "it is not a regular file")
        return absolute

    def leads_outside(self, path: str) -> bool:
        """Whether ``path``, with all symlinks followed, lies outside the root."""
        real = os.path.realpath(self._prefix + path)
        return real != str(self.root) and not real.startswith(self._prefix)

    def _check_folders(self, path: str, checked: set[str]) -> None:
        folder, _, name = path.rpartition("/")
        if folder in checked and name not in _NOT_NAMES and "\0" not in name:
            return
        parts = path.split("/")
        if "\0" in path or os.path.isabs(path) or not _NOT_NAMES.isdisjoint(parts):
            raise UnreadableFile(path, "outside-root", "the path does not stay below the root")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            if folder in checked:
                continue
            try:
                mode = os.lstat(self._prefix + folder).st_mode
            except OSError as error:
                raise self._refusal(path, error) from None
            if stat.S_ISLNK(mode):
                raise self._link_refusal(path, folder)
            checked.add(folder)

    def _link_refusal(self, path: str, link: str) -> UnreadableFile:
        if self.leads_outside(link):
            return UnreadableFile(path, "outside-root", f"the symlink {link} leaves the repository")
        return UnreadableFile(path, "symlink", f"{link} is a symlink")

    def _refusal(self, path: str, error: OSError) -> UnreadableFile:
        if os.path.islink(self._prefix + path):
            return self._link_refusal(path, path)
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return UnreadableFile(path, "missing-file", "no such file")
        return UnreadableFile(path, "unreadable", error.strerror or type(error).__name__)


def size_limit(path: str) -> int:
    """Return the number of bytes above which ``path`` is not read."""
    if path.endswith(".py"):
        return MAX_PYTHON_BYTES
    return MAX_LOCK_BYTES if path.endswith(_LOCK_NAMES) else MAX_OTHER_BYTES


def _read_all(path: str, descriptor: int, size: int) -> bytes:
    content = os.read(descriptor, size + 1)
    while len(content) < size and (more := os.read(descriptor, size - len(content))):
        content += more
    if len(content) > size:
        raise UnreadableFile(path, "unreadable", "it grew while it was read")
    return content
