"""Write a builder stage, and edit what stays into the stage that ships.

All that stays keeps its bytes; what both stages need is cut out of the original text too.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import apt_packages
from mega_optimizer.codemods.containers.run_split import side_of
from mega_optimizer.codemods.containers.runners import leaves_managers, runner_edits
from mega_optimizer.codemods.containers.system_edits import APT_LISTS
from mega_optimizer.codemods.containers.system_packages import is_for_building, package_name
from mega_optimizer.codemods.finding import Edit, apply_edits

if TYPE_CHECKING:
    from mega_optimizer.codemods.containers.environments import Environment
    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.containers.python_images import PythonImage
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.repository.dockerfile import Instruction

# Variables that only what runs in the end reads.
_READ_AT_RUN_TIME = frozenset(
    {
        "DJANGO_SETTINGS_MODULE", "FLASK_APP", "FLASK_DEBUG", "FLASK_ENV", "HOST", "LOG_LEVEL",
        "PORT", "PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONHASHSEED",
        "PYTHONUNBUFFERED", "UV_SYSTEM_PYTHON",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sources:
    """What the builder takes of a COPY: these lines in its place, or all of it without any."""

    instruction: Instruction
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """An instruction of the builder. ``leads``: it stands before the environment is made."""

    text: bytes
    spaced: bool
    leads: bool


def split(
    recipe: Recipe,
    image: PythonImage,
    environment: Environment,
    sources: tuple[Sources, ...],
    needed: tuple[str, ...],
) -> Edits:
    """Return the edits that make two stages of the one.

    ``environment`` is what goes from one to the other. ``sources`` say what the builder needs of
    the build context, ``needed`` which Debian packages the image needs beside those that it
    installs already.
    """
    text = _Text(recipe)
    blocks: list[Block] = []
    edits: list[Edit] = []
    appended = appended_packages(recipe, needed)
    by_start = {source.instruction.start: source for source in sources}
    runs = {run.instruction.start: run for run in recipe.runs}
    for instruction in recipe.stage.instructions:
        builds = instruction.start <= recipe.last_install
        text.enter(instruction)
        removed = False
        run = runs.get(instruction.start)
        if run is not None:
            for side in ("preparing", "building") if builds else ():
                part = side_of(recipe, run, side)
                if part is not None:
                    leads = side == "preparing" or "install" not in run.kinds
                    blocks.append(text.block(instruction, part, leads))
            running = side_of(recipe, run, "running")
            if running is not None and leaves_managers(recipe):
                running = (*running, *runner_edits(recipe, instruction))
            edits += text.removal(instruction) if running is None else running
            removed = running is None
        elif instruction.start in by_start:
            blocks.append(text.source_block(by_start[instruction.start]))
        elif _brings_uv(instruction):
            blocks.append(text.block(instruction, (), True))
            edits += text.removal(instruction)
            removed = True
        elif builds and _is_read_by_installers(instruction):
            leads = all(block.leads for block in blocks)
            blocks.append(text.block(instruction, (), leads))
        if run is None and leaves_managers(recipe):
            edits += runner_edits(recipe, instruction)
        text.leave(removed=removed)
    edits = with_appended(edits, appended)
    edits.append(_environment_copy(recipe, environment, text, () if appended else needed))
    origin = recipe.stage.origin
    stages = (
        _builder(recipe, environment, text, blocks) + text.newline * 2 + text.origin(image.runtime)
    )
    return (*edits, Edit(recipe.path, origin.start, origin.end, stages))


class _Text:
    """The bytes of the Dockerfile, by instruction and with the comments above each."""

    def __init__(self, recipe: Recipe) -> None:
        self.path = recipe.path
        self.content = recipe.content
        self.stage = recipe.stage
        self.newline = recipe.dockerfile.newline.encode()
        # Whether what stands above, without what was removed, ends in a blank line.
        self.after_blank = False

    def enter(self, instruction: Instruction) -> None:
        """Go on to ``instruction``: what is asked about removals concerns this one."""
        self.after_blank = self.after_blank or self.is_spaced(instruction)

    def lines(self, *lines: str) -> bytes:
        """Return ``lines`` as they stand in this file, without a final line ending."""
        return self.newline.join(line.encode() for line in lines)

    def block_start(self, instruction: Instruction) -> int:
        """Return where the comment lines right above ``instruction`` begin."""
        start = instruction.start
        while True:
            line = self._line_before(start)
            is_comment = self.content[line:start].lstrip().startswith(b"#")
            if line >= start or not is_comment or line <= self.stage.origin.end:
                return start
            start = line

    def is_spaced(self, instruction: Instruction) -> bool:
        """Whether a blank line stands above ``instruction`` and its comments."""
        start = self.block_start(instruction)
        return not self.content[self._line_before(start) : start].strip()

    def _line_before(self, start: int) -> int:
        return self.content.rfind(b"\n", 0, max(start - 1, 0)) + 1

    def block(self, instruction: Instruction, edits: Edits, leads: bool) -> Block:
        """Return ``instruction`` with ``edits`` for the builder, a RUN or COPY with comments."""
        text = self._edited(instruction, edits)
        if instruction.keyword in ("RUN", "COPY", "ADD"):
            text = self.content[self.block_start(instruction) : instruction.start] + text
        return Block(text, self.is_spaced(instruction), leads)

    def source_block(self, sources: Sources) -> Block:
        """Return what brings ``sources`` into the builder, whose only user is root."""
        if sources.lines:
            return Block(self.lines(*sources.lines), True, False)
        edits = []
        end = sources.instruction.start + len(sources.instruction.keyword)
        for flag in sources.instruction.flags:
            edits.append(Edit(self.path, end, flag.end, b""))
            end = flag.end
        return self.block(sources.instruction, tuple(edits), False)

    def _edited(self, instruction: Instruction, edits: Edits) -> bytes:
        first = instruction.start
        shifted = (replace(edit, start=edit.start - first, end=edit.end - first) for edit in edits)
        # The grammar counts the carriage return of a line ending to the last word.
        return apply_edits(self.content[first : instruction.end], shifted).removesuffix(b"\r")

    def removal(self, instruction: Instruction) -> Edits:
        """Return the removal of ``instruction``, its comments, and a blank line around them."""
        start = self.block_start(instruction)
        end = self._line_after(instruction.end)
        if self.after_blank:
            while end < len(self.content) and not self.content[end : self._line_after(end)].strip():
                end = self._line_after(end)
        return (Edit(self.path, start, end, b""),)

    def leave(self, *, removed: bool) -> None:
        """Take note whether the instruction is gone: a blank line above it stays the last one."""
        self.after_blank = self.after_blank and removed

    def _line_after(self, position: int) -> int:
        end = self.content.find(b"\n", position)
        return len(self.content) if end < 0 else end + 1

    def origin(self, image: str, name: str | None = None) -> bytes:
        """Return the FROM with another image; ``name`` replaces the name of the stage."""
        origin, content = self.stage.origin, self.content
        start = origin.arguments_start
        end = start + len(self.stage.base.encode())
        head, tail = content[origin.start : start], content[end : origin.end]
        if name is not None:
            word = "as" if head[:4].islower() else "AS"
            tail = f" {word} {name}".encode()
        return head + image.encode() + tail


def _builder(recipe: Recipe, environment: Environment, text: _Text, blocks: list[Block]) -> bytes:
    """Return the text of the builder stage."""
    # An environment that the build makes itself is made where it always was.
    before = [] if environment.own else [block for block in blocks if block.leads]
    after = [block for block in blocks if environment.own or not block.leads]
    if not environment.own:
        # pip finds the environment by the interpreter that PATH leads to, others by this variable.
        variables = [f"ENV VIRTUAL_ENV={environment.path}"] if environment.named else []
        lines = (*variables, f"RUN python -m venv {environment.path}", _path(environment))
        before.append(Block(text.lines(*lines), True, True))
        after = [replace(block, spaced=True) for block in after[:1]] + after[1:]
    written = text.origin(recipe.stage.base, _builder_name(recipe))
    for block in (*before, *after):
        written += text.newline * (2 if block.spaced else 1) + block.text
    return written


def _builder_name(recipe: Recipe) -> str:
    name = recipe.stage.name
    return "build" if name and name.lower() == "builder" else "builder"


def _path(environment: Environment) -> str:
    return f'ENV PATH="{environment.path}/bin:$PATH"'


def _environment_copy(
    recipe: Recipe, environment: Environment, text: _Text, needed: tuple[str, ...]
) -> Edit:
    """Insert the environment, and what is needed, before the first thing that changes often."""
    anchor = next(
        instruction
        for instruction in recipe.stage.instructions
        if (instruction.keyword in ("COPY", "ADD") and instruction.flag("from") is None)
        or any("install" in run.kinds and run.instruction is instruction for run in recipe.runs)
    )
    path = environment.path
    lines = [f"COPY --from={_builder_name(recipe)} {path} {path}"]
    if not environment.on_path:
        lines.append(_path(environment))
    if needed:
        install = f"apt-get install -y --no-install-recommends {' '.join(needed)}"
        lines[:0] = ["RUN apt-get update \\", f"    && {install} \\", f"    && {APT_LISTS}", ""]
    written = text.lines(*lines) + text.newline * (2 if text.is_spaced(anchor) else 1)
    start = text.block_start(anchor)
    return Edit(recipe.path, start, start, written)


def appended_packages(recipe: Recipe, needed: tuple[str, ...]) -> Edit | None:
    """Append ``needed`` to an ``apt-get install`` that stays; None where there is none."""
    for run in recipe.runs:
        if run.pieces is None or "apt-update" not in run.kinds or not needed:
            continue
        for command in run.of_kind("apt-install"):
            staying = [
                (before, word)
                for before, word in pairwise(command.words)
                if word in apt_packages(command) and not is_for_building(package_name(word.text))
            ]
            if staying:
                before, last = staying[-1]
                space = recipe.content[before.end : last.start]
                space = b" " if space.strip(b" \t\r\n\\") else space
                text = b"".join(space + name.encode() for name in needed)
                return Edit(recipe.path, last.end, last.end, text)
    return None


def with_appended(edits: list[Edit], appended: Edit | None) -> list[Edit]:
    """Add ``appended`` to ``edits``, in front of what is inserted at the same place."""
    if appended is None:
        return edits
    at = (appended.start, appended.end)
    following = b"".join(edit.replacement for edit in edits if (edit.start, edit.end) == at)
    others = [edit for edit in edits if (edit.start, edit.end) != at]
    return [*others, replace(appended, replacement=appended.replacement + following)]


def _brings_uv(instruction: Instruction) -> bool:
    sources = instruction.values[:-1]
    names = [posixpath.basename(source) for source in sources]
    return instruction.flag("from") is not None and bool(names) and {*names} <= {"uv", "uvx"}


def _is_read_by_installers(instruction: Instruction) -> bool:
    """Whether ``instruction`` may change how packages install: folder, shell, variables."""
    if instruction.keyword == "ENV":
        return not _READ_AT_RUN_TIME.issuperset(instruction.values[::2])
    return instruction.keyword in ("ARG", "SHELL", "WORKDIR")
