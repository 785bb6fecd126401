"""What the instructions of an image add to it, layer by layer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.measure.context_size import size_of
from mega_optimizer.measure.evidence import Figure, Part, total, unknown, unknown_part
from mega_optimizer.measure.unpacked import VENV, VENV_SOURCE, venv_bytes
from mega_optimizer.measure.wheels import platform_of
from mega_optimizer.repository.dockerfile import (
    copies,
    environment_at,
    lineage,
    root_image,
    shell_at,
)
from mega_optimizer.repository.dockerfile.expand import expand
from mega_optimizer.repository.dockerfile.stages import stage_named
from mega_optimizer.repository.image import contributing_stages, installed_files
from mega_optimizer.repository.installers import (
    installs_apt,
    is_pip_install,
    is_uv_pip_install,
    keeps_pip_cache,
    pip_subcommand,
    removes_pip_cache,
)
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.shell import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.measure.context_size import BuildContext
    from mega_optimizer.measure.packages import InstalledPackage
    from mega_optimizer.repository.dockerfile import Dockerfile, Instruction, Stage
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.shell import Command

# What these leave in a layer is a few hundred bytes at most, or nothing.
_LEAVES_NOTHING = frozenset(
    {"", "mkdir", "rm", "rmdir", "echo", "set", "export", "cd", "true", "test", "ln", "touch"}
    | {"useradd", "groupadd", "adduser", "addgroup", "usermod", "ulimit", "sleep", "exit"}
)
_PROJECT_INSTALLERS = frozenset({"poetry", "pipenv", "pdm"})
# Where Python packages lie that another stage has installed.
_ENVIRONMENT = re.compile(
    r"venv|site-packages|/\.local\b|/install\b|/usr/local(?:/lib(?:/python.*)?|/bin)?/?$"
)
_CACHE_SOURCE = (
    "pip keeps what it downloads (pip documentation, Caching): the sum of the wheels, which "
    "are compressed already"
)


@dataclass(frozen=True, slots=True)
class Build:
    """A build and what is known about what goes into it.

    ``git_bytes`` is the size of ``.git`` on the disk, if known; ``at_root`` says whether the
    context is the root of the repository, where that folder lies.
    """

    files: Files
    dockerfile: Dockerfile
    stage: Stage
    context: BuildContext
    packages: tuple[InstalledPackage, ...]
    git_bytes: int | None
    at_root: bool


def layer_parts(build: Build) -> Iterator[Part]:
    """Yield the parts that come on top of the base image."""
    if _installs_packages(build):
        yield from (package.part for package in build.packages)
        yield from _venv(build)
    yield from _pip_cache(build)
    copied: list[str] = []
    takes_git = False
    for stage in lineage(build.dockerfile, build.stage):
        for instruction in stage.instructions:
            if instruction.keyword in ("COPY", "ADD"):
                paths, part = _copied(build, stage, instruction)
                copied += paths
                takes_git |= len(paths) > 0 and _takes_whole_context(build, stage, instruction)
                if part:
                    yield part
            elif instruction.keyword == "RUN":
                yield from _run(build, stage, instruction)
    if copied:
        yield _context_part(build, copied)
    if takes_git and build.at_root and build.context.lets_in(".git/HEAD"):
        yield _git_part(build)


def compiles_bytecode(dockerfile: Dockerfile, stage: Stage) -> bool:
    """Whether what installs the packages of ``stage`` compiles their modules.

    pip does (its documentation, "pip install", ``--compile``); uv does where it is told to, by
    ``--compile-bytecode`` or ``UV_COMPILE_BYTECODE``; Poetry and PDM do not.
    """
    for contributing in contributing_stages(dockerfile, stage):
        for instruction in contributing.instructions:
            if instruction.keyword != "RUN":
                continue
            environment = environment_at(dockerfile, contributing, instruction)
            for command in commands(instruction, shell_at(dockerfile, contributing, instruction)):
                if is_pip_install(command) or command.program == "pipenv":
                    if "--no-compile" not in command.texts and _installs_manifest(command):
                        return True
                elif "--compile-bytecode" in command.texts or (
                    is_uv_pip_install(command) and environment.get("UV_COMPILE_BYTECODE")
                ):
                    return True
    return False


def _venv(build: Build) -> Iterator[Part]:
    """Yield what a virtual environment holds before anything is installed in it."""
    platform = platform_of(root_image(build.dockerfile, build.stage) or "")
    makes_one = any(
        "venv" in command.texts[:3] and "--without-pip" not in command.texts
        for stage in contributing_stages(build.dockerfile, build.stage)
        for instruction in stage.instructions
        if instruction.keyword == "RUN"
        for command in commands(instruction, shell_at(build.dockerfile, stage, instruction))
        if command.program.startswith("python")
    )
    if makes_one and platform is not None:
        compressed, on_disk = venv_bytes(platform.minor)
        yield Part(
            VENV,
            Figure(compressed, "bytes compressed", source=VENV_SOURCE, date="2026-11-24"),
            Figure(on_disk, "bytes on disk", source=VENV_SOURCE, date="2026-11-24"),
        )


def _installs_packages(build: Build) -> bool:
    return any(
        _installs_manifest(command)
        for stage in contributing_stages(build.dockerfile, build.stage)
        for instruction in stage.instructions
        if instruction.keyword == "RUN"
        for command in commands(instruction, shell_at(build.dockerfile, stage, instruction))
    )


def _installs_manifest(command: Command) -> bool:
    return any(True for _ in installed_files(command))


def _pip_cache(build: Build) -> Iterator[Part]:
    for stage in lineage(build.dockerfile, build.stage):
        for instruction in stage.instructions:
            if instruction.keyword == "RUN" and _leaves_pip_cache(build, stage, instruction):
                values = total(tuple(package.wheel for package in build.packages))
                if values is None:
                    why = "It holds the wheels, and not all of their sizes are known"
                    yield unknown_part("pip's cache", why)
                else:
                    yield Part(
                        "pip's cache",
                        Figure(values, "bytes compressed", source=_CACHE_SOURCE),
                        Figure(values, "bytes on disk", source=_CACHE_SOURCE),
                    )
                return


def _leaves_pip_cache(build: Build, stage: Stage, instruction: Instruction) -> bool:
    mounts = [flag.value for flag in instruction.flags if flag.name == "mount"]
    if any("type=cache" in mount for mount in mounts):
        return False
    found = commands(instruction, shell_at(build.dockerfile, stage, instruction))
    environment = environment_at(build.dockerfile, stage, instruction)
    keeps = any(
        _installs_manifest(command) and keeps_pip_cache(command, environment) for command in found
    )
    return keeps and not any(removes_pip_cache(command) for command in found)


def _copied(build: Build, stage: Stage, instruction: Instruction) -> tuple[list[str], Part | None]:
    """Return what an instruction copies from the context, or the part that is not known."""
    name = f"{instruction.keyword} on line {instruction.line}"
    copy = copies(instruction)
    if copy is None:
        return [], unknown_part(name, "The instruction is not understood")
    if copy.from_stage is not None:
        other = stage_named(build.dockerfile, copy.from_stage)
        if other is None:
            return [], unknown_part(name, f"It copies from the image {copy.from_stage}")
        if all(_ENVIRONMENT.search(source) for source in copy.sources):
            return [], None
        return [], unknown_part(name, f"It copies what the stage {copy.from_stage} has built")
    environment = environment_at(build.dockerfile, stage, instruction)
    paths: list[str] = []
    for written in copy.sources:
        source = expand(written, environment)
        if source is not None and "://" in source:
            return [], unknown_part(name, f"It downloads {source}")
        found = build.context.copied_by(source) if source is not None else None
        if found is None:
            return [], unknown_part(name, f"{written} is no file that git tracks")
        paths += found
    return paths, None


def _takes_whole_context(build: Build, stage: Stage, instruction: Instruction) -> bool:
    copy = copies(instruction)
    if copy is None or copy.from_stage is not None:
        return False
    environment = environment_at(build.dockerfile, stage, instruction)
    return any((expand(source, environment) or "") in (".", "./", "/") for source in copy.sources)


def _context_part(build: Build, paths: list[str]) -> Part:
    name, source = "build context", "the files that git tracks, as COPY takes them"
    size = size_of(build.files, paths)
    if isinstance(size, Problem):
        return unknown_part(name, f"{size.path}: {size.message}")
    compressed = (
        unknown("bytes compressed", "It is too large to be compressed for an estimate")
        if size.compressed is None
        else Figure(size.compressed, "bytes compressed", source=f"{source}, compressed by gzip")
    )
    return Part(name, compressed, Figure(size.on_disk, "bytes on disk", source=source))


def _git_part(build: Build) -> Part:
    if build.git_bytes is None:
        return unknown_part(".git", "Its size is known only where the repository lies on a disk")
    source = "the .git folder on this disk, whose objects are compressed already"
    return Part(
        ".git",
        Figure(build.git_bytes, "bytes compressed", source=source),
        Figure(build.git_bytes, "bytes on disk", source=source),
    )


def _run(build: Build, stage: Stage, instruction: Instruction) -> Iterator[Part]:
    """Yield what a RUN adds beside the packages of the manifests, each thing once."""
    found = commands(instruction, shell_at(build.dockerfile, stage, instruction))
    if not found:
        yield unknown_part(f"RUN on line {instruction.line}", "The instruction is not understood")
    named: dict[tuple[str, str], None] = {}
    for command in found:
        gap = _gap(command)
        if gap:
            named[gap] = None
    for name, why in named:
        yield unknown_part(name, why)


def _gap(command: Command) -> tuple[str, str] | None:
    """Return (name, why unknown) of what a command adds; None for nothing, or what is counted."""
    program = command.program
    if program in _LEAVES_NOTHING or program.startswith("[") or removes_pip_cache(command):
        return None
    if installs_apt(command) or program in ("apt", "apt-get", "apk", "yum", "dnf", "microdnf"):
        if "install" not in command.texts and "add" not in command.texts:
            return None
        packages = [
            text
            for text in command.texts[1:]
            if not text.startswith("-") and text not in ("install", "add")
        ]
        return f"system packages {' '.join(packages)}", "No source gives their installed size"
    if _installs_manifest(command):
        return None
    if is_pip_install(command) or is_uv_pip_install(command):
        names = [text for text in command.texts if not text.startswith("-")]
        verb = next(position for position, name in enumerate(names) if name in ("install", "sync"))
        listed = " ".join(names[verb + 1 :]) or "of the project"
        return f"packages {listed}", "The Dockerfile names them, no lock does"
    if program in _PROJECT_INSTALLERS or pip_subcommand(command) is not None:
        return None
    return f"what {program} makes", "Only a build shows what the command leaves behind"
