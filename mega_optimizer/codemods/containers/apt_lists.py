"""Remove apt's package lists in the RUN that fetched them.

https://docs.docker.com/build/building/best-practices/#apt-get and
https://github.com/hadolint/hadolint/wiki/DL3009
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import pieces
from mega_optimizer.codemods.containers.pip_cache import runs_here_document
from mega_optimizer.codemods.containers.run_text import chained_after
from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.apt import (
    apt_words,
    is_apt_update,
    keeps_lists_elsewhere,
    reads_apt_lists,
    removes_apt_lists,
)
from mega_optimizer.repository.dockerfile import lineage, stage_ships
from mega_optimizer.repository.shell import is_shell, parse_shell
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.build_steps import Piece
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction, Stage
    from mega_optimizer.repository.shell import Command

_APT = re.compile(rb"\bapt(?:-get)?\b")
_INSTALLS = re.compile(rb"\bapt(?:-get)?\b[^\n#]*\binstall\b")
_ONLY_RUN = re.compile(rb"\s*RUN[ \t]+", re.IGNORECASE)
_FETCHING = frozenset({"apt-update", "apt-upgrade"})
_INSTALLING = frozenset({"apt-upgrade", "apt-install", "apt-clean"})
_REMOVAL = "rm -rf /var/lib/apt/lists/*"


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each RUN of the image that leaves package lists behind."""
    image = built_image(context, _APT)
    if isinstance(image, Skip):
        yield image
    if not isinstance(image, BuiltImage):
        return
    for stage in image.dockerfile.stages:
        for instruction in stage.instructions:
            if instruction.keyword == "RUN" and _APT.search(image.text(instruction)):
                yield from _look_at(context, image, stage, instruction)


def _look_at(
    context: Context, image: BuiltImage, stage: Stage, instruction: Instruction
) -> Iterator[Outcome]:
    """Yield the outcome of one RUN, if it fetches the lists and leaves them."""
    if instruction.opaque:
        yield Skip(
            image.place(instruction), "opaque-shell", "the parsers read this RUN differently"
        )
        return
    found = image.commands(stage, instruction)
    if not _leaves_lists(found) or keeps_lists_elsewhere(instruction):
        return
    place = image.place(instruction)
    if not stage_ships(image.dockerfile, stage, context.service.stage):
        reason = "this stage is not part of the image that ships"
        yield Skip(place, "stage-not-shipped", reason, agrees_to=image.path)
        return
    joined = _joined_with_next(context, image, stage, instruction, found)
    if joined:
        yield joined
        return
    reader = _later_reader(context, image, stage, instruction)
    if reader:
        yield Skip(place, "lists-needed", f"{reader} installs with the lists that this RUN fetched")
        return
    if not any(map(_uses_lists, found)):
        yield Skip(place, "update-alone", "it fetches lists, and nothing here installs with them")
        return
    edit = _removal(image, instruction, found)
    if edit is None:
        reason = "the commands are no plain chain: it is not certain where the last one ends"
        yield Skip(place, "opaque-shell", reason)
        return
    yield Fix(place, "The package lists that apt fetched stay in this layer; remove them", (edit,))


def _leaves_lists(found: tuple[Command, ...]) -> bool:
    """Whether the lists are fetched and not removed afterwards."""
    fetches = [position for position, command in enumerate(found) if is_apt_update(command)]
    removals = [position for position, command in enumerate(found) if removes_apt_lists(command)]
    return bool(fetches) and not any(position > fetches[0] for position in removals)


def _uses_lists(command: Command) -> bool:
    """Whether ``command`` is one for which lists are fetched, or may be one."""
    return reads_apt_lists(command) or (not is_apt_update(command) and _runs_a_script(command))


def _runs_a_script(command: Command) -> bool:
    words, _ = unwrapped(command.words)
    return bool(words) and ("/" in words[0].text or is_shell(words[0].text))


def _removal(
    image: BuiltImage, instruction: Instruction, found: tuple[Command, ...]
) -> Edit | None:
    """Return the edit that appends the removal to the chain, None where it is no plain chain."""
    if instruction.exec_form is not None:
        return None
    removal = f"sudo {_REMOVAL}" if any(map(_is_run_by_sudo, found)) else _REMOVAL
    chain = pieces(image.content, instruction, found)
    if chain:
        last = chain[-1]
        text = chained_after(image.content, image.dockerfile, instruction, last.start, removal)
        return Edit(image.path, last.end, last.end, text)
    end = _end_of_script(instruction)
    return Edit(image.path, end, end, f" && {removal}".encode()) if end is not None else None


