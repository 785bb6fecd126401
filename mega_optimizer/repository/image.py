"""What the build of an image brings into it: files of the repository and what it installs."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING

from mega_optimizer.repository.dependencies.read import manifest_kind
from mega_optimizer.repository.dockerfile.expand import expand
from mega_optimizer.repository.dockerfile.stages import (
    before,
    copies,
    environment_at,
    is_python_stage,
    lineage,
    shell_at,
    stage_named,
    workdir_at,
)
from mega_optimizer.repository.installers import pip_words
from mega_optimizer.repository.shell import commands
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.repository.dockerfile.model import Dockerfile, Instruction, Stage
    from mega_optimizer.repository.shell import Command
    from mega_optimizer.repository.tree import Tree

_PROJECT_INSTALLERS = {
    "poetry": frozenset({"install", "export", "sync", "build"}),
    "pdm": frozenset({"install", "sync", "export", "build"}),
    "uv": frozenset({"sync", "export", "build"}),
    "pipenv": frozenset({"install", "sync", "requirements"}),
    "conda": frozenset({"env"}),
    "mamba": frozenset({"env"}),
    "micromamba": frozenset({"install", "create", "env"}),
}
_PROJECT_FILES = ("pyproject.toml", "setup.cfg", "Pipfile")
_LOCAL = re.compile(r"(?:\.{1,2}|/)(?:[\w./-]*)(?:\[[\w, -]*\])?")


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one ``COPY``, ``ADD`` or bind mount brings in.

    ``source`` is relative to the build context, ``""`` for all of it; ``destination`` is an
    absolute path in the image.
    """

    source: str
    destination: str


