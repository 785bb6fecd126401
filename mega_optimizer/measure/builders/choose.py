"""Choose the image builder that answers, and read what the user says about building."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mega_optimizer.errors import ConfigurationError
from mega_optimizer.measure.builders.model import NOTHING, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.measure.builders.model import ImageBuilder

VOLUMES = "MEGA_OPTIMIZE_BUILD_VOLUMES"
ENVIRONMENT = "MEGA_OPTIMIZE_PROOF_ENVIRONMENT"
BUILDER = "MEGA_OPTIMIZE_BUILDER"
STORE = "MEGA_OPTIMIZE_BUILD_STORE"
NO_BUILDER = (
    "no image builder answers: start docker, or install podman, or as root buildah; "
    "--sizes estimate needs none"
)


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the user allows a build. A target's configuration can say nothing of it.

    ``volumes`` (``SOURCE:TARGET``) are mounted read-only into every build: pip's configuration and
    certificates, where an index of one's own is behind them. ``environment`` is set when an image
    is started for its proof. ``builder`` names the one to use, where several answer.
    ``store`` is a folder in which buildah keeps what it builds, so that the next run finds the
    layers; docker keeps them anyway.
    """

    volumes: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    builder: str = ""
    store: Path | None = None
    limits: Limits = field(default_factory=Limits)


def build_options(environment: Mapping[str, str] | None = None) -> BuildOptions:
    """Read the options from environment variables; raise :class:`ConfigurationError`."""
    given = os.environ if environment is None else environment
    volumes = []
    for volume in shlex.split(given.get(VOLUMES, "")):
        source, _, target = volume.removesuffix(":ro").partition(":")
        if not os.path.isabs(source) or not os.path.isabs(target) or ":" in target:
            raise ConfigurationError(f"{VOLUMES}: {volume} is not /SOURCE:/TARGET")
        if not os.path.exists(source):
            raise ConfigurationError(f"{VOLUMES}: {source} does not exist")
        volumes.append(f"{source}:{target}:ro")
    proof = {}
    for pair in shlex.split(given.get(ENVIRONMENT, "")):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"{ENVIRONMENT}: {pair} is not NAME=VALUE")
        proof[name] = value
    builder = given.get(BUILDER, "")
    if builder not in ("", "docker", "buildah", "podman"):
        raise ConfigurationError(f"{BUILDER}: {builder} is not docker, buildah or podman")
    store = given.get(STORE, "")
    if store and not os.path.isabs(store):
        raise ConfigurationError(f"{STORE}: {store} is not an absolute path")
    return BuildOptions(tuple(volumes), proof, builder, Path(store) if store else None)


def answering_builder(options: BuildOptions) -> ImageBuilder | None:
    """Return the first builder that answers: docker, buildah (as root), podman; else None."""
    from mega_optimizer.measure.builders.buildah import Buildah, buildah_answers
    from mega_optimizer.measure.builders.engine import Engine, engine_answers

    wanted = options.builder
    if wanted in ("", "docker") and engine_answers("docker"):
        return Engine("docker", options.limits, options.volumes)
    if wanted in ("", "buildah") and buildah_answers():
        return Buildah(options.limits, options.volumes, options.store)
    if wanted in ("", "podman") and engine_answers("podman"):
        return Engine("podman", options.limits, options.volumes)
    return None
