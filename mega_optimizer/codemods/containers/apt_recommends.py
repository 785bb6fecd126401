"""Install what is asked for, not what Debian recommends beside it.

https://docs.docker.com/build/building/best-practices/#apt-get and
https://github.com/hadolint/hadolint/wiki/DL3015
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.pip_cache import runs_here_document
from mega_optimizer.codemods.containers.python_images import is_python_image
from mega_optimizer.codemods.containers.recommended_packages import (
    IN_FULL_PYTHON,
    IN_SLIM_PYTHON,
    is_among,
    needed_with,
)
from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.containers.system_packages import package_name
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.apt import (
    apt_verb,
    apt_words,
    forgoes_recommends,
    is_apt_install,
    packages_of,
)
from mega_optimizer.repository.dockerfile import stage_ships

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction, Stage
    from mega_optimizer.repository.service import Word
    from mega_optimizer.repository.shell import Command

_FLAG = "--no-install-recommends"
_INSTALLS = re.compile(rb"\bapt(?:-get)?\b")
_CONFIGURED = re.compile(rb"APT::Install-Recommends|Install-Recommends", re.IGNORECASE)
_SSH = re.compile(rb"\bssh://|git@|--mount=type=ssh|\bssh-|\.ssh\b")
_SENTENCE = frozenset({"", "group", "condition", "loop"})


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each RUN of the image that installs recommended packages too."""
    image = built_image(context, _INSTALLS)
    if isinstance(image, Skip):
        yield image
    if not isinstance(image, BuiltImage) or _CONFIGURED.search(image.content):
        return
    installed: set[str] = set(_brought(image))
    for stage in image.dockerfile.stages:
        for instruction in stage.instructions:
            if instruction.keyword == "RUN" and _INSTALLS.search(image.text(instruction)):
                yield from _look_at(context, image, stage, instruction, installed)


def _brought(image: BuiltImage) -> frozenset[str]:
    """Return what the base image has of the packages that may have to be named."""
    base = image.base or ""
    if not is_python_image(base) or "alpine" in base:
        return frozenset()
    return IN_SLIM_PYTHON if "slim" in base else IN_FULL_PYTHON


def _look_at(
    context: Context,
    image: BuiltImage,
    stage: Stage,
    instruction: Instruction,
    installed: set[str],
) -> Iterator[Outcome]:
    found = [each for each in image.commands(stage, instruction) if is_apt_install(each)]
    greedy = [command for command in found if not forgoes_recommends(command)]
    ships = stage_ships(image.dockerfile, stage, context.service.stage)
    if ships:
        installed |= {package_name(word.text) for each in found for word in packages_of(each)}
    if not greedy:
        return
    place = image.place(instruction)
    if not ships:
        reason = "this stage is not part of the image that ships"
        yield Skip(place, "stage-not-shipped", reason, agrees_to=image.path)
        return
    plainly = _SENTENCE | {"heredoc"} if runs_here_document(instruction) else _SENTENCE
    edits: list[Edit] = []
    named: list[str] = []
    for command in greedy:
        if command.inside not in plainly:
            yield Skip(place, "opaque-shell", "it is not certain when apt runs here, or how")
            return
        obstacle = _obstacle(image, command)
        if obstacle:
            yield Skip(place, *obstacle)
            return
        missing = _missing(command, installed)
        installed |= set(missing)
        named += missing
        edits += _edits(image, command, missing)
    beside = f"; {', '.join(named)} by name" if named else ""
    message = f"Install what is asked for, without what Debian recommends beside it{beside}"
    yield Fix(place, message, tuple(edits))


def _missing(command: Command, installed: set[str]) -> tuple[str, ...]:
    """Return what must be named beside the packages of ``command``, each once."""
    names = [package_name(word.text) for word in packages_of(command)]
    needed = [name for package in names for name in needed_with(package) or ()]
    return tuple(dict.fromkeys(name for name in needed if not is_among(name, installed)))


def _obstacle(image: BuiltImage, command: Command) -> tuple[str, str] | None:
    packages = packages_of(command)
    if not packages:
        return "recommends-unknown", "it installs what something else names"
    for word in packages:
        name = package_name(word.text)
        if name == "python3-pip":
            reason = "python3-pip recommends the compiler that packages without wheels need"
            return "recommends-compiler", reason
        if needed_with(name) is None:
            reason = f"what {name} recommends may be in use"
            return "recommends-unknown", reason
        if name in ("git", "git-lfs") and _SSH.search(image.content):
            return "recommends-ssh", "git recommends the ssh client, and ssh is used here"
    return None


def _edits(image: BuiltImage, command: Command, missing: tuple[str, ...]) -> Iterator[Edit]:
    verb = apt_verb(command)
    packages = packages_of(command)
    if verb is None or verb.end < 0:
        return
    place = _last_option(command, verb)
    addition = f', "{_FLAG}"' if command.exec_form else f" {_FLAG}"
    yield Edit(image.path, place.end, place.end, addition.encode())
    if missing:
        last = packages[-1]
        yield Edit(image.path, last.end, last.end, _as_listed(image, command, missing))


def _last_option(command: Command, verb: Word) -> Word:
    """Return the last of the options right behind ``install``, else that word itself."""
    words = apt_words(command) or ()
    place = verb
    for word in words[words.index(verb) + 1 :]:
        if not word.text.startswith("-") or word.text in ("-o", "-t", "--target-release"):
            break
        place = word
    return place


def _as_listed(image: BuiltImage, command: Command, missing: tuple[str, ...]) -> bytes:
    """Return ``missing`` as the packages of ``command`` are listed: on one line, or one a line."""
    packages = packages_of(command)
    if command.exec_form:
        return "".join(f', "{name}"' for name in missing).encode()
    if len(packages) > 1:
        between = image.content[packages[-2].end : packages[-1].start]
        if b"\n" in between and b"#" not in between:
            return b"".join(between + name.encode() for name in missing)
    return "".join(f" {name}" for name in missing).encode()
