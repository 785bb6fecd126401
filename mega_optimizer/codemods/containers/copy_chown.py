"""Give files their owner as they are copied: ``COPY --chown`` instead of ``RUN chown -R``.

https://docs.docker.com/reference/dockerfile/#copy---chown---chmod
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import pieces
from mega_optimizer.codemods.containers.owner_creation import (
    merged_with_previous,
    moved_users,
    moving_edits,
)
from mega_optimizer.codemods.containers.ownership import (
    absolute,
    copied_to,
    folders_made,
    recursive_chown,
)
from mega_optimizer.codemods.containers.python_images import is_python_image
from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import stage_ships

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.build_steps import Piece
    from mega_optimizer.codemods.containers.ownership import Chown
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction, Stage

_CHOWN = re.compile(rb"\bchown\b[^\n]*-[a-zA-Z-]*[Rr]")
# Where an image of the distribution has no files of its own.
_OWN_FOLDERS = re.compile(
    r"/(?:app|application|code|workspace|project|service|src|data|models|home|opt|srv|usr/src"
    r"|var/www|usr/local/app|venv|\.venv|function|work)(?:/|$)"
)
_TOO_WIDE = frozenset({"/home", "/opt", "/srv", "/usr/src", "/data"})
_DISTRIBUTIONS = re.compile(r"(?:docker\.io/)?(?:library/)?(?:debian|ubuntu)(?::.*)?")
_MOST_FOLDERS = 6


@dataclass(frozen=True, slots=True)
class _Converted:
    """A path whose files get their owner when they are copied."""

    path: str
    copies: tuple[Instruction, ...]
    folders: tuple[str, ...]


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each ``RUN chown -R`` of what was only copied."""
    image = built_image(context, _CHOWN)
    if isinstance(image, Skip):
        yield image
    if not isinstance(image, BuiltImage):
        return
    for stage in image.dockerfile.stages:
        for instruction in stage.instructions:
            if instruction.keyword == "RUN" and b"chown" in image.text(instruction):
                yield from _look_at(context, image, stage, instruction)


def _look_at(
    context: Context, image: BuiltImage, stage: Stage, instruction: Instruction
) -> Iterator[Outcome]:
    found = image.commands(stage, instruction)
    chowns = [(command, chown) for command in found if (chown := recursive_chown(command))]
    if not chowns:
        return
    place = image.place(instruction)
    if not stage_ships(image.dockerfile, stage, context.service.stage):
        reason = "this stage is not part of the image that ships"
        yield Skip(place, "stage-not-shipped", reason, agrees_to=image.path)
        return
    chain = pieces(image.content, instruction, found)
    if not chain:
        yield Skip(place, "opaque-shell", "the commands of this RUN are no plain chain")
        return
    for piece in chain:
        chown = recursive_chown(piece.command)
        if chown:
            outcome = _outcome(image, stage, instruction, chain, piece, chown)
            if outcome:
                yield outcome


def _outcome(
    image: BuiltImage,
    stage: Stage,
    instruction: Instruction,
    chain: tuple[Piece, ...],
    piece: Piece,
    chown: Chown,
) -> Outcome | None:
    """Return the fix of one ``chown -R``, or why not; None where nothing was copied to it."""
    place = image.place(instruction)
    converted: list[_Converted] = []
    kept: list[str] = []
    skips: list[Skip] = []
    for written in chown.paths:
        path = absolute(image, stage, instruction, written)
        copied = copied_to(image, stage, path, instruction) if path else "a path is not known"
        if isinstance(copied, str):
            skips.append(Skip(place, "copies-unclear", copied))
        elif path is None or not copied:
            kept.append(written)
            continue
        else:
            answer = _converted(image, stage, instruction, chown, path, copied)
            if isinstance(answer, _Converted):
                converted.append(answer)
                continue
            skips.append(Skip(place, *answer))
        kept.append(written)
    if not converted:
        return skips[0] if skips else None
    first = min((each for part in converted for each in part.copies), key=lambda one: one.start)
    paths = tuple(part.path for part in converted)
    moved = moved_users(image, stage, first, instruction, chain, chown, paths)
    if isinstance(moved, tuple):
        return Skip(place, *moved)
    edits = [_with_owner(image, each, chown) for part in converted for each in part.copies]
    text = _chown_text(piece, converted, kept)
    merged = merged_with_previous(image, stage, first, instruction, chain, moved, text)
    if merged:
        edits += merged
    else:
        edits += moving_edits(image, first, moved)
        edits.append(Edit(image.path, piece.command.words[0].start, piece.end, text.encode()))
    message = f"Copy {', '.join(paths)} with its owner: chown -R stores every file a second time"
    return Fix(place, message, tuple(edits))


def _converted(
    image: BuiltImage,
    stage: Stage,
    instruction: Instruction,
    chown: Chown,
    path: str,
    copied: tuple[Instruction, ...],
) -> _Converted | tuple[str, str]:
    base = image.base or ""
    if not (is_python_image(base) or _DISTRIBUTIONS.fullmatch(base)) or "alpine" in base:
        return "unknown-base", f"{base or 'the base image'} may have files there"
    if not _OWN_FOLDERS.match(path) or path in _TOO_WIDE:
        return "system-path", f"the base image may have files in {path}"
    for each in copied:
        if each.flag("chown") not in (None, chown.owner):
            return "other-owner", f"line {each.line} gives another owner"
        if each.flag("link") is not None and not re.fullmatch(r"\d+:\d+", chown.owner):
            return "linked-copy", f"line {each.line} is linked, and so knows no users by name"
    if all(each.flag("chown") for each in copied):
        return "other-writer", "what is copied has its owner already"
    made = folders_made(image, stage, path, instruction)
    if not isinstance(made, tuple):
        return "path-written", f"line {made.line} may write files in {path} too"
    if len(made) > _MOST_FOLDERS:
        return "path-written", f"too many folders are made in {path}"
    return _Converted(path, copied, made)


def _with_owner(image: BuiltImage, copy: Instruction, chown: Chown) -> Edit:
    after = copy.flags[-1].end if copy.flags else copy.start + len(copy.keyword)
    if copy.flag("chown"):
        return Edit(image.path, after, after, b"")
    return Edit(image.path, after, after, f" --chown={chown.owner}".encode())


def _chown_text(piece: Piece, converted: list[_Converted], kept: list[str]) -> str:
    """Return the command that leaves to chown the folders themselves, and what else is written.

    ``WORKDIR`` and ``mkdir`` make folders that belong to root, whatever is copied into them.
    """
    owner = piece.command.words[2].text
    folders = [folder for part in converted for folder in (part.path, *part.folders)]
    commands = [f"chown {owner} {' '.join(dict.fromkeys(folders))}"]
    if kept:
        commands.append(f"chown -R {owner} {' '.join(kept)}")
    return " && ".join(commands)
