"""What is in force at an instruction of a stage, and which stages end up in the image."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from mega_optimizer.repository.dockerfile.expand import expand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.repository.dockerfile.model import Dockerfile, Instruction, Stage


@dataclass(frozen=True, slots=True)
class Copy:
    """What a ``COPY`` or ``ADD`` copies, as written; ``from_stage`` is its ``--from``."""

    sources: tuple[str, ...]
    destination: str
    from_stage: str | None


def copies(instruction: Instruction) -> Copy | None:
    """Return what ``instruction`` copies, None where it is no ``COPY`` or ``ADD`` that is clear."""
    if instruction.keyword not in ("COPY", "ADD") or instruction.opaque:
        return None
    if len(instruction.values) < 2:
        return None
    *sources, destination = instruction.values
    files = tuple(source for source in sources if not source.startswith("<<"))
    return Copy(files, destination, instruction.flag("from"))


def stage_named(dockerfile: Dockerfile, name: str) -> Stage | None:
    """Return the stage called ``name``, or of that index, as ``--from`` and ``--target`` do."""
    for stage in reversed(dockerfile.stages):
        if stage.name and stage.name.lower() == name.lower():
            return stage
    if name.isdecimal() and int(name) < len(dockerfile.stages):
        return dockerfile.stages[int(name)]
    return None


def shipping_stage(dockerfile: Dockerfile, target: str | None = None) -> Stage | None:
    """Return the stage that becomes the image: ``target``, else the last; None for an unknown."""
    return dockerfile.stages[-1] if target is None else stage_named(dockerfile, target)


def lineage(dockerfile: Dockerfile, stage: Stage) -> tuple[Stage, ...]:
    """Return the stages whose layers ``stage`` consists of, the oldest first, itself last."""
    stages = [stage]
    while stages[0].parent is not None:
        stages.insert(0, dockerfile.stages[stages[0].parent])
    return tuple(stages)


def stage_ships(dockerfile: Dockerfile, stage: Stage, target: str | None = None) -> bool:
    """Whether the layers of ``stage`` are part of the image (``target``, else the last stage)."""
    shipping = shipping_stage(dockerfile, target)
    return shipping is not None and stage in lineage(dockerfile, shipping)


def root_image(dockerfile: Dockerfile, stage: Stage) -> str | None:
    """Return the image that ``stage`` is built on in the end, None where that is not known."""
    return lineage(dockerfile, stage)[0].image


def is_python_stage(dockerfile: Dockerfile, stage: Stage) -> bool:
    """Whether ``stage`` has Python for certain: from its base image, or because it uses it."""
    from mega_optimizer.repository.installers import runs_python
    from mega_optimizer.repository.shell import commands

    if "python" in (root_image(dockerfile, stage) or ""):
        return True
    return any(
        runs_python(command)
        for part in lineage(dockerfile, stage)
        for instruction in part.instructions
        for command in commands(instruction)
    )


def before(
    dockerfile: Dockerfile, stage: Stage, instruction: Instruction | None = None
) -> Iterator[Instruction]:
    """Yield what is executed before ``instruction`` of ``stage`` (None: before its end)."""
    for part in lineage(dockerfile, stage):
        inside = part.instructions
        if part is stage and instruction is not None:
            yield from takewhile(lambda other: other.start < instruction.start, inside)
        else:
            yield from inside


def environment_at(
    dockerfile: Dockerfile,
    stage: Stage,
    instruction: Instruction | None = None,
    *,
    arguments: bool = True,
) -> Mapping[str, str | None]:
    """Return the variables that the Dockerfile sets before ``instruction`` (None: at the end).

    A value is None where it is not known. ``arguments`` includes ``ARG``, which a ``RUN`` sees
    and the running container does not. What the base image sets is not included.
    """
    environment: dict[str, str | None] = {}
    build_arguments: dict[str, str | None] = {}
    defaults = {argument.name: argument.default for argument in dockerfile.arguments}
    own = {id(other) for other in stage.instructions}
    for other in before(dockerfile, stage, instruction):
        if other.keyword == "ENV" and not other.opaque:
            pairs = list(pairwise(other.values))[::2]
            # All values of one ENV see what held before it.
            visible = build_arguments | environment
            environment.update({name: expand(value, visible) for name, value in pairs})
        elif other.keyword == "ARG" and id(other) in own:
            visible = build_arguments | environment
            for word in other.values:
                name, equals, default = word.partition("=")
                build_arguments[name] = expand(default, visible) if equals else defaults.get(name)
    return {**build_arguments, **environment} if arguments else environment


def workdir_at(
    dockerfile: Dockerfile, stage: Stage, instruction: Instruction | None = None
) -> str | None:
    """Return the working directory before ``instruction`` (None: at the end).

    It is None where it depends on something unknown, such as the base image's own.
    """
    folder: str | None = None
    for other in before(dockerfile, stage, instruction):
        if other.keyword != "WORKDIR" or not other.values:
            continue
        written = expand(other.values[0], environment_at(dockerfile, stage, other))
        if written is None:
            folder = None
        elif written.startswith("/"):
            folder = posixpath.normpath(written)
        elif folder is not None:
            folder = posixpath.normpath(posixpath.join(folder, written))
    return folder


def shell_at(
    dockerfile: Dockerfile, stage: Stage, instruction: Instruction | None = None
) -> tuple[str, ...]:
    """Return the words in front of the text of a shell form (``SHELL``, else ``/bin/sh -c``)."""
    shell: tuple[str, ...] = ("/bin/sh", "-c")
    for other in before(dockerfile, stage, instruction):
        if other.keyword == "SHELL" and other.exec_form:
            shell = tuple(word.text for word in other.exec_form)
    return shell
