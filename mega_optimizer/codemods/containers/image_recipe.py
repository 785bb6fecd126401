"""The only stage of a Dockerfile as a recipe: what it installs, with what, and from which files."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import (
    BUILDING,
    Piece,
    asks_for_a_file,
    kinds_of,
    pieces,
)
from mega_optimizer.codemods.containers.installs import Install, parse_install
from mega_optimizer.codemods.containers.system_packages import is_for_building, package_name
from mega_optimizer.repository.dockerfile import copies, environment_at, shell_at
from mega_optimizer.repository.dockerfile.expand import expand
from mega_optimizer.repository.dockerfile.stages import lineage
from mega_optimizer.repository.dockerignore import (
    context_files,
    ignore_file,
    ignored,
    parse_dockerignore,
)
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.shell import commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.codemods.containers.build_steps import Kind
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Instruction, Stage
    from mega_optimizer.repository.dockerignore import Pattern
    from mega_optimizer.repository.service import Word
    from mega_optimizer.repository.shell import Command


# Folders that every Debian image has.
_FOLDERS = ("/", "/bin", "/etc", "/home", "/opt", "/root", "/srv", "/tmp", "/usr/bin", "/usr/src")


@dataclass(frozen=True, slots=True)
class Run:
    """A RUN: its commands, what each does, and its pieces where it is a plain chain of them."""

    instruction: Instruction
    commands: tuple[Command, ...]
    kinds: tuple[Kind, ...]
    pieces: tuple[Piece, ...] | None

    @property
    def builds(self) -> bool:
        """Whether it installs Python packages."""
        return not BUILDING.isdisjoint(self.kinds)

    @property
    def depends_on_files(self) -> bool:
        """Whether what it installs depends on which files are there: ``[ -f setup.py ]``."""
        return "install" in self.kinds and any(map(asks_for_a_file, self.commands))

    def of_kind(self, *kinds: str) -> Iterator[Command]:
        """Yield the commands that are of one of ``kinds``."""
        for command, kind in zip(self.commands, self.kinds, strict=True):
            if kind in kinds:
                yield command


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one source of a COPY or ADD puts where.

    ``source`` is relative to the build context (``""``: all of it), ``destination`` an absolute
    path; ``into`` says that it is a folder that takes the source under its own name.
    """

    instruction: Instruction
    source: str
    destination: str
    is_folder: bool
    into: bool

    def takes(self, source: str) -> bool:
        """Whether it copies the file at ``source`` of the build context."""
        if self.is_folder:
            return not self.source or source.startswith(f"{self.source}/")
        return fnmatchcase(source, self.source)

    def source_of(self, path: str) -> str | None:
        """Return where the context holds what stands at ``path`` of the image afterwards."""
        if self.is_folder:
            if path == self.destination:
                return self.source
            inside = posixpath.join(self.destination, "")
            if not path.startswith(inside):
                return None
            return posixpath.join(self.source, path[len(inside) :])
        if not self.into:
            return self.source if path == self.destination else None
        folder, name = posixpath.split(path)
        if folder != self.destination or not fnmatchcase(name, posixpath.basename(self.source)):
            return None
        return posixpath.join(posixpath.dirname(self.source), name)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The stage, its RUN instructions, and the instruction that installs last."""

    path: str
    content: bytes
    dockerfile: Dockerfile
    stage: Stage
    runs: tuple[Run, ...]
    transfers: tuple[Transfer, ...]

    @property
    def last_install(self) -> int:
        """The offset of the last RUN that installs Python packages; -1 for none."""
        starts = (run.instruction.start for run in self.runs if "install" in run.kinds)
        return max(starts, default=-1)

    @property
    def compilers(self) -> tuple[str, ...]:
        """The Debian packages that it installs and that only a build needs."""
        found = {
            package_name(word.text): None
            for run in self.runs
            for command in run.of_kind("apt-install")
            for word in apt_packages(command)
            if is_for_building(package_name(word.text))
        }
        return tuple(found)

    def installs(self, *, in_place: bool = False) -> Iterator[tuple[Run, Command, Install | str]]:
        """Yield what each installing command installs; ``in_place`` as for parse_install."""
        for run in self.runs:
            for command in run.of_kind("install"):
                yield run, command, parse_install(command, in_place=in_place)

    def folder_at(self, instruction: Instruction) -> str:
        """Return the working directory there; official images start in ``/``."""
        folder = "/"
        for other in self.stage.instructions:
            if other.start >= instruction.start:
                break
            if other.keyword == "WORKDIR" and other.values:
                known = environment_at(self.dockerfile, self.stage, other)
                written = expand(other.values[0], known)
                folder = posixpath.normpath(posixpath.join(folder, written or "?"))
        return folder

    def expanded(self, text: str, instruction: Instruction) -> str | None:
        """Return ``text`` with the variables that hold at ``instruction``; None for unknown."""
        return expand(text, environment_at(self.dockerfile, self.stage, instruction))


def read_recipe(context: Context, dockerfile: Dockerfile, stage: Stage, content: bytes) -> Recipe:
    """Return the recipe of ``stage``, which is built on an image."""
    runs = []
    for instruction in stage.instructions:
        if instruction.keyword == "RUN":
            found = commands(instruction, shell_at(dockerfile, stage, instruction))
            kinds = kinds_of(found)
            chain = pieces(content, instruction, found)
            runs.append(Run(instruction, found, kinds, chain))
    recipe = Recipe(dockerfile.path, content, dockerfile, stage, tuple(runs), ())
    transfers = tuple(_transfers(context, recipe))
    return Recipe(dockerfile.path, content, dockerfile, stage, tuple(runs), transfers)


def flattened(dockerfile: Dockerfile, stage: Stage) -> Stage:
    """Return ``stage`` as if it held all that it stands on: one stage on one image."""
    parts = lineage(dockerfile, stage)
    instructions = tuple(instruction for part in parts for instruction in part.instructions)
    return replace(parts[0], instructions=instructions)


def named_packages(recipe: Recipe) -> frozenset[str]:
    """Return the Debian packages that the stage installs by name."""
    return frozenset(
        package_name(word.text)
        for run in recipe.runs
        for command in run.of_kind("apt-install")
        for word in apt_packages(command)
    )


def is_started(context: Context, stage: Stage) -> bool:
    """Whether anything says what the image runs; else others may be built on it."""
    return bool(context.service.launch) or any(
        instruction.keyword in ("CMD", "ENTRYPOINT") for instruction in stage.instructions
    )


def _transfers(context: Context, recipe: Recipe) -> Iterator[Transfer]:
    folders = set(_FOLDERS)
    for instruction in recipe.stage.instructions:
        folders |= _made_folders(recipe, instruction)
        copy = copies(instruction)
        if copy is None or copy.from_stage is not None:
            continue
        destination = recipe.expanded(copy.destination, instruction)
        sources = [recipe.expanded(source, instruction) for source in copy.sources]
        if destination is None:
            continue
        target = posixpath.normpath(posixpath.join(recipe.folder_at(instruction), destination))
        for source in sources:
            if source is None or "://" in source:
                continue
            clean = _clean(source)
            is_folder = is_context_folder(context, clean)
            into = len(sources) > 1 or destination.endswith("/") or _is_dot(destination)
            into = into or bool(set(clean) & set("*?[")) or target in folders
            yield Transfer(instruction, clean, target, is_folder, into and not is_folder)


def _made_folders(recipe: Recipe, instruction: Instruction) -> set[str]:
    """Return the folders that are there after ``instruction``, and those that hold them."""
    made: set[str] = set()
    here = recipe.folder_at(instruction)
    if instruction.keyword == "WORKDIR" and instruction.values:
        written = recipe.expanded(instruction.values[0], instruction)
        made.add(posixpath.normpath(posixpath.join(here, written or ".")))
    for run in recipe.runs:
        for command in run.commands if run.instruction is instruction else ():
            if command.program == "mkdir" and command.inside in ("", "group"):
                texts = (text for text in command.texts[1:] if not text.startswith("-"))
                known = (recipe.expanded(text, instruction) for text in texts)
                made |= {posixpath.normpath(posixpath.join(here, path)) for path in known if path}
    above = {path[:at] for path in made for at, letter in enumerate(path) if letter == "/" and at}
    return made | above


def _clean(source: str) -> str:
    clean = posixpath.normpath(source.lstrip("/") or ".")
    while clean.startswith("../"):
        clean = clean[3:]
    return "" if clean == "." else clean


def _is_dot(destination: str) -> bool:
    return posixpath.basename(destination) in (".", "..")


def in_context(context: Context, source: str) -> str:
    """Return the path in the repository of what the build context holds at ``source``."""
    return posixpath.normpath(posixpath.join(context.service.root, source))


def is_context_folder(context: Context, source: str) -> bool:
    """Whether ``source`` is a folder of the build context."""
    if not source:
        return True
    folder = f"{in_context(context, source)}/"
    return any(path.startswith(folder) for path in context.files.paths)


def shipped_files(context: Context, recipe: Recipe) -> frozenset[str]:
    """Return the files of the repository that the image holds."""
    patterns = ignore_patterns(context, recipe)
    return frozenset(
        path
        for inner, path in context_files(context.files, context.service.root, patterns)
        if any(transfer.takes(inner) for transfer in recipe.transfers)
    )


def ships_history(context: Context, recipe: Recipe) -> bool:
    """Whether the image may hold the ``.git`` folder of the repository."""
    if context.service.root or ignored(ignore_patterns(context, recipe), ".git/HEAD"):
        return False
    return any(transfer.takes(".git/HEAD") for transfer in recipe.transfers)


def ignore_patterns(context: Context, recipe: Recipe) -> tuple[Pattern, ...]:
    """Return the patterns of the .dockerignore that holds for the build."""
    path = ignore_file(context.files, context.service.root, recipe.path)
    content = context.read(path) if path else b""
    patterns = parse_dockerignore(path or "", content) if isinstance(content, bytes) else ()
    return () if isinstance(patterns, Problem) else patterns


def apt_packages(command: Command) -> tuple[Word, ...]:
    """Return the words of ``apt-get install`` that name packages."""
    found = []
    takes_value = False
    seen_verb = False
    for word in command.words[1:]:
        if takes_value:
            takes_value = False
        elif word.text in ("-o", "-t", "-c", "--option", "--target-release"):
            takes_value = True
        elif not word.text.startswith("-"):
            if seen_verb:
                found.append(word)
            seen_verb = seen_verb or word.text in ("install", "remove", "purge")
    return tuple(found)


def mentions(
    recipe: Recipe,
    pattern: re.Pattern[bytes],
    without: Sequence[str] = (),
    among: Sequence[Instruction] | None = None,
) -> tuple[Instruction, str] | None:
    """Return the first instruction that matches ``pattern``, and the text that does.

    What names one of the paths ``without`` does not count; ``among`` are those to look at.
    """
    for instruction in recipe.stage.instructions if among is None else among:
        text = recipe.content[instruction.start : instruction.end]
        for path in without:
            text = text.replace(path.encode(), b"")
        found = pattern.search(text)
        if found:
            return instruction, found[0].decode("utf-8", "replace").strip()
    return None
