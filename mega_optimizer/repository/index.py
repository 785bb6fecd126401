"""The list of a target's files, and reading them: from git's index, or by walking the folders."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.git_index import (
    SUBMODULE_MODE,
    find_checkout,
    read_index,
)
from mega_optimizer.repository.guard import Guard
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.words import Searches, WordIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pathspec import GitIgnoreSpec

    # Folders, each with a slash behind it, and what their .gitignore says; the deepest last.
    Ignores = tuple[tuple[str, GitIgnoreSpec], ...]

_VENDORED_FOLDERS = r"vendor|vendored|_vendor|third[-_]?party|node_modules|site-packages|\.?venv"
_is_vendored = re.compile(rf"(?:^|/)(?:{_VENDORED_FOLDERS})/", re.IGNORECASE).search
_is_generated = re.compile(r"_pb2(?:_grpc)?\.pyi?$|(?:^|/)_version\.py$").search
_is_example = re.compile(
    r"(?:^|/)(?:docs?|examples?|samples?|benchmarks?|demos?)/", re.IGNORECASE
).search
_is_artifact = re.compile(
    r"\.(?:py|toml|cfg|txt|in|ya?ml|sh|lock|dockerignore)$"
    r"|(?:^|/)[^/]*(?:dockerfile|containerfile|procfile|pipfile)[^/]*$",
    re.IGNORECASE,
).search

# What a walk never enters: state of tools, and what was installed and not written here.
_SKIPPED_FOLDERS = frozenset(
    {
        *(".bzr", ".git", ".hg", ".svn"),
        *(".direnv", ".eggs", ".nox", ".tox", ".venv", "__pycache__", "__pypackages__"),
        *(".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *("node_modules", "site-packages"),
    }
)


def is_vendored(path: str) -> bool:
    """Whether ``path`` lies in a folder of copies of other people's code."""
    return _is_vendored(path) is not None


def is_generated(path: str) -> bool:
    """Whether a tool wrote ``path`` (protocol buffers, version files) and will write it again."""
    return _is_generated(path) is not None


def is_example(path: str) -> bool:
    """Whether ``path`` is documentation, an example or a benchmark, which no service runs."""
    return _is_example(path) is not None


class DiskFiles:
    """The files of a target on disk. Contents are read when asked for and never kept.

    ``problems`` says which files were left out although they look like artifacts, and
    ``refused`` which could not be read when somebody asked for them.
    """

    def __init__(self, guard: Guard, paths: Sequence[str], problems: Sequence[Problem]) -> None:
        self.guard = guard
        self.paths = paths
        self.holds_history = os.path.lexists(guard.root / ".git")
        self.problems = tuple(problems)
        self.refused: dict[str, Problem] = {}
        self._known = frozenset(paths)
        self._searches = Searches(self)

    def __contains__(self, path: object) -> bool:
        return path in self._known

    def read(self, path: str) -> bytes:
        """Return the bytes of ``path``; raise :class:`UnreadableFile` where that is refused."""
        try:
            return self.guard.read(path)
        except UnreadableFile as error:
            if path in self:
                self.refused[path] = Problem(path, error.code, error.message)
            raise

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
    def _words(self) -> WordIndex:
        return WordIndex(self)


def scan_files(root: Path, exclude: Sequence[str] = ()) -> DiskFiles:
    """List the files below ``root`` without running anything of it.

    In a git checkout these are the tracked files that exist; elsewhere a walk that honours
    ``.gitignore``. ``exclude`` holds patterns in the manner of ``.gitignore``. Raises
    :class:`~mega_optimizer.repository.git_index.UnreadableRepository`.
    """
    guard = Guard(root)
    tracked = _tracked(guard.root)
    listed = _walk(guard.root) if tracked is None else _existing(guard.root, tracked)
    paths: list[str] = []
    links: list[str] = []
    for path, is_link in listed:
        (links if is_link else paths).append(path)
    if exclude:
        from pathspec import GitIgnoreSpec

        ignored = GitIgnoreSpec.from_lines(exclude)
        paths = [path for path in paths if not ignored.match_file(path)]
        links = [path for path in links if not ignored.match_file(path)]
    problems = [*_link_problems(guard, links)]
    paths = _without_templated(_without_odd_names(paths, problems), problems)
    return DiskFiles(guard, sorted(paths), sorted(problems, key=lambda problem: problem.path))


def _tracked(root: Path) -> list[str] | None:
    """Return the tracked paths below ``root``; None where git tracks nothing there."""
    checkout = find_checkout(root)
    if checkout is None:
        return None
    below = "" if root == checkout.top else root.relative_to(checkout.top).as_posix()
    entries = read_index(checkout, below)
    return [path for path, entry in entries.items() if entry.mode != SUBMODULE_MODE] or None


