"""What every image builder can do, and the values that it deals in."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

    from mega_optimizer.measure.builders.inventory import Inventory

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one build may take: seconds, and the bytes that must stay free on the disk.

    ``start_seconds`` is how long an image may take until it answers, ``import_seconds`` how long
    its modules may take to be imported, ``sample_seconds`` how long it may take to answer a sample.
    """

    seconds: float = 1800
    free_bytes: int = 4_000_000_000
    # The sample service that waits longest for its database gives up after a minute.
    start_seconds: float = 75
    import_seconds: float = 120
    sample_seconds: float = 60


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is built: the folder that is the context, the Dockerfile, the stage, build arguments."""

    context: Path
    dockerfile: Path
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. ``largest`` are its largest folders or packages with their bytes on disk."""

    created_by: str
    bytes_compressed: int
    bytes_on_disk: int
    largest: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built, with its layers from the base upwards.

    Compressed is what a registry transfers (gzip), on disk the unpacked layers (tar streams).
    ``seconds`` is what the build itself took on the wall clock.
    """

    image: str
    layers: tuple[Layer, ...]
    seconds: float

    @property
    def bytes_compressed(self) -> int:
        """The sum of the gzip layers."""
        return sum(layer.bytes_compressed for layer in self.layers)

    @property
    def bytes_on_disk(self) -> int:
        """The sum of the unpacked layers."""
        return sum(layer.bytes_on_disk for layer in self.layers)


@dataclass(frozen=True, slots=True)
class NotBuilt:
    """Why there is no image, in a few words (``base unreachable``), and where the log is."""

    reason: str
    log: Path


@dataclass(frozen=True, slots=True)
class Configuration:
    """How an image says that it is run (the ``config`` of the OCI image specification)."""

    user: str = ""
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    labels: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    ports: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    healthcheck: tuple[str, ...] = ()
    stop_signal: str = ""


def configuration_from(config: Mapping[str, Any]) -> Configuration:
    """Read what ``docker inspect`` gives as the ``Config`` of an image."""
    pairs = (each.partition("=")[::2] for each in config.get("Env") or ())
    return Configuration(
        user=config.get("User") or "",
        workdir=config.get("WorkingDir") or "/",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        environment=MappingProxyType(dict(pairs)),
        labels=MappingProxyType(config.get("Labels") or {}),
        ports=frozenset(config.get("ExposedPorts") or ()),
        volumes=frozenset(config.get("Volumes") or ()),
        healthcheck=tuple((config.get("Healthcheck") or {}).get("Test") or ()),
        stop_signal=config.get("StopSignal") or "",
    )


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did: its exit status (None: it ran out of time) and its output."""

    status: int | None
    output: str


class Started(Protocol):
    """An image that runs its own command, without any network but its own loopback."""

    def status(self) -> int | None:
        """Return the exit status of the command; None while it runs."""

    def output(self) -> str:
        """Return what the command has printed so far."""

    def ask(self, script: str, arguments: Sequence[str], seconds: float) -> Ran:
        """Run a Python script beside the command, so that it reaches the same loopback."""


class ImageBuilder(Protocol):
    """A program that builds images. What it makes is gone once it is closed."""

    @property
    def name(self) -> str:
        """The program and its version."""

    def build(self, recipe: Recipe, log: Path) -> Built | NotBuilt:
        """Build and measure an image; all output goes to ``log``."""

    def configuration(self, image: str) -> Configuration:
        """Return how ``image`` says that it is run."""

    def inventory(self, image: str, hashed: str) -> Inventory:
        """Return the files of ``image`` as data, with digests of those below ``hashed``."""

    def run(
        self, image: str, command: Sequence[str], environment: Mapping[str, str], seconds: float
    ) -> Ran:
        """Run ``command`` in ``image`` as the image's user, without a network."""

    def started(
        self, image: str, environment: Mapping[str, str]
    ) -> AbstractContextManager[Started]:
        """Start ``image`` with its own command; it is killed when the context is left."""

    def __enter__(self) -> ImageBuilder:
        """Prepare what is needed."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove every image, container and folder that was made."""
