"""Install Debian packages in a stage: in an ``apt-get install`` that is there, or a new one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import apt_packages
from mega_optimizer.codemods.containers.instruction_text import is_blank_at, line_after
from mega_optimizer.codemods.finding import Edit

if TYPE_CHECKING:
    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.repository.dockerfile import Stage

APT_LISTS = "rm -rf /var/lib/apt/lists/*"


def package_edit(recipe: Recipe, stage: Stage, needed: tuple[str, ...]) -> Edit:
    """Return the edit that installs ``needed`` in ``stage`` before anything may use it."""
    own = {instruction.start for instruction in stage.instructions}
    for run in recipe.runs:
        if run.instruction.start not in own or run.pieces is None or "apt-update" not in run.kinds:
            continue
        for command in run.of_kind("apt-install"):
            before, last = list(pairwise(command.words))[-1]
            if last in apt_packages(command):
                space = recipe.content[before.end : last.start]
                space = b" " if space.strip(b" \t\r\n\\") else space
                text = b"".join(space + name.encode() for name in needed)
                return Edit(recipe.path, last.end, last.end, text)
    return install_first(recipe, stage, needed)


def install_first(recipe: Recipe, stage: Stage, packages: tuple[str, ...]) -> Edit:
    """Return the edit that installs ``packages`` right below the FROM of ``stage``."""
    newline = recipe.dockerfile.newline
    install = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    lines = ("RUN apt-get update \\", f"    && {install} \\", f"    && {APT_LISTS}")
    end = stage.origin.end
    if recipe.content[end - 1 : end] == b"\r":
        end -= 1
    below = line_after(recipe.content, end)
    spaced = (
        newline if below < len(recipe.content) and not is_blank_at(recipe.content, below) else ""
    )
    return Edit(recipe.path, end, end, (newline * 2 + newline.join(lines) + spaced).encode())
