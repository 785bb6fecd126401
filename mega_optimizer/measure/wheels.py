"""Which wheel of a package an image installs, and how large that file is.

Imported only where sizes are estimated: ``packaging`` is imported with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.tags import Tag

    from mega_optimizer.repository.dependencies.model import LockedPackage

# glibc of each Debian release (packages.debian.org, "libc6").
_GLIBC = {"trixie": 41, "bookworm": 36, "bullseye": 31, "buster": 28}
_PYTHON_TAG = re.compile(
    r"(?:^|/)python:(?P<major>3)\.(?P<minor>\d+)(?:\.\d+)?(?P<variant>[-\w.]*)(?:@.*)?$"
)


@dataclass(frozen=True, slots=True)
class Platform:
    """What decides which wheels fit: CPython 3.``minor`` on x86_64 with this C library.

    ``glibc`` is the minor version of glibc 2, ``None`` on musl (Alpine).
    """

    minor: int
    glibc: int | None


def platform_of(image: str) -> Platform | None:
    """Return the platform of an official ``python`` image; ``None`` where its tag hides it.

    A tag without a release name means Debian trixie today, whose glibc accepts every older wheel.
    """
    found = _PYTHON_TAG.search(image)
    if not found:
        return None
    variant = found["variant"]
    if "alpine" in variant:
        return Platform(int(found["minor"]), None)
    release = next((name for name in _GLIBC if name in variant), "trixie")
    return Platform(int(found["minor"]), _GLIBC[release])


def wheel_for(package: LockedPackage, platform: Platform) -> tuple[str, int] | None:
    """Return the wheel that pip prefers there: (file name, bytes); ``None`` if none fits."""
    best: tuple[int, str, int] | None = None
    ranks = _ranks(platform)
    for name, size in package.wheel_bytes.items():
        try:
            *_, tags = parse_wheel_filename(name)
        except InvalidWheelFilename:
            continue
        rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
        if rank is not None and (best is None or rank < best[0]):
            best = rank, name, size
    return best[1:] if best else None


@cache
def _ranks(platform: Platform) -> Mapping[Tag, int]:
    version = (3, platform.minor)
    platforms = list(_platform_tags(platform))
    supported = [
        *cpython_tags(version, platforms=platforms),
        *compatible_tags(version, f"cp3{platform.minor}", platforms),
    ]
    return {tag: rank for rank, tag in reversed(list(enumerate(supported)))}


def _platform_tags(platform: Platform) -> Iterator[str]:
    """Yield the platform tags of PEP 600 and PEP 656, the most specific first."""
    if platform.glibc is None:
        yield from ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64", "musllinux_1_0_x86_64")
    else:
        legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        for minor in range(platform.glibc, 4, -1):
            yield f"manylinux_2_{minor}_x86_64"
            if minor in legacy:
                yield f"{legacy[minor]}_x86_64"
    yield "linux_x86_64"
