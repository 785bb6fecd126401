"""Who owns a path of the image: what is copied to it, what else writes there, which users exist."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import (
    APT,
    kind_of,
)
from mega_optimizer.codemods.containers.installs import parse_install
from mega_optimizer.repository.dockerfile import copies, environment_at, workdir_at
from mega_optimizer.repository.dockerfile.expand import expand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.shipped import BuiltImage
    from mega_optimizer.repository.dockerfile import Instruction, Stage
    from mega_optimizer.repository.shell import Command

# base-passwd of Debian and Ubuntu: what each image has from the start.
_USERS = frozenset({"root", "daemon", "bin", "sys", "games", "man", "mail", "www-data", "nobody"})
_GROUPS = _USERS - {"nobody"} | {"nogroup", "staff", "users", "adm", "tty", "video", "audio"}
_HARMLESS = APT | {"neutral", "inspect", "uncache", "upgrade-pip", "tool"}
_ARCHIVE = re.compile(r"\.(?:tar|tgz|tbz2?|txz|tar\.\w+)$|://|^git@")
# What looks like a redirection, and leads to no file: into streams, nowhere, and quoted versions.
_NO_FILE = re.compile(rb"\d?>&\d|&?\d?>[ \t]*/dev/null|\"[^\"\n]*\"|'[^'\n]*'|[<>]=")
_MAKES_NO_FILE = frozenset(
    {
        *("rm", "rmdir", "chmod", "chown", "chgrp", "echo", "printf", "cat", "ls", "grep", "head"),
        *("tail", "stat", "id", "whoami", "du", "sha256sum", "date", "sleep", "wc"),
    }
)
_USER_MAKERS = frozenset({"useradd", "adduser"})
_GROUP_MAKERS = frozenset({"groupadd", "addgroup"})


@dataclass(frozen=True, slots=True)
class Chown:
    """One ``chown -R OWNER PATH…``; ``owner`` as ``--chown`` takes it."""

    owner: str
    paths: tuple[str, ...]

    @property
    def user(self) -> str:
        """The name or number of the user."""
        return self.owner.partition(":")[0]

    @property
    def group(self) -> str:
        """The name or number of the group."""
        return self.owner.partition(":")[2]


def recursive_chown(command: Command) -> Chown | None:
    """Return what a ``chown -R`` does, None where it is another command or not clear.

    Without a group chown leaves the group as it is, which is root's for all that is copied.
    """
    if command.program != "chown":
        return None
    options = [text for text in command.texts[1:] if text.startswith("-")]
    operands = [text for text in command.texts[1:] if not text.startswith("-")]
    if options not in (["-R"], ["--recursive"]) or len(operands) < 2:
        return None
    owner = operands[0]
    if not re.fullmatch(r"[\w-]+(:[\w-]+)?", owner):
        return None
    return Chown(owner if ":" in owner else f"{owner}:root", tuple(operands[1:]))


def is_inside(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or something below it."""
    return path == folder or path.startswith(posixpath.join(folder, ""))


def absolute(image: BuiltImage, stage: Stage, instruction: Instruction, path: str) -> str | None:
    """Return ``path`` as an absolute one at ``instruction``; None where it is not known."""
    written = expand(path, environment_at(image.dockerfile, stage, instruction))
    if written is None or set(written) & set("*?[{~$`"):
        return None
    if written.startswith("/"):
        return posixpath.normpath(written)
    folder = workdir_at(image.dockerfile, stage, instruction)
    return posixpath.normpath(posixpath.join(folder, written)) if folder else None


def copied_to(
    image: BuiltImage, stage: Stage, folder: str, end: Instruction
) -> tuple[Instruction, ...] | str:
    """Return the COPY and ADD of ``stage`` that write inside ``folder`` before ``end``.

    Or why that is not certain.
    """
    found = []
    for part in image.layers:
        for instruction in part.instructions:
            if part is stage and instruction.start >= end.start:
                break
            if instruction.keyword not in ("COPY", "ADD"):
                continue
            copy = copies(instruction)
            target = absolute(image, part, instruction, copy.destination) if copy else None
            if copy is None or target is None:
                return f"where line {instruction.line} copies to is not known"
            if is_inside(target, folder):
                if part is not stage:
                    return f"line {instruction.line}, in another stage, copies there too"
                if instruction.keyword == "ADD" and any(map(_ARCHIVE.search, copy.sources)):
                    return f"line {instruction.line} unpacks or fetches there"
                found.append(instruction)
            elif is_inside(folder, target):
                return f"line {instruction.line} copies to a folder above it"
        if part is stage:
            break
    return tuple(found)


