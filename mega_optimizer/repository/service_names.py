"""Give each built image a name that people of the repository would use, and that is unique."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from typing import TYPE_CHECKING

from mega_optimizer.repository.compose import compose_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.repository.services import Built

DOCKERFILE_NAME = re.compile(
    r"(?P<prefix>[\w.-]*?)[._-]?(?:dockerfile|containerfile)(?:[._-](?P<suffix>[\w.-]+))?",
    re.IGNORECASE,
)


def service_names(built: Sequence[Built], repository_name: str) -> list[str]:
    """Return a unique name for each image: compose's, else its folder's, else the repository's."""
    short = [_short_name(each, repository_name) for each in built]
    counts = Counter(short)
    taken: set[str] = set()
    names = []
    for name, each in zip(short, built, strict=True):
        if counts[name] > 1:
            folder = (
                posixpath.dirname(each.builds[0].place.path)
                if each.builds
                else posixpath.dirname(each.image.context)
            )
            name = "-".join([part for part in folder.split("/") if part] + [name])
        unique = unique_name(name, each.dockerfile.path.replace("/", "-"), taken)
        taken.add(unique)
        names.append(unique)
    return names


def _short_name(built: Built, repository_name: str) -> str:
    folder = posixpath.basename(built.image.context)
    if built.builds:
        best = [
            entry
            for entry in built.builds
            if compose_rank(entry.place.path) == compose_rank(built.builds[0].place.path)
        ]
        named = [entry for entry in best if entry.name in (folder, repository_name)]
        public = [entry for entry in best if entry.ports]
        return (named or public or best)[0].name
    where, _, file = built.dockerfile.path.rpartition("/")
    own = posixpath.basename(where)
    if not folder:
        generic = own.startswith(".") or own.lower() in ("", "docker", "build", "deploy", "images")
        folder = repository_name if generic else own
    matched = DOCKERFILE_NAME.fullmatch(file)
    variant = (matched["prefix"] or matched["suffix"] or "") if matched else ""
    return f"{folder}-{variant}" if variant else folder


def unique_name(name: str, longer: str, taken: set[str]) -> str:
    """Return ``name``, else ``longer``, else a numbered one: the first that is not ``taken``."""
    if name not in taken:
        return name
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(each for each in (longer, *numbered) if each and each not in taken)
