"""The processor architectures that the images of a repository are built for."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context

# How Docker, buildx and bake name the platform. https://docs.docker.com/build/building/multi-platform/
_ARM = re.compile(rb"linux/arm64|linux/aarch64|\barm64v8/")
_PLAIN_NAMES = frozenset({"Makefile", "makefile", "justfile", "Justfile"})
_SUFFIXES = (".yml", ".yaml", ".hcl", ".sh", ".mk")


def architectures(context: Context) -> tuple[str, ...]:
    """Return the architectures (as wheels name them) that images are built for.

    x86_64, and aarch64 where a Dockerfile, a compose file, a pipeline or a script says so.
    """
    return ("x86_64", "aarch64") if any(_arm_builds(context)) else ("x86_64",)


def _arm_builds(context: Context) -> Iterator[str]:
    for path in context.files.paths:
        if not _may_build(path, context.service.dockerfile):
            continue
        content = context.read(path)
        if isinstance(content, bytes) and _ARM.search(content):
            yield path


def _may_build(path: str, dockerfile: str | None) -> bool:
    name = posixpath.basename(path)
    return path == dockerfile or name in _PLAIN_NAMES or name.endswith(_SUFFIXES)
