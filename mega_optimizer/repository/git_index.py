"""What git has recorded about a checkout, read without the checkout's own configuration.

``git status`` and even ``git ls-files`` run commands that the configuration of the target names
(``core.fsmonitor``, clean filters). Git therefore runs in an empty repository of our own that
borrows the target's index file and object store, in an environment without inherited ``GIT_*``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUBMODULE_MODE = "160000"

# The seconds after which git is given up: a checkout of 100,000 files takes less than one.
_GIT_SECONDS = 60
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

Status = Literal["clean", "staged", "modified", "partly-staged", "conflict", "untracked", "missing"]


class UnreadableRepository(Exception):
    """A checkout that git cannot read. The message says what, where and how to mend it."""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One entry of git's index: file mode as git prints it, blob id, merge stage (0: merged)."""

    mode: str
    blob: str
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Checkout:
    """A git checkout: its top folder, its own git folder, and the one with the objects."""

    top: Path
    git_folder: Path
    common_folder: Path

    @property
    def index(self) -> Path:
        """The index file, which does not exist before the first ``git add``.

        ``git commit -a`` and ``git commit PATH`` hand another one to their hooks (githooks(5)); it
        counts only where it lies in this checkout's own git folder.
        """
        named = Path(os.path.realpath(os.environ.get("GIT_INDEX_FILE") or self.git_folder))
        is_own = named.parent == Path(os.path.realpath(self.git_folder)) and named.is_file()
        return named if is_own else self.git_folder / "index"


def find_checkout(root: Path) -> Checkout | None:
    """Return the checkout that ``root`` is or lies in; None outside of any."""
    root = Path(os.path.realpath(root))
    for top in (root, *root.parents):
        git_folder = _git_folder(top)
        if git_folder is not None:
            common = _first_line(git_folder / "commondir")
            return Checkout(top, git_folder, git_folder / common if common else git_folder)
    return None


def read_index(checkout: Checkout, below: str = "") -> dict[str, IndexEntry]:
    """Return the index entries of ``checkout`` below the folder ``below``, by relative path.

    The highest merge stage stands for a path in conflict. Raises :class:`UnreadableRepository`.
    """
    if not checkout.index.exists():
        return {}
    listed = _git(checkout, "ls-files", "--stage", "-z", *_pathspec(below))
    entries = {}
    for line in listed.split("\0")[:-1]:
        head, _, path = line.partition("\t")
        mode, blob, stage = head.split(" ")
        entries[path[len(below) + 1 if below else 0 :]] = IndexEntry(mode, blob, int(stage))
    return entries


def git_state(root: Path) -> GitState | None:
    """Return what git knows about the files below ``root``; None where it tracks none of them.

    Raises :class:`UnreadableRepository`.
    """
    root = Path(os.path.realpath(root))
    checkout = find_checkout(root)
    if checkout is None:
        return None
    below = "" if root == checkout.top else root.relative_to(checkout.top).as_posix()
    entries = read_index(checkout, below)
    return GitState(root, checkout, below, entries) if entries or not below else None


class GitState:
    """What git knows about the files below one folder. Nothing of the target is run to tell."""

    def __init__(
        self, root: Path, checkout: Checkout, below: str, entries: Mapping[str, IndexEntry]
    ) -> None:
        self._guard = Guard(root)
        self._checkout = checkout
        self._below = below
        self._entries = entries

    @cached_property
    def commit(self) -> str | None:
        """The id of the commit that is checked out; None before the first, or where unknown."""
        return _head_commit(self._checkout)

    @property
    def locked(self) -> bool:
        """Whether another git process is writing the index at this moment."""
        return (self._checkout.git_folder / "index.lock").exists()

    def status(self, path: str) -> Status:
        """Compare the file at ``path`` with the index and with the commit that is checked out.

        ``clean``: all three agree. ``staged``: the file is as it was staged, but not committed.
        ``modified``: it differs from the index, which is as committed. ``partly-staged``: all
        differ. A path that was only announced (``git add -N``) is never clean.
        """
        entry = self._entries.get(path)
        if entry is None:
            return "untracked"
        if entry.stage:
            return "conflict"
        try:
            content = self._guard.read(path)
        except UnreadableFile as error:
            return "missing" if error.code == "missing-file" else "modified"
        committed = self._committed.get(path) == entry
        if self._is_blob(content, entry.blob):
            return "clean" if committed else "staged"
        return "modified" if committed else "partly-staged"

    @cached_property
    def _committed(self) -> dict[str, IndexEntry]:
        """The files of the commit that is checked out."""
        if self.commit is None:
            return {}
        pathspec = _pathspec(self._below)
        listed = _git(self._checkout, "ls-tree", "-r", "-z", "--full-tree", self.commit, *pathspec)
        entries = {}
        for line in listed.split("\0")[:-1]:
            head, _, path = line.partition("\t")
            mode, _kind, blob = head.split(" ")
            entries[path[len(self._below) + 1 if self._below else 0 :]] = IndexEntry(mode, blob)
        return entries

    def _is_blob(self, content: bytes, blob: str) -> bool:
        if _blob_id(content, blob) == blob:
            return True
        # What git itself would have turned into LF when the file was added.
        as_added = content.replace(b"\r\n", b"\n")
        return (
            as_added != content
            and _blob_id(as_added, blob) == blob
            and self._line_endings_are_converted
        )

    @cached_property
    def _line_endings_are_converted(self) -> bool:
        """Whether any setting in sight could make git convert line endings."""
        home = Path(os.path.expanduser("~"))
        settings = [
            self._checkout.common_folder / "config",
            self._checkout.common_folder / "info" / "attributes",
            home / ".gitconfig",
            Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "git" / "config",
            self._checkout.top / ".gitattributes",
            *(
                self._guard.root / path
                for path in self._entries
                if path.rpartition("/")[2] == ".gitattributes"
            ),
        ]
        wanted = re.compile(rb"autocrlf\s*=\s*(?!false)|\btext\b|\beol\b|\bcrlf\b", re.IGNORECASE)
        return os.name == "nt" or any(wanted.search(_content(path)) for path in settings)


