"""The official Python images: which slim image is the partner of which full one.

https://hub.docker.com/_/python and https://github.com/docker-library/python
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.repository.dockerfile import Stage

# Registries that serve the official images under the same tags, and proxies of them.
_REPOSITORY = (
    r"(?:(?:docker\.io/|index\.docker\.io/|mirror\.gcr\.io/)?(?:library/)?"
    r"|public\.ecr\.aws/docker/library/"
    r"|[\w.:-]+/(?:[\w.-]+/)*(?:library|dependency_proxy/containers)/)python"
)
_TAG = re.compile(
    r"(?P<version>3(?:\.(?P<minor>\d+))?(?:\.(?P<patch>\d+))?)?"
    r"(?P<slim>(?:^|(?<=\d)-)slim)?"
    r"(?P<release>(?:^|-)(?:trixie|bookworm|bullseye|buster|stretch))?"
)
_IMAGE = re.compile(rf"(?P<repository>{_REPOSITORY})(?::(?P<tag>[\w.-]+))?")
# Images of uv: uv beside the Python of the official image of that release.
# https://docs.astral.sh/uv/guides/integration/docker/#available-images
_UV_IMAGE = re.compile(
    r"ghcr\.io/astral-sh/uv:(?:[\d.]+-)?python(?P<version>3\.(?P<minor>\d+)(?:\.(?P<patch>\d+))?)"
    r"-(?P<release>trixie|bookworm|bullseye)(?P<slim>-slim)?"
)
_WRITTEN = re.compile(
    rf"{_REPOSITORY}:(?:[\w.]+|\$\w+|\$\{{\w+\}})"
    r"(?P<release>-(?:trixie|bookworm|bullseye|buster|stretch))?"
)
# The first patches of 2022. Before, the slim image had no time zones, ensurepip a pip with another
# resolver (bpo-43880), and images without a release in their tag may stand on Debian 10.
_FIRST_PATCH = {7: 13, 8: 13, 9: 10, 10: 2}
# Debian releases whose packages have left the mirrors.
_ARCHIVED = ("stretch", "buster")


@dataclass(frozen=True, slots=True)
class PythonImage:
    """An official Python image on Debian.

    ``written`` is what ``FROM`` says, ``runtime`` the same for the slim image of the same
    version and release. ``minor`` is None for a tag that moves from one minor to the next.
    """

    written: str
    runtime: str
    slim: bool
    minor: int | None
    patch: int | None
    release: str | None

    @property
    def can_install_packages(self) -> bool:
        """Whether the mirrors of Debian surely serve the release of this image."""
        return self.release not in _ARCHIVED

    @property
    def is_recent(self) -> bool:
        """Whether it is from 2022 or later, when full and slim image had become alike."""
        if self.minor is None:
            return True
        # The tag python:3.6 moved for the last time in December 2021, python:3.7 in 2023.
        if self.minor < 7:
            return False
        return self.patch is None or self.patch >= _FIRST_PATCH.get(self.minor, 0)


def is_python_image(image: str) -> bool:
    """Whether ``image`` is an official Python image of any kind."""
    return _IMAGE.match(image) is not None


def python_image(stage: Stage) -> PythonImage | tuple[str, str]:
    """Return the official Python image that ``stage`` is built on, or (code, why it is none)."""
    if stage.image is None:
        return "base-unknown", f"FROM {stage.base} depends on an argument without a default"
    if "@" in stage.base or "@" in stage.image:
        return "digest-pin", f"{stage.base} is pinned: no slim image belongs to a digest"
    if "alpine" in stage.image:
        return "alpine-base", f"{stage.base} has another C library than the slim image"
    found = _IMAGE.fullmatch(stage.image)
    by_uv = _UV_IMAGE.fullmatch(stage.base)
    if by_uv:
        return PythonImage(
            stage.base,
            f"python:{by_uv['version']}-slim-{by_uv['release']}",
            bool(by_uv["slim"]),
            int(by_uv["minor"]),
            int(by_uv["patch"]) if by_uv["patch"] else None,
            by_uv["release"],
        )
    if found is None:
        return "other-base", f"{stage.base} is not the official Python image"
    parts = _TAG.fullmatch(found["tag"] or "")
    if parts is None or found["tag"] == "":
        return "other-base", f"{stage.base} is not an official Python image on Debian"
    slim = bool(parts["slim"])
    if parts["minor"] is None and not slim:
        return "version-not-pinned", f"{stage.base} and its slim image may differ in their version"
    release = (parts["release"] or "").lstrip("-") or None
    runtime = stage.base if slim else _slim(stage.base, release)
    if runtime is None:
        return "base-unknown", f"{stage.base} comes from an argument"
    return PythonImage(
        stage.base,
        runtime,
        slim,
        int(parts["minor"]) if parts["minor"] else None,
        int(parts["patch"]) if parts["patch"] else None,
        release,
    )


def _slim(base: str, release: str | None) -> str | None:
    """Return ``base``, as written, with ``-slim`` in its tag; None where that is not plain."""
    found = _WRITTEN.fullmatch(base)
    written = f"-{release}" if release else ""
    if found is None or (found["release"] or "") != written:
        return None
    return base.removesuffix(written) + "-slim" + written
