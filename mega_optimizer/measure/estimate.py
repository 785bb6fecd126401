"""Estimate an image from what it is made of, without building it.

Every part is a known size or says why it is not known. There is a total only where all parts are
known; what a change wins is known as soon as the parts that it touches are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.measure.bases import base_size
from mega_optimizer.measure.context_size import build_context
from mega_optimizer.measure.evidence import Part, total, unknown_part
from mega_optimizer.repository.dockerfile import root_image, shipping_stage
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.measure.builders.model import Layer
    from mega_optimizer.measure.evidence import Figure, Kind, Unit
    from mega_optimizer.repository.dependencies.model import Dependencies, LockedPackage


@dataclass(frozen=True, slots=True)
class Difference:
    """What a part gained (positive) or lost; None where one of its two sizes is unknown."""

    name: str
    compressed: int | None
    on_disk: int | None


@dataclass(frozen=True, slots=True)
class ImageEstimate:
    """What an image is made of."""

    service: str
    parts: tuple[Part, ...]
    kind: Kind = "estimated"
    layers: tuple[Layer, ...] = ()  # only a build shows them

    @property
    def bytes_compressed(self) -> int | None:
        """What a registry transfers; None where a part is unknown."""
        return total(tuple(part.compressed for part in self.parts))

    @property
    def bytes_on_disk(self) -> int | None:
        """What a disk holds; None where a part is unknown."""
        return total(tuple(part.on_disk for part in self.parts))

    @property
    def source(self) -> str:
        """Where the known figures come from."""
        return "; ".join(dict.fromkeys(figure.source for figure in self._known if figure.source))

    @property
    def date(self) -> str:
        """The oldest date of a figure that has one."""
        return min((figure.date for figure in self._known if figure.date), default="")

    @property
    def unknown(self) -> tuple[str, ...]:
        """The gaps in words, the same reason told once: first in transfer, then on disk."""
        return (*self.gaps("bytes compressed"), *self.gaps("bytes on disk"))

    def gaps(self, unit: Unit) -> tuple[str, ...]:
        """Return what is not known in ``unit``, and why."""
        reasons: dict[str, list[str]] = {}
        for part in self.parts:
            figure = part.figure(unit)
            if figure.value is None:
                reasons.setdefault(figure.why_unknown, []).append(part.name)
        return tuple(
            f"{_listed(names)}, {unit.removeprefix('bytes ')}: {why}"
            for why, names in reasons.items()
        )

    @property
    def _known(self) -> tuple[Figure, ...]:
        figures = [figure for part in self.parts for figure in (part.compressed, part.on_disk)]
        return tuple(figure for figure in figures if figure.value is not None)


def estimate_image(
    context: Context,
    dependencies: Dependencies,
    resolved: Mapping[str, LockedPackage] | None = None,
    git_bytes: int | None = None,
) -> ImageEstimate:
    """Estimate the image that ``context.service`` builds for linux/amd64.

    ``resolved`` is what a resolver would install, by name; without it the lock files say.
    ``git_bytes`` is the size of the ``.git`` folder on the disk, where the caller knows it.
    """
    # These parse shell text and wheel names: not needed where there is no Dockerfile.
    from mega_optimizer.measure.layers import Build, compiles_bytecode, layer_parts
    from mega_optimizer.measure.packages import installed_packages

    service = context.service
    if service.dockerfile is None:
        return _nothing_known(service.name, "The service has no Dockerfile")
    dockerfile = context.dockerfile(service.dockerfile)
    if isinstance(dockerfile, Problem):
        return _nothing_known(service.name, f"{dockerfile.path}: {dockerfile.message}")
    stage = shipping_stage(dockerfile, service.stage)
    if stage is None:
        return _nothing_known(service.name, f"{dockerfile.path} has no stage {service.stage}")
    sources = build_context(context.files, service.root, dockerfile.path)
    if isinstance(sources, Problem):
        return _nothing_known(service.name, f"{sources.path}: {sources.message}")
    image = root_image(dockerfile, stage)
    is_compiled = compiles_bytecode(dockerfile, stage)
    packages = installed_packages(image, dependencies, resolved, is_compiled)
    at_root = not service.root
    build = Build(context.files, dockerfile, stage, sources, packages, git_bytes, at_root)
    return ImageEstimate(service.name, (_base(image), *layer_parts(build)))


def differences(before: ImageEstimate, after: ImageEstimate) -> tuple[Difference, ...]:
    """Return the parts whose size differs, or may differ, between two estimates."""
    old = {part.name: part for part in before.parts}
    new = {part.name: part for part in after.parts}
    found = []
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            compressed = _change(old.get(name), new.get(name), "bytes compressed")
            on_disk = _change(old.get(name), new.get(name), "bytes on disk")
            found.append(Difference(name, compressed, on_disk))
    return tuple(found)


def known_difference(before: ImageEstimate, after: ImageEstimate, unit: Unit) -> int:
    """Return the sum in ``unit`` of the differences that are known, 0 where none is."""
    return sum(
        (each.compressed if unit == "bytes compressed" else each.on_disk) or 0
        for each in differences(before, after)
    )


def _change(old: Part | None, new: Part | None, unit: Unit) -> int | None:
    before = old.figure(unit).value if old else 0
    after = new.figure(unit).value if new else 0
    if old and new and old.figure(unit) == new.figure(unit):
        return 0
    return None if before is None or after is None else after - before


def _base(image: str | None) -> Part:
    if image is None:
        return unknown_part("base image", "FROM names it by a build argument without a default")
    size = base_size(image)
    return Part("base image", size.compressed, size.on_disk)


def _nothing_known(service: str, why: str) -> ImageEstimate:
    return ImageEstimate(service, (unknown_part("image", why),))


def _listed(names: list[str]) -> str:
    if len(names) <= 3:
        return ", ".join(names)
    return f"{', '.join(names[:2])} and {len(names) - 2} more"
