"""Divide one RUN: what of it belongs to the builder, and what to the image that runs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.containers.build_steps import APT, BUILDING, RUNNING
from mega_optimizer.codemods.containers.image_recipe import apt_packages
from mega_optimizer.codemods.containers.installs import install_words, tool_of
from mega_optimizer.codemods.containers.system_edits import APT_LISTS
from mega_optimizer.codemods.containers.system_packages import (
    PROGRAMS,
    is_for_building,
    is_for_running,
    package_name,
    runtime_partners,
)
from mega_optimizer.codemods.finding import Edit
from mega_optimizer.repository.dockerfile import environment_at
from mega_optimizer.repository.installers import (
    disables_pip_cache,
    environment_disables_pip_cache,
    is_pip_install,
    names_pip_cache,
    pip_subcommand,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.codemods.containers.build_steps import Piece
    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.repository.service import Word
    from mega_optimizer.repository.shell import Command

Side = Literal["preparing", "building", "running"]
# What brings a project manager and sets it up.
_MANAGERS = frozenset({"tool", "upgrade-pip"})


def side_of(recipe: Recipe, run: Run, side: Side) -> Edits | None:
    """Return the edits that leave in ``run`` what belongs to ``side``; None where nothing does."""
    if side == "preparing" and not brings_manager_first(run):
        return None
    if run.pieces is None:
        is_here = (run.builds and not _is_after_installs(recipe, run)) == (side == "building")
        return tuple(_option_edits(recipe, run)) if is_here else None
    kept = _kept(recipe, run, run.pieces, side)
    if not any(kept):
        return None
    edits = list(_removed_pieces(recipe, run.pieces, kept))
    for piece, keep in zip(run.pieces, kept, strict=True):
        if keep and piece.kind == "apt-install":
            edits += _package_edits(recipe, piece.command, side)
    if side != "running":
        ranges = [piece for piece, keep in zip(run.pieces, kept, strict=True) if keep]
        edits += (
            edit
            for edit in _option_edits(recipe, run)
            if any(piece.start <= edit.start <= piece.end for piece in ranges)
        )
    else:
        edits += _list_removal(recipe, run, run.pieces, kept)
    return tuple(edits)


def brings_manager_first(run: Run) -> bool:
    """Whether it installs poetry or pipenv and then uses it.

    What they bring along must not come to stand among the packages of the program.
    """
    tools = {tool_of(command) for command in run.of_kind("install")}
    return run.pieces is not None and "tool" in run.kinds and bool(tools & {"poetry", "pipenv"})


def _is_after_installs(recipe: Recipe, run: Run) -> bool:
    return run.instruction.start > recipe.last_install


def installed_packages(recipe: Recipe) -> frozenset[str]:
    """Return the Debian packages that the image installs after the split, by name."""
    partners = {
        partner
        for run in recipe.runs
        for command in run.of_kind("apt-install")
        for partner in _partners(recipe, command)
    }
    return _kept_packages(recipe) | partners


def _kept_packages(recipe: Recipe) -> frozenset[str]:
    """Return the Debian packages that ``recipe`` names and that stay in the image."""
    return frozenset(
        name
        for run in recipe.runs
        for command in run.of_kind("apt-install")
        for word in apt_packages(command)
        if not is_for_building(name := package_name(word.text))
    )


def _kept(recipe: Recipe, run: Run, pieces: Sequence[Piece], side: Side) -> list[bool]:
    kept = [_belongs(recipe, run, piece, side) for piece in pieces]
    installs = any(
        keep and piece.kind in ("apt-install", "apt-upgrade")
        for piece, keep in zip(pieces, kept, strict=True)
    )
    serves_later = _updates_for_later(recipe, run, side)
    # What only serves commands that are gone goes too: list updates, clean-up, `set -e`.
    kept = [
        keep
        and (piece.kind not in APT or installs or (piece.kind == "apt-update" and serves_later))
        for piece, keep in zip(pieces, kept, strict=True)
    ]
    works = any(
        keep and piece.kind not in ("neutral", "folder")
        for piece, keep in zip(pieces, kept, strict=True)
    )
    return kept if works else [False] * len(kept)


def _belongs(recipe: Recipe, run: Run, piece: Piece, side: Side) -> bool:
    kind = piece.kind
    if brings_manager_first(run) and (kind in _MANAGERS or side == "preparing"):
        return side == "preparing" and kind in {*_MANAGERS, "neutral"}
    if kind in BUILDING and _is_after_installs(recipe, run):
        return side == "running"
    if kind == "apt-install":
        return _installs(recipe, piece.command, side)
    if kind == "apt-upgrade":
        return side == "running"
    # Without the packages there is nothing to remove; the newest pip is of no use to the image.
    if kind in ("apt-remove", "upgrade-pip"):
        return False
    if kind in BUILDING:
        return side == "building"
    return side == "running" if kind in RUNNING else True


def _installs(recipe: Recipe, command: Command, side: Side) -> bool:
    """Whether one ``apt-get install`` still installs something on ``side``."""
    if side == "running":
        return bool(_staying(recipe, command, side) or _partners(recipe, command))
    return bool(_staying(recipe, command, side))


def _staying(recipe: Recipe, command: Command, side: Side) -> list[Word]:
    if side == "running":
        return [
            word for word in apt_packages(command) if not is_for_building(package_name(word.text))
        ]
    fetching = {
        PROGRAMS[other.program]
        for run in recipe.runs
        for other in run.of_kind("tool")
        if other.program in PROGRAMS
    }
    return [
        word
        for word in apt_packages(command)
        if (name := package_name(word.text)) in fetching or not is_for_running(name)
    ]


def _partners(recipe: Recipe, command: Command) -> list[str]:
    """Return the libraries, each once, of the headers that ``command`` installs."""
    named = {name: None for name in _partners_before(recipe, command)}
    partners = {
        partner: None
        for word in apt_packages(command)
        if is_for_building(package_name(word.text))
        for partner in runtime_partners(package_name(word.text)) or ()
    }
    kept = _kept_packages(recipe)
    return [name for name in partners if name not in kept and name not in named]


def _partners_before(recipe: Recipe, command: Command) -> Iterator[str]:
    for run in recipe.runs:
        for other in run.of_kind("apt-install"):
            if other is command:
                return
            for word in apt_packages(other):
                if is_for_building(package_name(word.text)):
                    yield from runtime_partners(package_name(word.text)) or ()


def _package_edits(recipe: Recipe, command: Command, side: Side) -> Iterator[Edit]:
    staying = _staying(recipe, command, side)
    wanted = _partners(recipe, command) if side == "running" else []
    previous = {word: before for before, word in pairwise(command.words)}
    for word in apt_packages(command):
        if word in staying:
            continue
        if wanted:
            yield Edit(recipe.path, word.start, word.end, " ".join(wanted).encode())
            wanted = []
        else:
            yield Edit(recipe.path, previous[word].end, word.end, b"")


def _updates_for_later(recipe: Recipe, run: Run, side: Side) -> bool:
    """Whether a RUN that installs nothing itself updates the lists for one that does."""
    if "apt-install" in run.kinds or "apt-upgrade" in run.kinds:
        return False
    return any(
        _installs(recipe, command, side)
        for other in relying_runs(recipe, run)
        if side == "running" or other.instruction.start <= recipe.last_install
        for command in other.of_kind("apt-install")
    )


def relying_runs(recipe: Recipe, run: Run) -> tuple[Run, ...]:
    """Return the later RUN instructions that install with the package lists of earlier ones."""
    return tuple(
        other
        for other in recipe.runs
        if other.instruction.start > run.instruction.start
        and "apt-install" in other.kinds
        and "apt-update" not in other.kinds
    )


def _removed_pieces(recipe: Recipe, pieces: Sequence[Piece], kept: list[bool]) -> Iterator[Edit]:
    position = 0
    while position < len(pieces):
        first = position
        while position < len(pieces) and not kept[position]:
            position += 1
        if first == position:
            position += 1
        elif position < len(pieces):
            yield Edit(recipe.path, pieces[first].start, pieces[position].start, b"")
        else:
            yield Edit(recipe.path, pieces[first - 1].end, pieces[-1].end, b"")


def _option_edits(recipe: Recipe, run: Run) -> Iterator[Edit]:
    """Yield the edits of what installs: no cache, and not past the environment."""
    environment = environment_at(recipe.dockerfile, recipe.stage, run.instruction)
    cached = any(
        flag.name == "mount" and "type=cache" in flag.value for flag in run.instruction.flags
    )
    for command in run.of_kind("install", "tool"):
        subcommand = pip_subcommand(command)
        keeps_cache = (
            is_pip_install(command)
            and not cached
            and not disables_pip_cache(command)
            and not names_pip_cache(command)
            and not environment_disables_pip_cache(environment)
            and "uncache" not in run.kinds
        )
        if keeps_cache and subcommand is not None:
            option = b', "--no-cache-dir"' if command.exec_form else b" --no-cache-dir"
            yield Edit(recipe.path, subcommand.end, subcommand.end, option)
        previous = {word: before for before, word in pairwise(command.words)}
        for word in install_words(command) if tool_of(command) == "uv" else ():
            if word.text == "--system":
                yield Edit(recipe.path, previous[word].end, word.end, b"")


def _list_removal(
    recipe: Recipe, run: Run, pieces: Sequence[Piece], kept: list[bool]
) -> Iterator[Edit]:
    """Remove apt's lists in the RUN that fetched them, where nothing does or needs them."""
    staying = [piece for piece, keep in zip(pieces, kept, strict=True) if keep]
    texts = [word.text for piece in pieces for word in piece.command.words]
    texts += [flag.value for flag in run.instruction.flags]
    if "apt-update" not in run.kinds or any("/var/lib/apt" in text for text in texts):
        return
    if any(piece.kind == "apt-install" for piece in staying) and not relying_runs(recipe, run):
        newline = recipe.dockerfile.newline
        text = f" \\{newline}    && {APT_LISTS}".encode()
        yield Edit(recipe.path, staying[-1].end, staying[-1].end, text)
