"""Install the packages before the code is copied, so that a change of the code keeps their layer.

https://docs.docker.com/build/cache/optimize/#order-your-layers
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import (
    flattened,
    read_recipe,
)
from mega_optimizer.codemods.containers.install_sources import copy_lines, install_sources
from mega_optimizer.codemods.containers.instruction_text import (
    block_start,
    is_blank_above,
    is_blank_at,
    line_after,
    text_of,
)
from mega_optimizer.codemods.containers.layer_obstacles import copy_obstacle, run_obstacle
from mega_optimizer.codemods.containers.pip_configuration import (
    configures_installer,
    variable_naming_code,
)
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import copies
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction, Stage

_INSTALLS = re.compile(rb"\bpip[\d.]*\b|\buv\b|\bpoetry\b|\bpipenv\b")
_SAME_WHEREVER = frozenset({"ARG", "ENV", "LABEL", "EXPOSE", "USER", "SHELL", "MAINTAINER"})


@dataclass(frozen=True, slots=True)
class Span:
    """The COPY instructions that can go below the installs, and the last of these installs."""

    moved: tuple[Instruction, ...]
    installs: tuple[Run, ...]


def find(context: Context) -> Iterator[Outcome]:
    """Yield the fix that copies the code after the installs, or why it has to come first."""
    path = context.service.dockerfile
    content = context.read(path) if path else b""
    if path is None or not isinstance(content, bytes) or not _INSTALLS.search(content):
        return
    dockerfile = context.dockerfile(path)
    if isinstance(dockerfile, Problem):
        yield Skip(Place(path, dockerfile.line), dockerfile.code, dockerfile.message)
        return
    for stage in dockerfile.stages:
        recipe = read_recipe(context, dockerfile, flattened(dockerfile, stage), content)
        outcome = _outcome(context, recipe, stage)
        if outcome is not None:
            yield outcome


def _outcome(context: Context, recipe: Recipe, stage: Stage) -> Outcome | None:
    code = _first_code(context, recipe, stage)
    if code is None:
        return None
    later = [
        run
        for run in recipe.runs
        if run.instruction.start > code.start and "install" in run.kinds and not _is_bound(run)
    ]
    if not later:
        return None
    first = later[0]
    place = Place(recipe.path, first.instruction.line, end_line=first.instruction.end_line)
    named = variable_naming_code(recipe)
    if named:
        where = Place(recipe.path, named[0].line, end_line=named[0].end_line)
        reason = f"{named[1]} names a file that comes with the code"
        return Skip(where, "installer-configuration", reason)
    span = _span(context, recipe, stage, code, place)
    return span if isinstance(span, Skip) else _fix(context, recipe, span, place)


def _is_bound(run: Run) -> bool:
    """Whether the files that it reads are mounted, not copied."""
    return any(flag.name == "mount" and "bind" in flag.value for flag in run.instruction.flags)


def _first_code(context: Context, recipe: Recipe, stage: Stage) -> Instruction | None:
    """Return the first COPY of ``stage`` that brings code: a folder, or Python files."""
    manifests = _manifest_files(context, recipe)
    for instruction in stage.instructions:
        copy = copies(instruction)
        if copy is None or copy.from_stage is not None or configures_installer(copy):
            continue
        own = [each for each in recipe.transfers if each.instruction is instruction]
        code = [each for each in own if each.is_folder or each.source.endswith(".py")]
        if any(each.source not in manifests for each in code):
            return instruction
    return None


def _manifest_files(context: Context, recipe: Recipe) -> frozenset[str]:
    """Return the files of the build context that an install reads by name, as COPY names them."""
    found: set[str] = set()
    for run, _, install in recipe.installs(in_place=True):
        sources = [] if isinstance(install, str) else install_sources(context, recipe, run, install)
        for transfer, path in sources if isinstance(sources, list) else ():
            if path is not None and not transfer.is_folder:
                found.add(transfer.source)
    return frozenset(found)


def _span(
    context: Context, recipe: Recipe, stage: Stage, code: Instruction, place: Place
) -> Span | Skip:
    """Return what can change places, or what stands against it."""
    manifests = _manifest_files(context, recipe)
    runs = {run.instruction.start: run for run in recipe.runs}
    moved: list[Instruction] = []
    installs: list[Run] = []
    kept: list[Instruction] = []
    waiting: list[Instruction] = []
    for instruction in stage.instructions:
        if instruction.start < code.start:
            continue
        run = runs.get(instruction.start)
        if run is not None:
            obstacle = run_obstacle(context, recipe, run, moved + waiting)
            if obstacle:
                if installs:
                    break
                return obstacle
            if "install" in run.kinds:
                moved += waiting
                waiting = []
                installs.append(run)
            continue
        copy = copies(instruction)
        if copy is not None and copy.from_stage is None and not instruction.heredocs:
            own = [each for each in recipe.transfers if each.instruction is instruction]
            is_manifest = all(each.source in manifests and not each.is_folder for each in own)
            if own and (is_manifest or configures_installer(copy)):
                kept.append(instruction)
            else:
                waiting.append(instruction)
        elif copy is not None:
            kept.append(instruction)
        elif not _commutes(instruction, moved + waiting):
            break
    if not installs:
        reason = "what stands between the code and the installs depends on the order"
        return Skip(place, "step-between", reason)
    before = [each for each in kept if each.start < installs[-1].instruction.start]
    obstacle = copy_obstacle(context, recipe, moved, before)
    return obstacle or Span(tuple(moved), tuple(installs))


def _commutes(instruction: Instruction, moved: Sequence[Instruction]) -> bool:
    """Whether a COPY means the same below ``instruction`` as above it."""
    if instruction.keyword == "WORKDIR":
        return all((copy := copies(each)) and copy.destination.startswith("/") for each in moved)
    if instruction.keyword in ("ENV", "ARG"):
        return not any("$" in value for each in moved for value in each.values)
    return instruction.keyword in _SAME_WHEREVER


def _fix(context: Context, recipe: Recipe, span: Span, place: Place) -> Outcome | None:
    if not span.moved:
        return None
    manifests = _needed_manifests(context, recipe, span)
    content, newline = recipe.content, recipe.dockerfile.newline.encode()
    last = span.installs[-1].instruction
    edits: list[Edit] = []
    blocks: list[bytes] = []
    for instruction in span.moved:
        start = block_start(content, instruction, recipe.stage.origin.end)
        end = line_after(content, instruction.end)
        lines = _manifest_lines(recipe, instruction, manifests.get(instruction.start, {}))
        if lines:
            written = newline.join(line.encode() for line in lines) + newline
            edits.append(Edit(recipe.path, start, end, written))
        else:
            # Of the blank lines around it one stays.
            while is_blank_above(content, start) and is_blank_at(content, end):
                end = line_after(content, end)
            edits.append(Edit(recipe.path, start, end, b""))
        blocks.append(text_of(content, start, instruction))
    at = line_after(content, last.end)
    text = newline.join(blocks) + newline
    if not content[:at].endswith(b"\n"):
        text = newline + text.removesuffix(newline)
    first = block_start(content, span.moved[0], recipe.stage.origin.end)
    if is_blank_above(content, first) or is_blank_at(content, at):
        text = newline + text
    if is_blank_above(content, first) and at < len(content) and not is_blank_at(content, at):
        text += newline
    edits.append(Edit(recipe.path, at, at, text))
    message = (
        "A change of the code installs the packages again: copy what the installer reads first"
    )
    return Fix(place, message, tuple(edits))


def _needed_manifests(context: Context, recipe: Recipe, span: Span) -> dict[int, dict[str, str]]:
    """Return for each moved COPY what of it the installs read: path in the image → source."""
    needed: dict[int, dict[str, str]] = {}
    moved = {instruction.start for instruction in span.moved}
    for run, _, install in recipe.installs(in_place=True):
        if run not in span.installs or isinstance(install, str):
            continue
        found = install_sources(context, recipe, run, install)
        for transfer, path in found if isinstance(found, list) else ():
            start = transfer.instruction.start
            if start not in moved or path is None or _is_there_already(recipe, path, start, moved):
                continue
            needed.setdefault(start, {})[path] = transfer.source_of(path) or ""
    return needed


def _is_there_already(recipe: Recipe, path: str, start: int, moved: set[int]) -> bool:
    """Whether a COPY that stays has brought the file before."""
    return any(
        each.source_of(path) is not None and not each.is_folder
        for each in recipe.transfers
        if each.instruction.start < start and each.instruction.start not in moved
    )


def _manifest_lines(
    recipe: Recipe, instruction: Instruction, wanted: dict[str, str]
) -> tuple[str, ...]:
    if not wanted:
        return ()
    flags = "".join(
        recipe.content[flag.start : flag.end].decode("utf-8", "surrogateescape") + " "
        for flag in instruction.flags
    )
    return copy_lines(recipe, instruction, wanted, flags)
