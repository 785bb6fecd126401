"""The images of the services that a plan changes, before and after."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mega_optimizer.codemods.context import Context
from mega_optimizer.measure.estimate import (
    Difference,
    ImageEstimate,
    differences,
    estimate_image,
    known_difference,
)
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mega_optimizer.engine.plan import Plan
    from mega_optimizer.engine.resolve import Resolver
    from mega_optimizer.measure.builders.model import Layer
    from mega_optimizer.measure.evidence import Kind, Unit
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.service import Service
    from mega_optimizer.verify.check import Check
    from mega_optimizer.verify.samples import SampleResult


class ImageSize(Protocol):
    """The sizes of one image in bytes, None where they are not known, with their evidence."""

    @property
    def kind(self) -> Kind:
        """Whether the image was built."""

    @property
    def bytes_compressed(self) -> int | None:
        """What a registry transfers."""

    @property
    def bytes_on_disk(self) -> int | None:
        """What a disk holds."""

    @property
    def source(self) -> str:
        """Where the figures come from."""

    @property
    def date(self) -> str:
        """When that was true (ISO 8601)."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is not known, and why."""

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers of an image that was built, from the base upwards."""

    def gaps(self, unit: Unit) -> tuple[str, ...]:
        """Return what is not known in ``unit``, and why."""


class ImagePair(Protocol):
    """The image of one service before and after the plan."""

    @property
    def service(self) -> str:
        """The service that runs it."""

    @property
    def before(self) -> ImageSize:
        """The image of the files as they are."""

    @property
    def after(self) -> ImageSize:
        """The image of the plan's result."""

    @property
    def known_difference(self) -> int:
        """What the registry transfers more or less, in bytes, as far as that is known."""

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The parts that differ."""

    @property
    def checks(self) -> Sequence[Check]:
        """What was proven of the image, where it was built."""

    @property
    def left(self) -> Sequence[str]:
        """The packages that the image no longer holds, where it was built."""

    @property
    def came(self) -> Sequence[str]:
        """The packages that only the new image holds, where it was built."""

    @property
    def samples(self) -> Sequence[SampleResult]:
        """How the answers to sample inputs differ, where it was built."""


@dataclass(frozen=True, slots=True)
class EstimatedPair:
    """The image of one service before and after the plan, estimated."""

    service: str
    before: ImageEstimate
    after: ImageEstimate
    checks: tuple[Check, ...] = ()
    left: tuple[str, ...] = ()
    came: tuple[str, ...] = ()
    samples: tuple[SampleResult, ...] = ()

    @property
    def known_difference(self) -> int:
        """What the registry transfers more or less, in bytes, as far as that is known."""
        return known_difference(self.before, self.after, "bytes compressed")

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The parts that differ."""
        return differences(self.before, self.after)


def estimate_images(
    plan: Plan, files: Files, resolver: Resolver | None, root: Path
) -> tuple[EstimatedPair, ...]:
    """Estimate the images of the services with a Dockerfile that ``plan`` changes.

    Sizes of packages come from lock files, else from what ``resolver`` would install.
    """
    changed = {change.service for change in plan.changes}
    git_bytes = _folder_bytes(root / ".git")
    return tuple(
        EstimatedPair(
            service.name,
            estimate_service(service, files, resolver, git_bytes),
            estimate_service(service, plan.result, resolver, git_bytes),
        )
        for service in plan.repository.services
        if service.name in changed and service.dockerfile
    )


def estimate_service(
    service: Service, files: Files, resolver: Resolver | None, git_bytes: int | None
) -> ImageEstimate:
    """Estimate the image of one service with the files of one snapshot."""
    context = Context(service, files)
    resolved = (
        resolver.resolve(context.dependencies, python=context.python_version) if resolver else None
    )
    if isinstance(resolved, Problem):
        resolved = None
    return estimate_image(context, context.dependencies, resolved, git_bytes)


def _folder_bytes(folder: Path) -> int | None:
    """Return the bytes of all files below ``folder``; None where it is not a readable folder."""
    if not folder.is_dir() or folder.is_symlink():
        return None
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                return None
    return total
