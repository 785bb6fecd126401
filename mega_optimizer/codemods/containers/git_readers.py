"""Whether a build, or what it builds, reads the ``.git`` folder of its context."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.shell import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Instruction
    from mega_optimizer.repository.shell import Command

# Build backends and helpers that derive the version from tags.
_VERSION_TOOLS = re.compile(
    rb"setuptools[-_]scm|hatch[-_]vcs|versioningit|poetry[-_]dynamic[-_]versioning|versioneer"
    rb"|uv[-_]dynamic[-_]versioning|setuptools[-_]git|flit[-_]scm|dunamai|\bpbr\b|vcs[-_]versioning"
    rb"|miniver|source\s*=\s*[\"']scm[\"']",
    re.IGNORECASE,
)
_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "hatch.toml")
_SCRIPTS = (".sh", ".bash", "Makefile", "makefile")
# Go stamps the commit into what it builds, and says nothing where it cannot.
_READING_PROGRAMS = ("pre-commit", "go", "goreleaser", "semantic-release")
# Subcommands that need a repository to be there; clone, init, config --global … do not.
_READING = (
    "rev-parse|rev-list|describe|log|show|status|diff|branch|tag|archive|submodule|checkout"
    "|ls-files|fetch|pull|symbolic-ref|show-ref|shortlog|lfs"
)
_GIT_COMMAND = re.compile(rf"""\bgit["']?[\s,]+(?:-\S+\s+)*["']?(?:{_READING})\b""".encode())
_GIT_FOLDER = re.compile(rb"""\.git["']?[\s/,+)]*["']?(?:HEAD|refs|logs|packed-refs)\b""")
_OWN_REPOSITORY = re.compile(
    rb"""search_parent_directories|\bRepo\(\s*(?:\)|["']\.|__file__|os\.|Path)"""
)
# They record the commit by themselves: without .git they silently record none.
_COMMIT_RECORDERS = re.compile(
    rb"^\s*(?:import|from)\s+(sentry_sdk|mlflow|wandb|dvc|comet_ml|clearml|neptune|aim|ddtrace)\b",
    re.MULTILINE,
)
_SENTRY_RELEASE = re.compile(rb"SENTRY_RELEASE|release\s*=")


def git_readers(context: Context, dockerfiles: tuple[Dockerfile, ...]) -> Iterator[Place]:
    """Yield the places that may read the ``.git`` folder of the service's build context.

    Looked at are ``dockerfiles``, the build configuration in the context, the scripts that one of
    these names, and the service's Python modules.
    """
    for dockerfile in dockerfiles:
        for instruction in dockerfile.instructions:
            if _instruction_reads_git(instruction):
                yield Place(dockerfile.path, instruction.line)
    prefix = f"{context.service.root}/" if context.service.root else ""
    for path in context.files.paths:
        if not path.startswith(prefix):
            continue
        if posixpath.basename(path) in _BUILD_FILES:
            yield from _found(context, path, _VERSION_TOOLS, _GIT_COMMAND)
    for path in named_scripts(context, dockerfiles):
        if b"git clone" not in _bytes(context, path):
            yield from _found(context, path, _GIT_COMMAND, _GIT_FOLDER)
    literals = (b"git", b"sentry_sdk", b"mlflow", b"wandb", b"dvc", b"_ml", b"clearml", b"neptune")
    for path in context.modules(*literals, b"aim", b"ddtrace"):
        yield from _found(context, path, _GIT_COMMAND, _GIT_FOLDER, _OWN_REPOSITORY)
        yield from _commit_recorders(context, path)


def named_scripts(context: Context, dockerfiles: tuple[Dockerfile, ...]) -> Iterator[str]:
    """Yield the scripts that a Dockerfile, a Python module or another such script names."""
    prefix = f"{context.service.root}/" if context.service.root else ""
    waiting = [
        path for path in context.files.paths if path.startswith(prefix) and path.endswith(_SCRIPTS)
    ]
    texts = [_bytes(context, dockerfile.path) for dockerfile in dockerfiles]
    while texts:
        text = texts.pop()
        for path in list(waiting):
            name = posixpath.basename(path)
            word = b"make " if name.lower() == "makefile" else name.encode()
            if word in text or (name.endswith("sh") and any(context.modules(name.encode()))):
                waiting.remove(path)
                texts.append(_bytes(context, path))
                yield path


def _instruction_reads_git(instruction: Instruction) -> bool:
    if instruction.keyword in ("COPY", "ADD"):
        return instruction.flag("from") is None and any(
            ".git" in value.strip("\"'").split("/") for value in instruction.values
        )
    if instruction.keyword != "RUN":
        return False
    if any(flag.name == "mount" and ".git" in flag.value for flag in instruction.flags):
        return True
    found = commands(instruction)
    # After a clone the commands that follow speak of what was cloned.
    if any(_is_git(command, "clone|init") for command in found):
        return False
    if any(command.program in _READING_PROGRAMS for command in found):
        return True
    return any(_is_git(command, _READING) for command in found)


def _is_git(command: Command, subcommands: str) -> bool:
    text = " ".join(command.texts)
    return bool(re.search(rf"(?:^|\s)git\s+(?:-\S+\s+(?:\S+\s+)?)*?(?:{subcommands})\b", text))


def _commit_recorders(context: Context, path: str) -> Iterator[Place]:
    content = _bytes(context, path)
    for found in _COMMIT_RECORDERS.finditer(content):
        names_release = found[1] == b"sentry_sdk" and _SENTRY_RELEASE.search(content)
        if not names_release:
            yield Place(path, content.count(b"\n", 0, found.start(1)) + 1)


def _found(context: Context, path: str, *patterns: re.Pattern[bytes]) -> Iterator[Place]:
    content = _bytes(context, path)
    for pattern in patterns:
        found = pattern.search(content)
        if found:
            yield Place(path, content.count(b"\n", 0, found.start()) + 1)


def _bytes(context: Context, path: str) -> bytes:
    content = context.read(path)
    return b"" if isinstance(content, Problem) else content
