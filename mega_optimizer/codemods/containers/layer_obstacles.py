"""What stands against copying the code below the RUN instructions that install packages."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import APT
from mega_optimizer.codemods.containers.image_recipe import ignore_patterns, in_context
from mega_optimizer.codemods.containers.install_sources import install_sources
from mega_optimizer.codemods.containers.installs import tool_of
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dockerfile import copies
from mega_optimizer.repository.dockerignore import ignored
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run, Transfer
    from mega_optimizer.codemods.containers.installs import Install
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction
    from mega_optimizer.repository.shell import Command

# What reads and changes no file of the code, so that it may as well come before it.
_APART = APT | {"neutral", "install", "tool", "upgrade-pip", "uncache", "inspect", "environment"}
_ACCOUNTS = frozenset(
    {"addgroup", "adduser", "groupadd", "groupmod", "mkdir", "useradd", "usermod"}
)
_FLAGS = frozenset({"chown", "chmod", "link"})


def run_obstacle(
    context: Context, recipe: Recipe, run: Run, moved: Sequence[Instruction]
) -> Skip | None:
    """Return why ``run`` needs the code that is copied above it."""
    place = Place(recipe.path, run.instruction.line, end_line=run.instruction.end_line)
    if not run.commands or run.instruction.heredocs:
        return Skip(place, "opaque-shell", "this RUN is not a plain list of shell commands")
    for command, kind in zip(run.commands, run.kinds, strict=True):
        words, _ = unwrapped(command.words)
        program = posixpath.basename(words[0].text) if words else ""
        if kind == "accounts" and program in _ACCOUNTS:
            continue
        asks = bool(words) and words[0].text.startswith(("[", "test"))
        if kind not in _APART or asks or command.inside not in ("", "group"):
            text = " ".join(word.text for word in (words or command.words)[:2])
            return Skip(place, "step-between", f"{text} may read the code, or change it")
        obstacle = _environment_obstacle(context, recipe, run, command, kind, moved)
        if obstacle:
            return obstacle
    for _, _, install in (each for each in recipe.installs(in_place=True) if each[0] is run):
        obstacle = _install_obstacle(context, recipe, run, install, place)
        if obstacle:
            return obstacle
    return None


def _install_obstacle(
    context: Context, recipe: Recipe, run: Run, install: Install | str, place: Place
) -> Skip | None:
    if isinstance(install, str):
        code = (
            "editable-install" if install.startswith(("-e", "--editable")) else "installer-option"
        )
        return Skip(place, code, f"{install or 'an option'} may read more than the manifests")
    found = install_sources(context, recipe, run, install)
    if isinstance(found, Skip):
        return found
    if any(path is None for _, path in found):
        return Skip(place, "project-install", "it installs the project itself, which is the code")
    return None


def _environment_obstacle(
    context: Context,
    recipe: Recipe,
    run: Run,
    command: Command,
    kind: str,
    moved: Sequence[Instruction],
) -> Skip | None:
    """Return a skip where what is made in the folder of the code could be overwritten by it."""
    here = recipe.folder_at(run.instruction)
    named = [*_targets(command)] if kind == "install" else []
    if kind == "environment" and "activate" not in command.texts[-1]:
        # `uv venv` alone makes .venv.
        named.append(".venv" if command.texts[-2:] == ("uv", "venv") else command.texts[-1])
    if kind == "install" and tool_of(command) in ("uv-sync", "poetry", "pipenv"):
        named.append(".venv")
    written = [recipe.expanded(name, run.instruction) for name in named]
    paths = [posixpath.normpath(posixpath.join(here, name)) for name in written if name]
    folders = [each.destination for each in recipe.transfers if each.instruction in moved]
    for path in paths:
        for folder in folders:
            inside = posixpath.relpath(path, folder)
            if inside.startswith("..") or ignored(
                ignore_patterns(context, recipe), f"{inside}/bin/python"
            ):
                continue
            place = Place(recipe.path, run.instruction.line)
            reason = f"the code, copied later, may bring a {inside} of its own: it is not ignored"
            return Skip(place, "environment-in-context", reason)
    return None


def _targets(command: Command) -> Iterator[str]:
    """Yield the folders that options of ``pip install`` name to install into."""
    for option, value in zip(command.texts, (*command.texts[1:], ""), strict=True):
        name, equals, inner = option.partition("=")
        if name in ("--target", "-t", "--prefix", "--root"):
            yield inner if equals else value


def copy_obstacle(
    context: Context, recipe: Recipe, moved: Sequence[Instruction], kept: Sequence[Instruction]
) -> Skip | None:
    """Return why the order of the COPY instructions has to stay."""
    for instruction in moved:
        place = Place(recipe.path, instruction.line, end_line=instruction.end_line)
        if instruction.opaque or "://" in "".join(instruction.values):
            return Skip(place, "opaque-copy", "it is not known what this instruction brings")
        if any(flag.name not in _FLAGS for flag in instruction.flags):
            return Skip(place, "copy-option", "an option says which files are copied")
    code = [each for each in recipe.transfers if each.instruction in moved]
    for instruction in kept:
        if not moved or instruction.start < moved[0].start:
            continue
        if any(_lays_over(context, recipe, instruction, each) for each in code):
            place = Place(recipe.path, instruction.line, end_line=instruction.end_line)
            reason = "it lays other files over those of the code"
            return Skip(place, "overlapping-copies", reason)
    return None


def _lays_over(context: Context, recipe: Recipe, instruction: Instruction, code: Transfer) -> bool:
    """Whether ``instruction`` brings a file to where ``code`` brings another one."""
    own = [each for each in recipe.transfers if each.instruction is instruction]
    for each in own:
        path = each.destination
        if each.into:
            path = posixpath.join(path, posixpath.basename(each.source))
        source = code.source_of(path)
        if each.is_folder and (_is_inside(path, code.destination) or source is not None):
            return True
        if (
            source is not None
            and source != each.source
            and in_context(context, source) in context.files
        ):
            return True
    copy = copies(instruction)
    if own or copy is None:
        return False
    destination = recipe.expanded(copy.destination, instruction) or "?"
    target = posixpath.normpath(posixpath.join(recipe.folder_at(instruction), destination))
    return _is_inside(target, code.destination) or _is_inside(code.destination, target)


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(posixpath.join(folder, ""))
