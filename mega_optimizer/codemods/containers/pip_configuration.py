"""What configures installers: files that they read by themselves, and variables."""

from __future__ import annotations

import posixpath
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.repository.dockerfile import Copy, Instruction

FILES = ("pip.conf", ".pip", ".netrc", ".pydistutils.cfg", "uv.toml", ".pypirc")

# Variables that name a file, or a folder, which an installer reads (pip 26, uv 0.9).
_VARIABLES = frozenset(
    {
        "CURL_CA_BUNDLE", "PIPENV_PIPFILE", "PIP_BUILD_CONSTRAINT", "PIP_CERT", "PIP_CLIENT_CERT",
        "PIP_CONFIG_FILE", "PIP_CONSTRAINT", "PIP_FIND_LINKS", "PIP_REQUIREMENT",
        "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "UV_BUILD_CONSTRAINT", "UV_CONFIG_FILE",
        "UV_CONSTRAINT", "UV_FIND_LINKS", "UV_OVERRIDE",
    }
)  # fmt: skip


def variable_naming_code(recipe: Recipe) -> tuple[Instruction, str] | None:
    """Return where a variable names a file for the installer that comes with the code."""
    for instruction in recipe.stage.instructions:
        if instruction.keyword == "ENV":
            pairs = list(pairwise(instruction.values))[::2]
        elif instruction.keyword == "ARG":
            pairs = [
                (name, value)
                for name, _, value in (word.partition("=") for word in instruction.values)
            ]
        else:
            continue
        for name, value in pairs:
            if name not in _VARIABLES:
                continue
            written = recipe.expanded(value.strip("\"'"), instruction) or ""
            for path in (part.removeprefix("file://") for part in written.split()):
                absolute = posixpath.normpath(posixpath.join(recipe.folder_at(instruction), path))
                if any(each.source_of(absolute) is not None for each in recipe.transfers):
                    return instruction, name
    return None


def configures_installer(copy: Copy) -> bool:
    """Whether ``copy`` brings a file that pip or uv reads by itself."""
    names = (posixpath.basename(path) for path in (*copy.sources, copy.destination))
    return any(name in FILES for name in names)
