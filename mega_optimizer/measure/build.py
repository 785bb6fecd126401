"""Build the images of a plan, before from the files as they are, after from the plan's result."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mega_optimizer.measure.builders.model import NOTHING, Built, NotBuilt
from mega_optimizer.repository.dockerignore import ignore_file
from mega_optimizer.repository.git_index import SUBMODULE_MODE, find_checkout, read_index
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.engine.plan import Plan
    from mega_optimizer.measure.builders.model import Layer
    from mega_optimizer.measure.evidence import Kind, Unit
    from mega_optimizer.repository.compose import ComposeService
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.index import DiskFiles
    from mega_optimizer.repository.service import Repository, Service

# All files of a context get this time (2020-01-01), so that equal content makes equal layers.
_TIME = 1_577_836_800
_LINK_MODE = "120000"
_PROGRAM_MODE = "100755"


@dataclass(frozen=True, slots=True)
class ImageSource:
    """What the image of ``service`` is built from. Paths are those of the repository."""

    context: str
    dockerfile: str
    stage: str | None
    arguments: tuple[tuple[str, str], ...]
    service: Service = field(compare=False)

    def reads(self, path: str, files: Files) -> bool:
        """Whether a build looks at ``path``."""
        inside = not self.context or path.startswith(f"{self.context}/")
        own = (self.dockerfile, ignore_file(files, self.context, self.dockerfile))
        return inside or path in own

    def changes(self, plan: Plan) -> dict[str, bytes]:
        """Return what ``plan`` lays over the files that a build looks at."""
        return {
            path: after
            for path, (_, after) in plan.changed().items()
            if self.reads(path, plan.result)
        }


@dataclass(frozen=True, slots=True)
class MeasuredImage:
    """An image that was built, or why it was not; the sizes are in bytes."""

    service: str
    made: Built | NotBuilt
    builder: str
    date: str

    @property
    def kind(self) -> Kind:
        """``measured`` where there is an image."""
        return "measured" if isinstance(self.made, Built) else "estimated"

    @property
    def bytes_compressed(self) -> int | None:
        """What a registry transfers (gzip layers); None where it was not built."""
        return self.made.bytes_compressed if isinstance(self.made, Built) else None

    @property
    def bytes_on_disk(self) -> int | None:
        """What the unpacked layers take; None where it was not built."""
        return self.made.bytes_on_disk if isinstance(self.made, Built) else None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, from the base upwards."""
        return self.made.layers if isinstance(self.made, Built) else ()

    @property
    def source(self) -> str:
        """What measured it."""
        return f"built with {self.builder}, gzip level 6"

    @property
    def unknown(self) -> tuple[str, ...]:
        """Why there are no sizes."""
        return () if isinstance(self.made, Built) else (f"not built: {self.made.reason}",)

    def gaps(self, unit: Unit) -> tuple[str, ...]:
        """Return why there is no size in ``unit``."""
        return tuple(f"image, {unit.removeprefix('bytes ')}: {why}" for why in self.unknown)


def image_sources(plan: Plan, files: Files) -> tuple[ImageSource, ...]:
    """Return what is to be built: the images of which ``plan`` changes something.

    A Dockerfile of another service that lies in the same context makes no other image.
    """
    dockerfiles = {service.dockerfile for service in plan.repository.services}
    return tuple(
        source
        for source in every_image(plan.repository, files)
        if any(
            path == source.dockerfile or path not in dockerfiles for path in source.changes(plan)
        )
    )


def every_image(repository: Repository, files: Files) -> tuple[ImageSource, ...]:
    """Return the images of all services that have a Dockerfile.

    The scan has one service for all entries that build the same stage of the same Dockerfile.
    """
    return tuple(
        ImageSource(
            service.root,
            service.dockerfile,
            service.stage,
            tuple(sorted(_constants(_build_arguments(service, files)).items())),
            service,
        )
        for service in repository.services
        if service.dockerfile
    )