def _git_folder(top: Path) -> Path | None:
    marker = top / ".git"
    if marker.is_dir():
        return marker if (marker / "HEAD").exists() or (marker / "HEAD").is_symlink() else None
    # A linked worktree or a submodule holds a file that names the folder.
    line = _first_line(marker) if marker.is_file() else ""
    if not line.startswith("gitdir: "):
        return None
    folder = top / line.removeprefix("gitdir: ")
    return folder if folder.is_dir() else None


def _head_commit(checkout: Checkout) -> str | None:
    head = _first_line(checkout.git_folder / "HEAD")
    for _ in range(5):  # git itself follows no more symbolic references than that
        if _OBJECT_ID.fullmatch(head):
            return head
        reference = head.removeprefix("ref: ")
        if not reference.startswith("refs/") or ".." in reference:
            return None
        head = (
            _first_line(checkout.git_folder / reference)
            or _first_line(checkout.common_folder / reference)
            or _packed_reference(checkout, reference)
        )
    return None


def _packed_reference(checkout: Checkout, reference: str) -> str:
    packed = _content(checkout.common_folder / "packed-refs").decode(errors="replace")
    for line in packed.splitlines():
        commit, _, name = line.partition(" ")
        if name == reference:
            return commit
    return ""


def _blob_id(content: bytes, like: str) -> str:
    """Return the id of ``content`` as a blob, in the hash that ``like`` is written in."""
    algorithm = "sha256" if len(like) == 64 else "sha1"
    header = b"blob %d\0" % len(content)
    return hashlib.new(algorithm, header + content, usedforsecurity=False).hexdigest()


def _pathspec(below: str) -> tuple[str, ...]:
    return ("--", f":(literal){below}") if below else ()


def _first_line(path: Path) -> str:
    return _content(path).decode("utf-8", "surrogateescape").partition("\n")[0].strip()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def _git(checkout: Checkout, *arguments: str) -> str:
    program = git_program(checkout.top)
    if program is None:
        raise UnreadableRepository(
            f"{checkout.top} is a git checkout, but git is not installed; install git"
        )
    command = [program, "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", *arguments]
    try:
        with _borrowed(checkout) as (folder, environment):
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_GIT_SECONDS,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreadableRepository(f"{checkout.top}: git did not answer: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UnreadableRepository(
            f"{checkout.top}: git cannot read this checkout ({said}); `git fsck` and "
            "`git reset` in it mend an index, or scan a copy without its .git"
        )
    return done.stdout.decode("utf-8", "surrogateescape")


def git_program(top: Path) -> str | None:
    """Return the path of git. One that lies below ``top`` is none: ``PATH`` may say ``.``"""
    folders = [
        folder
        for folder in os.get_exec_path()
        if os.path.isabs(folder)
        and not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(top))
    ]
    return shutil.which("git", path=os.pathsep.join(folders))


@contextmanager
def _borrowed(checkout: Checkout) -> Iterator[tuple[str, dict[str, str]]]:
    """Give an empty repository and the environment in which git reads the target through it."""
    with tempfile.TemporaryDirectory(prefix="mega-optimize-git-") as folder:
        own = Path(folder)
        (own / "refs").mkdir()
        (own / "HEAD").write_text("ref: refs/heads/none\n")
        (own / "config").write_text(_own_configuration(checkout))
        # Beside a split index, the part that it shares is looked for in the git folder.
        for shared in checkout.git_folder.glob("sharedindex.*"):
            shutil.copyfile(shared, own / shared.name)
        environment = {key: value for key, value in os.environ.items() if key[:4] != "GIT_"}
        environment |= {
            "GIT_DIR": folder,
            "GIT_INDEX_FILE": os.path.abspath(checkout.index),
            "GIT_OBJECT_DIRECTORY": os.path.abspath(checkout.common_folder / "objects"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }
        yield folder, environment


def _own_configuration(checkout: Checkout) -> str:
    # The hash is the one fact of the target's configuration that is needed to read its index.
    theirs = _content(checkout.common_folder / "config").decode(errors="replace")
    is_sha256 = re.search(r"^\s*objectformat\s*=\s*\"?sha256", theirs, re.IGNORECASE | re.MULTILINE)
    settings = "[core]\n\trepositoryformatversion = 1\n\tbare = true\n"
    return settings + "[extensions]\n\tobjectformat = sha256\n" if is_sha256 else settings
