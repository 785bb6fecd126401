"""Create the owner of files before the files are copied."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import pieces
from mega_optimizer.codemods.containers.ownership import (
    exists_from_the_start,
    makes_group,
    makes_user,
)
from mega_optimizer.codemods.containers.run_text import chained_after, with_comments
from mega_optimizer.codemods.finding import Edit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mega_optimizer.codemods.containers.build_steps import Piece
    from mega_optimizer.codemods.containers.ownership import Chown
    from mega_optimizer.codemods.containers.shipped import BuiltImage
    from mega_optimizer.repository.dockerfile import Instruction, Stage
    from mega_optimizer.repository.shell import Command


@dataclass(frozen=True, slots=True)
class Moved:
    """The commands of ``run`` that create the owner, and have to do so earlier; none may."""

    run: Instruction
    chain: tuple[Piece, ...] = ()
    moving: tuple[Piece, ...] = ()


def merged_with_previous(
    image: BuiltImage,
    stage: Stage,
    first: Instruction,
    instruction: Instruction,
    chain: tuple[Piece, ...],
    moved: Moved,
    text: str,
) -> list[Edit] | None:
    """Return the edits that put ``text`` into the RUN before, where nothing else is left of this.

    None where something is left, or no plain RUN stands right before.
    """
    position = stage.instructions.index(instruction)
    if not moved.moving or moved.run is not instruction or len(moved.moving) != len(chain) - 1:
        return None
    if not position:
        return None
    previous = stage.instructions[position - 1]
    own = with_comments(image.content, instruction)
    between = image.content[previous.end : own]
    if previous.keyword != "RUN" or previous.flags or instruction.flags or between.strip():
        return None
    before = pieces(image.content, previous, image.commands(stage, previous))
    if not before:
        return None
    newline = image.dockerfile.newline.encode()
    texts = [image.content[piece.start : piece.end] for piece in moved.moving]
    comments = image.content[own : instruction.start]
    start = with_comments(image.content, first)
    end = image.content.find(b"\n", instruction.end - 1) + 1
    end += len(newline) if image.content[end:].startswith(newline) else 0
    last = before[-1]
    added = chained_after(image.content, image.dockerfile, previous, last.start, text)
    created = comments + b"RUN " + b" && ".join(texts) + newline + newline
    return [
        Edit(image.path, start, start, created),
        Edit(image.path, last.end, last.end, added),
        Edit(image.path, own, end, b""),
    ]


def moved_users(
    image: BuiltImage,
    stage: Stage,
    first: Instruction,
    instruction: Instruction,
    chain: tuple[Piece, ...],
    chown: Chown,
    paths: tuple[str, ...],
) -> Moved | tuple[str, str]:
    """Return the edits that create the owner before the ``first`` COPY that names it.

    None are needed where it exists by then. Only commands of the RUN that changes the owner move.
    """
    wanted: list[Callable[[Command], bool]] = []
    if not exists_from_the_start(chown.group, group=True):
        wanted.append(partial(makes_group, name=chown.group))
    if not exists_from_the_start(chown.user, group=False):
        wanted.append(partial(makes_user, name=chown.user))
    lacking = [makes for makes in wanted if not _made_before(image, stage, first, makes)]
    if not lacking:
        return Moved(instruction)
    source = _source_of_users(image, stage, first, instruction, chain, lacking)
    if source is None:
        return "owner-unknown", f"who {chown.owner} is, is not known where files are copied"
    run, run_chain, moving = source
    texts = [text for piece in moving for text in piece.command.texts]
    if any(path in texts or path.startswith("/home/") for path in paths):
        return "owner-unknown", "the owner's home would be made before the files are copied"
    between = [each for each in stage.instructions if first.start < each.start < instruction.start]
    if any(each.keyword == "USER" for each in between) or _user_at(image, stage, first):
        return "owner-unknown", "only root can create the owner before the files are copied"
    if any(each.keyword == "RUN" and b"apt" in image.text(each) for each in between):
        return "owner-unknown", "what creates the owner may be installed after the files are copied"
    return Moved(run, run_chain, tuple(moving))


def _source_of_users(
    image: BuiltImage,
    stage: Stage,
    first: Instruction,
    instruction: Instruction,
    chain: tuple[Piece, ...],
    lacking: list[Callable[[Command], bool]],
) -> tuple[Instruction, tuple[Piece, ...], list[Piece]] | None:
    """Return the RUN that creates the users, its chain, and the commands of it that do.

    It is the RUN ``instruction`` itself, or one before it that does nothing else.
    """
    for run in (instruction, *stage.instructions):
        if run.keyword != "RUN" or not first.start < run.start <= instruction.start:
            continue
        found = (
            chain if run is instruction else pieces(image.content, run, image.commands(stage, run))
        )
        moving = [piece for piece in found or () if any(makes(piece.command) for makes in lacking)]
        if not found or not all(any(makes(each.command) for each in moving) for makes in lacking):
            continue
        is_first = found[-1] not in moving
        if (run is instruction and is_first) or len(moving) == len(found):
            return run, found, moving
    return None


def _made_before(
    image: BuiltImage, stage: Stage, first: Instruction, makes: Callable[[Command], bool]
) -> bool:
    for part in image.layers:
        for instruction in part.instructions:
            if part is stage and instruction.start >= first.start:
                return False
            if instruction.keyword == "RUN":
                for command in image.commands(part, instruction):
                    if command.words and not command.inside and makes(command):
                        return True
        if part is stage:
            return False
    return False


def _user_at(image: BuiltImage, stage: Stage, first: Instruction) -> bool:
    """Whether another user than root is in force at ``first``."""
    named = [
        each
        for part in image.layers
        for each in part.instructions
        if each.keyword == "USER" and (part is not stage or each.start < first.start)
    ]
    return bool(named) and named[-1].values[:1] not in (("root",), ("0",))


def moving_edits(image: BuiltImage, first: Instruction, moved: Moved) -> Iterator[Edit]:
    """Yield the edits that create the owner above ``first``, and no longer where it was."""
    chain, moving = moved.chain, moved.moving
    if not moving:
        return
    newline = image.dockerfile.newline.encode()
    start = with_comments(image.content, first)
    if len(moving) == len(chain):
        own = with_comments(image.content, moved.run)
        end = image.content.find(b"\n", moved.run.end - 1) + 1
        after = image.content[end:]
        yield Edit(image.path, start, start, image.content[own:end] + newline)
        blank = newline if after.startswith(newline) else b""
        yield Edit(image.path, own, end + len(blank), b"")
        return
    texts = [image.content[piece.start : piece.end] for piece in moving]
    yield Edit(image.path, start, start, b"RUN " + b" && ".join(texts) + newline + newline)
    for piece in moving:
        following = chain[chain.index(piece) + 1]
        yield Edit(image.path, piece.start, following.start, b"")