def folders_made(
    image: BuiltImage, stage: Stage, folder: str, end: Instruction
) -> tuple[str, ...] | Instruction:
    """Return the folders that ``mkdir`` makes inside ``folder`` up to the RUN ``end``.

    Or the RUN that may write something else there.
    """
    made: dict[str, None] = {}
    for part in image.layers:
        for instruction in part.instructions:
            if part is stage and instruction.start > end.start:
                break
            if instruction.keyword == "RUN":
                written = _written(image, part, instruction, folder)
                if written is None:
                    return instruction
                made |= dict.fromkeys(written)
        if part is stage:
            break
    return tuple(made)


def _written(
    image: BuiltImage, stage: Stage, instruction: Instruction, folder: str
) -> list[str] | None:
    """Return the folders that a RUN makes inside ``folder``; None where it may write files."""
    text = image.text(instruction)
    known = environment_at(image.dockerfile, stage, instruction)
    names = [name for name, value in known.items() if value and is_inside(value, folder)]
    is_named = folder.encode() in text or any(f"${name}".encode() in text for name in names)
    is_named = is_named or any(f"${{{name}".encode() in text for name in names)
    here = workdir_at(image.dockerfile, stage, instruction) or "/"
    if not is_named and not is_inside(here, folder):
        return []
    found = image.commands(stage, instruction)
    if instruction.opaque or not found or b">" in _NO_FILE.sub(b"", text):
        return None
    made: list[str] = []
    for command in found:
        inside = _written_by(image, stage, instruction, command, folder)
        if inside is None:
            return None
        made += inside
    return made


def _written_by(
    image: BuiltImage, stage: Stage, instruction: Instruction, command: Command, folder: str
) -> list[str] | None:
    kind = kind_of(command)
    if kind in _HARMLESS or command.program in _MAKES_NO_FILE:
        return []
    if kind == "install":
        install = parse_install(command)
        # Project managers keep an environment, and may build the project, where they run.
        if isinstance(install, str) or install.tool not in ("pip", "uv"):
            return None
        operands = list(install.projects)
    elif command.program in _USER_MAKERS | _GROUP_MAKERS | {"usermod", "groupmod"}:
        return []
    elif kind in ("accounts", "files"):
        operands = [text for text in command.texts[1:] if not text.startswith("-")]
    else:
        return None
    paths = [absolute(image, stage, instruction, text) for text in operands]
    inside = [path for path in paths if path is None or is_inside(path, folder)]
    if command.program == "mkdir" and None not in inside:
        return [each for path in inside for each in _with_parents(str(path), folder)]
    return None if inside else []


def _with_parents(path: str, folder: str) -> Iterator[str]:
    """Yield the folders between ``folder`` and ``path``, that one last."""
    parts = posixpath.relpath(path, folder).split("/")
    for count in range(1, len(parts) + 1):
        if parts != ["."]:
            yield posixpath.join(folder, *parts[:count])


def exists_from_the_start(name: str, *, group: bool) -> bool:
    """Whether every Debian image knows the user or group, or it is a number."""
    return name.isdecimal() or name in (_GROUPS if group else _USERS)


def makes_user(command: Command, name: str) -> bool:
    """Whether ``command`` creates the user ``name``, and with it a group of that name."""
    return command.program in _USER_MAKERS and command.texts[-1] == name


def makes_group(command: Command, name: str) -> bool:
    """Whether ``command`` creates the group ``name``; a user brings one of its own name."""
    if command.program in _GROUP_MAKERS:
        return command.texts[-1] == name
    gives_own = not {"-g", "--gid", "-N", "--no-user-group", "--ingroup"} & set(command.texts)
    return makes_user(command, name) and gives_own
