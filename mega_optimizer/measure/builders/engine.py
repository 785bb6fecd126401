"""Build and run with docker or podman, whose command lines agree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mega_optimizer.measure.builders.inventory import inventory_of_tar
from mega_optimizer.measure.builders.layers import LayerFolder, archive_layers
from mega_optimizer.measure.builders.model import Built, NotBuilt, Ran, configuration_from
from mega_optimizer.measure.builders.process import (
    BuilderError,
    answer,
    clean_environment,
    run_bounded,
    run_watched,
    tail,
)
from mega_optimizer.measure.builders.reasons import failure_reason
from mega_optimizer.measure.builders.store import PrivateStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from mega_optimizer.measure.builders.inventory import Inventory
    from mega_optimizer.measure.builders.model import Configuration, Layer, Limits, Recipe


class Engine:
    """docker, or podman with a store of its own.

    What is made in docker's store carries a name of this run and is removed by that name.
    """

    def __init__(
        self, program: Literal["docker", "podman"], limits: Limits, volumes: Sequence[str] = ()
    ) -> None:
        if program == "docker" and volumes:
            raise BuilderError(
                "docker cannot mount a folder into a build (MEGA_OPTIMIZE_BUILD_VOLUMES): "
                "use buildah or podman, or configure pip in the base image"
            )
        self.program = program
        self.limits = limits
        self.volumes = tuple(volumes)
        self.name = answer([program, "--version"]).strip()
        self._numbers = count(1)
        self._run = f"{os.getpid()}-{os.urandom(4).hex()}"

    def __enter__(self) -> Engine:
        self._folder = Path(tempfile.mkdtemp(prefix="mega-optimize-"))
        self._store = PrivateStore("podman") if self.program == "podman" else None
        self._command = tuple(self._store.command) if self._store else (self.program,)
        self._pushed = LayerFolder(self._folder / "layers")
        self._made: list[tuple[str, ...]] = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for made in reversed(self._made):
            subprocess.run(
                [*self._command, *made], env=clean_environment(), capture_output=True, check=False
            )
        if self._store:
            self._store.remove()
        shutil.rmtree(self._folder, ignore_errors=True)

    def build(self, recipe: Recipe, log: Path) -> Built | NotBuilt:
        """Build ``recipe``."""
        tag = f"t{next(self._numbers)}"
        name = f"localhost/mega-optimize-{self._run}:{tag}"
        identity = self._folder / f"{tag}.id"
        options = ("--format", "docker", "--layers") if self.program == "podman" else ()
        command = [
            *(*self._command, "build", *options, "--force-rm", "--iidfile", str(identity)),
            *("--tag", name),
            *(option for volume in self.volumes for option in ("--volume", volume)),
            *(f"--build-arg={name}={value}" for name, value in recipe.arguments.items()),
            *(("--target", recipe.target) if recipe.target else ()),
            *("--file", str(recipe.dockerfile), str(recipe.context)),
        ]
        self._made.append(("rmi", "--force", name))
        start = time.monotonic()
        wrong = run_watched(command, log, self.limits, self._folder)
        seconds = time.monotonic() - start
        if wrong is not None:
            limited = "limit" in wrong and "reached" in wrong
            return NotBuilt(wrong if limited else failure_reason(tail(log)), log)
        image = identity.read_text().strip()
        return Built(image, self._layers(image, tag), seconds)

    def _layers(self, image: str, tag: str) -> tuple[Layer, ...]:
        if self.program == "podman":
            push = ("push", "--quiet", "--compress=false")
            target = f"dir:{self._pushed.folder}"
            answer([*self._command, *push, image, target], self.limits.seconds)
            return self._pushed.layers()
        archive = self._folder / f"{tag}.tar"
        answer([*self._command, "save", "--output", str(archive), image], self.limits.seconds)
        try:
            return archive_layers(archive)
        finally:
            archive.unlink()

    def configuration(self, image: str) -> Configuration:
        """Return how ``image`` says that it is run."""
        (about,) = json.loads(answer([*self._command, "image", "inspect", image]))
        return configuration_from({"Healthcheck": about.get("Healthcheck"), **about["Config"]})

    def inventory(self, image: str, hashed: str) -> Inventory:
        """Return the files of ``image``, read from its export."""
        archive = self._folder / f"export{next(self._numbers)}.tar"
        container = self._named()
        answer([*self._command, "create", "--name", container, image])
        answer([*self._command, "export", "--output", str(archive), container])
        try:
            return inventory_of_tar(archive, hashed)
        finally:
            archive.unlink()

    def run(
        self, image: str, command: Sequence[str], environment: Mapping[str, str], seconds: float
    ) -> Ran:
        """Run ``command`` without a network."""
        container = self._named()
        words = [
            *(*self._command, "run", "--name", container, "--network", "none"),
            *(f"--env={name}={value}" for name, value in environment.items()),
            *("--entrypoint", command[0], image, *command[1:]),
        ]
        try:
            return run_bounded(words, self._folder / f"{container}.log", seconds)
        finally:
            self._remove(container)

    @contextmanager
    def started(self, image: str, environment: Mapping[str, str]) -> Iterator[_Running]:
        """Start ``image`` with its entrypoint and command."""
        container = self._named()
        words = [
            *(*self._command, "run", "--detach", "--name", container, "--network", "none"),
            *(f"--env={name}={value}" for name, value in environment.items()),
            image,
        ]
        try:
            answer(words)
            yield _Running(self._command, container, self._folder / f"{container}.log")
        finally:
            self._remove(container)

    def _named(self) -> str:
        name = f"mega-optimize-{self._run}-c{next(self._numbers)}"
        self._made.append(("rm", "--force", "--volumes", name))
        return name

    def _remove(self, container: str) -> None:
        subprocess.run(
            [*self._command, "rm", "--force", "--volumes", container],
            env=clean_environment(),
            capture_output=True,
            check=False,
        )


class _Running:
    """A container."""

    def __init__(self, command: Sequence[str], container: str, log: Path) -> None:
        self._command = tuple(command)
        self._container = container
        self._log = log

    def status(self) -> int | None:
        """Return the exit status of the command; None while it runs."""
        shown = "{{.State.Running}} {{.State.ExitCode}}"
        command = [*self._command, "container", "inspect", "--format", shown, self._container]
        running, status = answer(command).split()
        return None if running == "true" else int(status)

    def output(self) -> str:
        """Return what the command has printed so far."""
        run_bounded([*self._command, "logs", self._container], self._log, 30)
        return tail(self._log)

    def ask(self, script: str, arguments: Sequence[str], seconds: float) -> Ran:
        """Run ``script`` with the container's own interpreter."""
        command = [*self._command, "exec", self._container, "python3", "-c", script, *arguments]
        return run_bounded(command, self._log.with_suffix(".ask"), seconds)


def engine_answers(program: str) -> bool:
    """Whether ``program`` is installed and, for docker, its daemon answers."""
    if shutil.which(program) is None:
        return False
    try:
        answer([program, "info"], 20)
    except BuilderError:
        return False
    return True