def _existing(root: Path, tracked: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield the tracked paths that are on disk, and whether each is, or lies behind, a symlink."""
    by_folder: dict[str, list[str]] = {}
    for path in tracked:
        folder, _, name = path.rpartition("/")
        by_folder.setdefault(folder, []).append(name)
    linked = {"": False}
    for folder, names in by_folder.items():
        is_linked = _is_behind_link(root, folder, linked)
        try:
            with os.scandir(root / folder) as entries:
                found = {entry.name: entry.is_symlink() for entry in entries}
        except PermissionError:
            found = dict.fromkeys(names, False)  # listed, so that reading them says why not
        except OSError:
            continue
        for name in names:
            if name in found:
                yield f"{folder}/{name}" if folder else name, is_linked or found[name]


def _is_behind_link(root: Path, folder: str, linked: dict[str, bool]) -> bool:
    unknown = []
    while folder not in linked:
        unknown.append(folder)
        folder = folder.rpartition("/")[0]
    for below in reversed(unknown):
        linked[below] = linked[folder] or os.path.islink(root / below)
        folder = below
    return linked[folder]


def _walk(root: Path) -> Iterator[tuple[str, bool]]:
    """Yield the paths below ``root`` that no ``.gitignore`` names, and whether each is a link."""
    guard = Guard(root)
    waiting: list[tuple[str, Ignores]] = [("", ())]
    while waiting:
        folder, ignores = waiting.pop()
        entries = _entries(guard, folder)
        if folder and "pyvenv.cfg" in entries:
            continue
        if ".gitignore" in entries:
            ignores = (*ignores, *_ignores_of(guard, folder))
        for name, entry in entries.items():
            path = f"{folder}/{name}" if folder else name
            is_folder = entry.is_dir(follow_symlinks=False)
            if name == ".git" or (is_folder and name in _SKIPPED_FOLDERS):
                continue
            if _is_ignored(f"{path}/" if is_folder else path, ignores):
                continue
            if is_folder:
                waiting.append((path, ignores))
            elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                yield path, entry.is_symlink()


def _entries(guard: Guard, folder: str) -> dict[str, os.DirEntry[str]]:
    try:
        with os.scandir(guard.root / folder) as found:
            return {entry.name: entry for entry in found}
    except OSError:
        return {}


def _ignores_of(guard: Guard, folder: str) -> Iterator[tuple[str, GitIgnoreSpec]]:
    from pathspec import GitIgnoreSpec

    prefix = f"{folder}/" if folder else ""
    try:
        content = guard.read(f"{prefix}.gitignore")
    except UnreadableFile:
        return
    lines = content.decode(errors="replace").splitlines()
    yield prefix, GitIgnoreSpec.from_lines(line for line in lines if _is_pattern(line))


def _is_pattern(line: str) -> bool:
    """Whether pathspec can read the pattern; one that is malformed matches nothing in git."""
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error):
        return False
    return True


def _is_ignored(path: str, ignores: Ignores) -> bool:
    """Whether the pattern that speaks last about ``path`` ignores it; deeper files speak later."""
    for prefix, spec in reversed(ignores):
        verdict = spec.check_file(path[len(prefix) :]).include
        if verdict is not None:
            return verdict
    return False


def _link_problems(guard: Guard, links: Iterable[str]) -> Iterator[Problem]:
    for path in links:
        if guard.leads_outside(path):
            yield Problem(path, "outside-root", "a symlink that leaves the repository")
        elif _is_artifact(path):
            yield Problem(path, "symlink", "symlinks are neither followed nor rewritten")


def _without_odd_names(paths: list[str], problems: list[Problem]) -> list[str]:
    """Leave out names that are not UTF-8 or hold control characters: no report can show them."""
    together = "".join(paths)
    if together.isprintable():
        return paths
    kept = []
    for path in paths:
        if path.isprintable():
            kept.append(path)
        elif _is_artifact(path):
            shown = path.encode("utf-8", "backslashreplace").decode()
            problems.append(Problem(repr(shown)[1:-1], "odd-name", "its name cannot be shown"))
    return kept


def _without_templated(paths: list[str], problems: list[Problem]) -> list[str]:
    """Leave out what lies below ``{{ … }}``: a template of a project, and not a project."""
    templated: dict[str, int] = {}
    kept = []
    for path in paths:
        if "{{" not in path:
            kept.append(path)
            continue
        before, braces, after = path.partition("{{")
        top = before + braces + after.partition("/")[0]
        templated[top] = templated.get(top, 0) + 1
    for top, count in templated.items():
        what = "the name is a template" if top in paths else f"a template of {count} files"
        problems.append(Problem(top, "templated", what))
    return kept