def run_environment(service: Service) -> Mapping[str, str]:
    """Return what a compose file sets for ``service``, as far as it is constant."""
    composed = next((each for each in service.deployments if each.kind == "compose"), None)
    return MappingProxyType(_constants(composed.environment)) if composed else NOTHING


def lay_out(files: DiskFiles, overlay: Mapping[str, bytes], folder: Path) -> None:
    """Write the tracked files of the target below ``folder``, and ``overlay`` over them.

    Modes and symlinks are as git has them, and there is no ``.git``. Outside of git, the files of
    the scan are written.
    """
    root = files.guard.root
    folders: dict[str, bool] = {}
    for path, mode in _modes(files):
        parent, _, _ = path.rpartition("/")
        if parent not in folders:
            folders[parent] = os.path.realpath(root / parent) == os.path.join(root, parent).rstrip(
                "/"
            )
            if folders[parent]:
                (folder / parent).mkdir(parents=True, exist_ok=True)
        if folders[parent]:
            _copy(root / path, folder / path, mode)
    for path, content in overlay.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        is_new = not target.exists()
        target.write_bytes(content)
        if is_new:
            target.chmod(0o644)
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            os.utime(os.path.join(place, name), (_TIME, _TIME), follow_symlinks=False)
        os.chmod(place, 0o755)
        os.utime(place, (_TIME, _TIME))


def content_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every regular file below ``folder``, by relative path."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink():
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                found[path.relative_to(folder).as_posix()] = digest
    return found


def _modes(files: DiskFiles) -> Iterator[tuple[str, str]]:
    root = files.guard.root
    checkout = find_checkout(root)
    below = ""
    if checkout and root != checkout.top:
        below = root.relative_to(checkout.top).as_posix()
    tracked = read_index(checkout, below) if checkout else {}
    if tracked:
        yield from (
            (path, entry.mode) for path, entry in tracked.items() if entry.mode != SUBMODULE_MODE
        )
        return
    for path in files.paths:
        is_program = os.lstat(root / path).st_mode & stat.S_IXUSR
        yield path, _PROGRAM_MODE if is_program else "100644"


def _copy(source: Path, target: Path, mode: str) -> None:
    """Copy one file; what is not on disk, or of another kind there, is left out."""
    try:
        if mode == _LINK_MODE:
            target.symlink_to(os.readlink(source))
            return
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    with open(descriptor, "rb") as stream:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            with target.open("wb") as written:
                shutil.copyfileobj(stream, written)
            target.chmod(0o755 if mode == _PROGRAM_MODE else 0o644)


def _build_arguments(service: Service, files: Files) -> Mapping[str, str]:
    composed = next((each for each in service.deployments if each.kind == "compose"), None)
    found = _composed(composed.place.path, composed.name, files) if composed else None
    if found is None or found.context != service.root:
        return NOTHING
    return found.arguments


def _composed(path: str, name: str, files: Files) -> ComposeService | None:
    from mega_optimizer.repository.compose import compose_services

    services = compose_services(path, files.read(path))
    if isinstance(services, Problem):
        return None
    return next((service for service in services if service.name == name), None)


def _constants(given: Mapping[str, str]) -> dict[str, str]:
    """Fill in the defaults of ``${NAME:-default}``; leave out what the caller's shell decides."""
    filled = {name: re.sub(r"\$\{\w+:?-([^${}]*)\}", r"\1", value) for name, value in given.items()}
    return {
        name: value.replace("$$", "$")
        for name, value in filled.items()
        if value and "$" not in value.replace("$$", "")
    }


def dockerfile_in(folder: Path, source: ImageSource) -> tuple[Path, Path]:
    """Return (context, Dockerfile) of ``source`` in the files laid out at ``folder``."""
    context = folder / posixpath.normpath(source.context or ".")
    return context, folder / source.dockerfile
