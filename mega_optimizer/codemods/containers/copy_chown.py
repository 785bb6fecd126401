"""Give files their owner as they are copied: ``COPY --chown`` instead of ``RUN chown -R``.

https://docs.docker.com/reference/dockerfile/#copy---chown---chmod
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import pieces
from mega_optimizer.codemods.containers.ownership import (
    absolute,
    copied_to,
    exists_from_the_start,
    folders_made,
    makes_group,
    makes_user,
    recursive_chown,
)
from mega_optimizer.codemods.containers.python_images import is_python_image
from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import stage_ships

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mega_optimizer.codemods.containers.build_steps import Piece
    from mega_optimizer.codemods.containers.ownership import Chown
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction, Stage
    from mega_optimizer.repository.shell import Command

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
    moved = _moved_users(image, stage, first, instruction, chain, chown, converted)
    if isinstance(moved, tuple):
        return Skip(place, *moved)
    edits = [*moved.edits]
    for part in converted:
        edits += (_with_owner(image, each, chown) for each in part.copies)
    edits += _chown_edits(image, piece, chown, converted, kept)
    what = ", ".join(part.path for part in converted)
    message = f"Copy {what} with its owner: chown -R stores every file a second time"
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


def _chown_edits(
    image: BuiltImage, piece: Piece, chown: Chown, converted: list[_Converted], kept: list[str]
) -> Iterator[Edit]:
    """Yield the edit that leaves the folders themselves to chown, and what is written otherwise.

    ``WORKDIR`` and ``mkdir`` make folders that belong to root, whatever is copied into them.
    """
    owner = piece.command.words[2].text
    folders = [folder for part in converted for folder in (part.path, *part.folders)]
    commands = [f"chown {owner} {' '.join(dict.fromkeys(folders))}"]
    if kept:
        commands.append(f"chown -R {owner} {' '.join(kept)}")
    text = " && ".join(commands).encode()
    yield Edit(image.path, piece.command.words[0].start, piece.end, text)


@dataclass(frozen=True, slots=True)
class _Moved:
    edits: tuple[Edit, ...]


def _moved_users(
    image: BuiltImage,
    stage: Stage,
    first: Instruction,
    instruction: Instruction,
    chain: tuple[Piece, ...],
    chown: Chown,
    converted: list[_Converted],
) -> _Moved | tuple[str, str]:
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
        return _Moved(())
    source = _source_of_users(image, stage, first, instruction, chain, lacking)
    if source is None:
        return "owner-unknown", f"who {chown.owner} is, is not known where files are copied"
    run, run_chain, moving = source
    texts = [text for piece in moving for text in piece.command.texts]
    if any(part.path in texts or part.path.startswith("/home/") for part in converted):
        return "owner-unknown", "the owner's home would be made before the files are copied"
    between = [each for each in stage.instructions if first.start < each.start < instruction.start]
    if any(each.keyword == "USER" for each in between) or _user_at(image, stage, first):
        return "owner-unknown", "only root can create the owner before the files are copied"
    if any(each.keyword == "RUN" and b"apt" in image.text(each) for each in between):
        return "owner-unknown", "what creates the owner may be installed after the files are copied"
    return _Moved(tuple(_moving_edits(image, first, run, run_chain, moving)))


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
        if run is instruction or len(moving) == len(found):
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


def _moving_edits(
    image: BuiltImage,
    first: Instruction,
    run: Instruction,
    chain: tuple[Piece, ...],
    moving: list[Piece],
) -> Iterator[Edit]:
    newline = image.dockerfile.newline.encode()
    start = _with_comments(image.content, first)
    if len(moving) == len(chain):
        own = _with_comments(image.content, run)
        end = image.content.find(b"\n", run.end - 1) + 1
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


def _with_comments(content: bytes, instruction: Instruction) -> int:
    """Return where the lines of ``instruction`` start, the comments right above it included."""
    start = content.rfind(b"\n", 0, instruction.start) + 1
    while start > 0:
        above = content.rfind(b"\n", 0, start - 1) + 1
        if not content[above:start].lstrip().startswith(b"#"):
            break
        start = above
    return start
