"""Where advice on an image goes into its Dockerfile, and what deployments say about the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.run_text import with_comments
from mega_optimizer.codemods.finding import Edit
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from mega_optimizer.codemods.containers.shipped import BuiltImage
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction


def start_instruction(image: BuiltImage) -> Instruction | None:
    """Return the first of ENTRYPOINT and CMD at the end of the stage that ships."""
    found = None
    for instruction in reversed(image.stage.instructions):
        if instruction.keyword in ("CMD", "ENTRYPOINT"):
            found = instruction
        elif found is not None:
            break
    return found


def inserted_above(image: BuiltImage, instruction: Instruction, lines: tuple[str, ...]) -> Edit:
    """Return the edit that puts ``lines`` above ``instruction`` and its comments."""
    start = with_comments(image.content, instruction)
    newline = image.dockerfile.newline
    text = "".join(f"{line}{newline}" for line in (*lines, ""))
    return Edit(image.path, start, start, text.encode())


def deployments_say(context: Context, words: re.Pattern[bytes]) -> Place | None:
    """Return where a compose or Kubernetes file that runs the service has ``words``."""
    for deployment in context.service.deployments:
        path = deployment.place.path
        content = context.read(path)
        found = words.search(content) if isinstance(content, bytes) else None
        if isinstance(content, bytes) and found:
            return Place(path, content.count(b"\n", 0, found.start()) + 1)
    return None