class Image:
    """One image: a Dockerfile, the stage that ships, and the build context."""

    def __init__(self, tree: Tree, dockerfile: Dockerfile, stage: Stage, context: str) -> None:
        self._tree = tree
        self._dockerfile = dockerfile
        self.stage = stage
        self.context = context

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that the image consists of or copies from, the one that ships first."""
        return contributing_stages(self._dockerfile, self.stage)

    @cached_property
    def sources(self) -> frozenset[str]:
        """What is copied from the build context, relative to the root of the repository."""
        return frozenset(
            posixpath.normpath(posixpath.join(self.context, transfer.source or "."))
            for stage in self.stages
            for transfer in self._transfers(stage, None)
        )

    def brings(self, path: str) -> bool:
        """Whether the file ``path`` of the repository is copied into the image."""
        parts = path.split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts) + 1)} | {"."}
        if not above.isdisjoint(self.sources):
            return True
        return any(fnmatchcase(folder, pattern) for pattern in self._patterns for folder in above)

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        return tuple(source for source in self.sources if set(source) & set("*?["))

    def file_at(
        self, path: str, stage: Stage | None = None, instruction: Instruction | None = None
    ) -> str | None:
        """Return the file of the repository that stands at ``path`` in the image, if any.

        ``path`` is relative to the working directory there, before ``instruction`` of ``stage``
        (by default at the end of the stage that ships).
        """
        where = stage or self.stage
        folder = workdir_at(self._dockerfile, where, instruction) or "/"
        absolute = posixpath.normpath(posixpath.join(folder, path))
        for transfer in reversed(list(self._transfers(where, instruction))):
            for found in self._candidates(transfer, absolute):
                if found in self._tree:
                    return found
        return None

    def _candidates(self, transfer: Transfer, path: str) -> Iterator[str]:
        source = posixpath.normpath(posixpath.join(self.context, transfer.source or "."))
        target = posixpath.normpath(transfer.destination)
        inside = path.startswith(posixpath.join(target, ""))
        if source == "." or source in self._tree.folders:
            if inside:
                relative = path[len(posixpath.join(target, "")) :]
                yield posixpath.normpath(posixpath.join(source, relative))
        elif path == target:
            yield source
        elif inside and fnmatchcase(posixpath.basename(path), posixpath.basename(source)):
            yield posixpath.join(posixpath.dirname(source), posixpath.basename(path))

    def _transfers(self, stage: Stage, instruction: Instruction | None) -> Iterator[Transfer]:
        """Yield what comes from the build context before ``instruction`` of ``stage``."""
        for other in before(self._dockerfile, stage, instruction):
            yield from self._transfers_of(stage, other)
        if instruction is not None:
            yield from self._transfers_of(stage, instruction)

    def _transfers_of(self, stage: Stage, instruction: Instruction) -> Iterator[Transfer]:
        home = next(
            part
            for part in lineage(self._dockerfile, stage)
            if any(instruction is other for other in part.instructions)
        )
        folder = workdir_at(self._dockerfile, home, instruction) or "/"
        for flag in instruction.flags:
            if flag.name == "mount":
                options = dict(part.partition("=")[::2] for part in flag.value.split(","))
                if options.get("type", "bind") == "bind" and "from" not in options:
                    source = options.get("source", options.get("src", ""))
                    target = options.get("target", options.get("dst", ""))
                    yield Transfer(_clean(source), posixpath.join(folder, target))
        copied = copies(instruction)
        if copied is None or copied.from_stage is not None:
            return
        known = environment_at(self._dockerfile, home, instruction)
        destination = expand(copied.destination, known) or copied.destination
        for written in copied.sources:
            source = expand(written, known) or written
            if "://" not in source and not source.startswith("git@"):
                yield Transfer(_clean(source), posixpath.join(folder, destination))

    @cached_property
    def manifests(self) -> tuple[str, ...]:
        """The dependency manifests that the build installs, in order, each once."""
        found: dict[str, None] = {}
        for stage in self.stages:
            for part in lineage(self._dockerfile, stage):
                for instruction in part.instructions:
                    if instruction.keyword == "RUN":
                        found |= dict.fromkeys(self._installed(part, instruction))
        return tuple(found)

    def _installed(self, stage: Stage, instruction: Instruction) -> Iterator[str]:
        folder = "."
        known = environment_at(self._dockerfile, stage, instruction)
        for command in commands(instruction, shell_at(self._dockerfile, stage, instruction)):
            texts = command.texts
            if command.program == "cd" and len(texts) > 1:
                folder = posixpath.join(folder, expand(texts[1], known) or texts[1])
                continue
            for name in installed_files(command):
                path = posixpath.join(folder, expand(name, known) or name)
                found = self.file_at(path, stage, instruction)
                if found is not None and self._declares(found):
                    yield found

    def _declares(self, path: str) -> bool:
        # Whatever pip is told to read with -r is a requirements file, whatever its name.
        content = self._tree.content(path)
        known = posixpath.basename(path) in _PROJECT_FILES
        return content is not None and (not known or manifest_kind(path, content) is not None)

    @property
    def has_python(self) -> bool:
        """Whether Python runs in the image, for certain."""
        return any(is_python_stage(self._dockerfile, stage) for stage in self.stages)


def contributing_stages(dockerfile: Dockerfile, stage: Stage) -> tuple[Stage, ...]:
    """Return ``stage``, the stages below it, and all those that any of them copies from."""
    found: list[Stage] = []
    waiting = [stage]
    while waiting:
        current = waiting.pop(0)
        if current in found:
            continue
        found.append(current)
        if current.parent is not None:
            waiting.append(dockerfile.stages[current.parent])
        for instruction in current.instructions:
            copied = copies(instruction)
            names = [copied.from_stage] if copied else []
            names += [_mounted_stage(flag.value) for flag in instruction.flags]
            waiting += [
                named for name in names if name and (named := stage_named(dockerfile, name))
            ]
    return tuple(found)


def installed_files(command: Command) -> Iterator[str]:
    """Yield the files that ``command`` reads to know what to install, as it names them.

    For a project, the files that may declare its dependencies.
    """
    words, _ = unwrapped(command.words)
    texts = [word.text for word in words]
    program = posixpath.basename(texts[0]) if texts else ""
    pip = pip_words(command)
    if pip is not None:
        arguments: Sequence[str] = [word.text for word in pip]
    elif program == "uv" and texts[1:2] == ["pip"]:
        arguments = texts[2:]
    else:
        operands = [text for text in texts[1:] if not text.startswith("-")]
        if program in _PROJECT_INSTALLERS and operands[:1]:
            if operands[0] in _PROJECT_INSTALLERS[program]:
                yield from _project_files(program, texts)
        elif program.startswith(("python", "pypy")) and texts[1:3] == ["setup.py", "install"]:
            yield from _PROJECT_FILES
        return
    if not {"install", "sync", "compile", "wheel", "download"}.isdisjoint(arguments):
        yield from _pip_files(arguments)


def _pip_files(arguments: Sequence[str]) -> Iterator[str]:
    for position, text in enumerate(arguments):
        following = arguments[position + 1] if position + 1 < len(arguments) else ""
        name, equals, value = text.partition("=")
        if name in ("-r", "--requirement", "--requirements"):
            yield value if equals else following
        elif text.startswith("-r") and len(text) > 2:
            yield text[2:]
        elif (_LOCAL.fullmatch(text) and not _names_a_value(arguments, position)) or (
            "sync" in arguments and text.endswith((".txt", "pyproject.toml"))
        ):
            folder = text.partition("[")[0]
            if folder.endswith((".txt", ".toml")):
                yield folder
            elif not folder.endswith((".whl", ".gz", ".zip")):
                yield from (posixpath.join(folder, name) for name in _PROJECT_FILES)


def _names_a_value(arguments: Sequence[str], position: int) -> bool:
    """Whether the word at ``position`` is the value of the option in front of it."""
    option = arguments[position - 1] if position else ""
    return option in (
        "-r",
        "--requirement",
        "-c",
        "--constraint",
        "-t",
        "--target",
        "--prefix",
        "--root",
        "--cache-dir",
        "-f",
        "--find-links",
        "-w",
        "--wheel-dir",
        "-d",
        "--dest",
        "--python",
        "-p",
        "-o",
    )


def _project_files(program: str, texts: Sequence[str]) -> Iterator[str]:
    folder = "."
    for option, value in zip(texts, [*texts[1:], ""], strict=True):
        if program.endswith(("conda", "mamba")) and option in ("-f", "--file", "-n"):
            if option != "-n":
                yield value
        elif option in ("--project", "--directory", "-C", "-p") and program != "pipenv":
            folder = value
    names = ("Pipfile",) if program == "pipenv" else ("pyproject.toml",)
    if not program.endswith(("conda", "mamba")):
        yield from (posixpath.join(folder, name) for name in names)


def _mounted_stage(mount: str) -> str | None:
    options = dict(part.partition("=")[::2] for part in mount.split(","))
    return options.get("from")


def _clean(source: str) -> str:
    """Return a source of ``COPY`` relative to the context: a leading slash means its root."""
    clean = posixpath.normpath(source.strip("\"'").lstrip("/") or ".")
    # Docker does not let a source leave the context.
    while clean.startswith("../"):
        clean = clean[3:]
    return "" if clean in (".", "..", "*") else clean


def infer_context(tree: Tree, dockerfile: Dockerfile, stage: Stage) -> str:
    """Return the build context of a Dockerfile that no compose file builds.

    It is the folder, from the Dockerfile's own upwards, where most of what is copied exists.
    """
    folder = posixpath.dirname(dockerfile.path)
    candidates = [folder]
    while folder:
        folder = posixpath.dirname(folder)
        candidates.append(folder)
    scores = {
        candidate: _explained(tree, Image(tree, dockerfile, stage, candidate))
        for candidate in candidates
    }
    return max(candidates, key=lambda candidate: scores[candidate])


def _explained(tree: Tree, image: Image) -> tuple[int, bool]:
    """Return how many sources of ``COPY`` exist, and whether all of the context is worth copying.

    Where everything is copied, a context without Python code explains nothing.
    """
    context = image.context or "."
    named = [source for source in image.sources if source != context]
    exist = sum(
        source in tree
        or source in tree.folders
        or any(fnmatchcase(path, source) for path in tree.files.paths if "*" in source)
        for source in named
    )
    has_code = context not in image.sources or tree.has_code(image.context)
    return exist, has_code
