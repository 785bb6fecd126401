"""The image of a service as the rules see it: its Dockerfile, and which of it ships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dockerfile import lineage, root_image, shell_at, shipping_stage
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.shell import commands

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Instruction, Stage
    from mega_optimizer.repository.shell import Command


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """The Dockerfile of a service, its bytes, and the stage that becomes the image."""

    path: str
    content: bytes
    dockerfile: Dockerfile
    stage: Stage

    @property
    def layers(self) -> tuple[Stage, ...]:
        """The stages that the image consists of, the oldest first."""
        return lineage(self.dockerfile, self.stage)

    @property
    def base(self) -> str | None:
        """The image that it is built on in the end, None where that is not known."""
        return root_image(self.dockerfile, self.stage)

    def instructions(self, *keywords: str) -> Iterator[Instruction]:
        """Yield the instructions that end up in the image, in order."""
        for stage in self.layers:
            for instruction in stage.instructions:
                if instruction.keyword in keywords:
                    yield instruction

    def last(self, keyword: str) -> Instruction | None:
        """Return the instruction of that keyword that is in force in the end."""
        found = list(self.instructions(keyword))
        return found[-1] if found else None

    def commands(self, stage: Stage, instruction: Instruction) -> tuple[Command, ...]:
        """Return the simple commands of ``instruction``."""
        return commands(instruction, shell_at(self.dockerfile, stage, instruction))

    def place(self, instruction: Instruction) -> Place:
        """Return where ``instruction`` stands."""
        return Place(self.path, instruction.line, end_line=instruction.end_line)

    def text(self, instruction: Instruction) -> bytes:
        """Return ``instruction`` as written."""
        return self.content[instruction.start : instruction.end]


def built_image(context: Context, wanted: re.Pattern[bytes]) -> BuiltImage | Skip | None:
    """Return the image of the service; None where ``wanted`` does not occur in its Dockerfile."""
    path = context.service.dockerfile
    content = context.read(path) if path else b""
    if path is None or not isinstance(content, bytes) or not wanted.search(content):
        return None
    dockerfile = context.dockerfile(path)
    if isinstance(dockerfile, Problem):
        return Skip(Place(path, dockerfile.line), dockerfile.code, dockerfile.message)
    stage = shipping_stage(dockerfile, context.service.stage)
    if stage is None:
        reason = f"the Dockerfile has no stage called {context.service.stage}"
        return Skip(Place(path), "unknown-stage", reason)
    return BuiltImage(path, content, dockerfile, stage)