def _is_run_by_sudo(command: Command) -> bool:
    return command.program == "sudo" and apt_words(command) is not None


def _end_of_script(instruction: Instruction) -> int | None:
    """Return where the last command of a here-document ends, if it is a list of plain commands."""
    if not runs_here_document(instruction) or len(instruction.heredocs) != 1:
        return None
    body = instruction.heredocs[0].body
    if body.text.startswith(b"#!") or body.offsets is None:
        return None
    found = parse_shell(body, strict=True)
    if not found or any(each.inside or each.joined in ("|", "||", "&") for each in found):
        return None
    words = found[-1].words
    if not words or words[-1].end != body.offsets[0] + len(body.text.rstrip()):
        return None
    return words[-1].end


def _later_reader(
    context: Context, image: BuiltImage, stage: Stage, instruction: Instruction
) -> str | None:
    """Return what needs the lists later: a RUN of any stage built on this one, or a script."""
    for other in image.dockerfile.stages:
        if stage not in lineage(image.dockerfile, other):
            continue
        for later in other.instructions:
            run = later.onbuild or later
            is_later = other is not stage or later.start > instruction.start
            if is_later and run.keyword == "RUN" and _relies(context, image, other, run):
                return f"line {later.line}"
    for script in _scripts(context):
        content = context.read(script)
        if isinstance(content, bytes) and _INSTALLS.search(content) and b"update" not in content:
            return script
    return None


def _scripts(context: Context) -> Iterator[str]:
    root = f"{context.service.root}/" if context.service.root else ""
    for path in context.files.paths:
        if path.startswith(root) and path.endswith((".sh", ".bash", "entrypoint")):
            yield path
    yield from context.modules(b"apt-get")


def _relies(context: Context, image: BuiltImage, stage: Stage, run: Instruction) -> bool:
    """Whether ``run`` reads lists that it did not fetch itself."""
    if run.opaque:
        return b"apt" in image.text(run)
    for command in image.commands(stage, run):
        if is_apt_update(command):
            return False
        if reads_apt_lists(command):
            return True
    return False


def _joined_with_next(
    context: Context,
    image: BuiltImage,
    stage: Stage,
    instruction: Instruction,
    found: tuple[Command, ...],
) -> Fix | None:
    """Return the fix that makes one RUN of ``RUN apt-get update`` and the installs right behind it.

    Only that can remove the lists from the layer where they are. It also ends a trap: the cached
    first layer goes stale, and the install then asks for versions that are gone.
    """
    first = pieces(image.content, instruction, found)
    if instruction.flags or not first or not {piece.kind for piece in first} <= _FETCHING:
        return None
    chains = [(instruction, first), *_installs_behind(image, stage, instruction)]
    last_run, last_chain = chains[-1]
    if last_run is instruction or _later_reader(context, image, stage, last_run):
        return None
    escape, newline = image.dockerfile.escape, image.dockerfile.newline
    between = f" && {escape}{newline}    ".encode()
    edits = [
        Edit(image.path, chain[-1].end, run.arguments_start, between)
        for (_, chain), (run, _) in pairwise(chains)
    ]
    if not any(removes_apt_lists(piece.command) for _, chain in chains for piece in chain):
        end = last_chain[-1].end
        edits.append(Edit(image.path, end, end, between + _REMOVAL.encode()))
    message = "Fetch the lists in the RUN that installs with them, and remove them there"
    return Fix(image.place(instruction), message, tuple(edits))


def _installs_behind(
    image: BuiltImage, stage: Stage, instruction: Instruction
) -> Iterator[tuple[Instruction, tuple[Piece, ...]]]:
    """Yield the RUN lines right behind ``instruction`` that only install with its lists."""
    previous = instruction
    for run in stage.instructions[stage.instructions.index(instruction) + 1 :]:
        gap = image.content[previous.end : max(run.arguments_start, previous.end)]
        if run.keyword != "RUN" or run.opaque or run.flags or not _ONLY_RUN.fullmatch(gap):
            return
        chain = pieces(image.content, run, image.commands(stage, run))
        if not chain or not {piece.kind for piece in chain} <= _INSTALLING:
            return
        yield run, chain
        previous = run
