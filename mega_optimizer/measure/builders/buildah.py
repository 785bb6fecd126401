"""Build and run with buildah as root, where no container runtime is needed (chroot isolation)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from mega_optimizer.measure.builders.inventory import inventory_of_folder
from mega_optimizer.measure.builders.layers import LayerFolder
from mega_optimizer.measure.builders.model import Built, NotBuilt, Ran, configuration_from
from mega_optimizer.measure.builders.process import (
    BuilderError,
    answer,
    clean_environment,
    kill_group,
    run_bounded,
    run_watched,
    tail,
)
from mega_optimizer.measure.builders.reasons import failure_reason
from mega_optimizer.measure.builders.store import PrivateStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from mega_optimizer.measure.builders.inventory import Inventory
    from mega_optimizer.measure.builders.model import Configuration, Limits, Recipe, Started

# Chroot isolation shares the host's processes and network. In a namespace of its own, a build sees
# no other process (/proc shows the environment of each), and all of it dies with the first one.
_AMONG_ITSELF = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
# What is only tried reaches nothing but its own loopback, too.
_ALONE = ("unshare", "--net", *_AMONG_ITSELF[1:])
# SIOCSIFFLAGS 0x8914 with IFF_UP 1: the loopback of a new network namespace is down.
_LOOPBACK_UP = (
    "import fcntl,os,socket,struct,sys;"
    "fcntl.ioctl(socket.socket(),0x8914,struct.pack('16sh14x',b'lo',1));"
    "os.execvp(sys.argv[1],sys.argv[1:])"
)
_SAID_BY_BUILDAH = re.compile(
    r"(?:^(?:subprocess exited with status \d+|(?:Error: )?exit status \d+"
    r"|.*while running runtime: exit status \d+)\n?)+\Z",
    re.MULTILINE,
)


class Buildah:
    """buildah with a store of its own, which is removed as a whole unless it is ``kept``."""

    def __init__(
        self, limits: Limits, volumes: Sequence[str] = (), kept: Path | None = None
    ) -> None:
        self.limits = limits
        self.volumes = tuple(volumes)
        self.kept = kept
        self.name = answer(["buildah", "--version"]).strip().partition(" (")[0]
        self._numbers = count(1)

    def __enter__(self) -> Self:
        self._store = PrivateStore("buildah", self.kept)
        self._program = self._store.command
        self._layers = LayerFolder(self._store.folder / "layers")
        if self.kept:
            answer([*self._program, "rm", "--all"])  # of a run that was killed
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.kept:
            self._layers.remember()
        self._store.remove()

    def build(self, recipe: Recipe, log: Path) -> Built | NotBuilt:
        """Build ``recipe`` and measure its layers."""
        made = self.image(recipe, log)
        if isinstance(made, NotBuilt):
            return made
        image, seconds = made
        about = json.loads(answer([*self._program, "inspect", "--type", "image", image]))
        layers = self._layers.known(about["OCIv1"])
        if layers is None:
            push = (*self._program, "push", "--quiet", "--disable-compression")
            answer([*push, image, f"dir:{self._layers.folder}"], self.limits.seconds)
            layers = self._layers.layers()
        return Built(image, layers, seconds)

    def image(self, recipe: Recipe, log: Path) -> tuple[str, float] | NotBuilt:
        """Build ``recipe``; return the image and the seconds that took.

        Every instruction becomes a layer, as Docker makes them.
        """
        tag = f"t{next(self._numbers)}"
        identity = self._store.folder / f"{tag}.id"
        command = [
            *(
                *_AMONG_ITSELF,
                *self._program,
                "bud",
                "--format",
                "docker",
                "--layers",
                "--isolation",
                "chroot",
            ),
            *("--iidfile", str(identity), "--tag", f"localhost/mega-optimize/{tag}"),
            *(option for volume in self.volumes for option in ("--volume", volume)),
            *(f"--build-arg={name}={value}" for name, value in recipe.arguments.items()),
            *(("--target", recipe.target) if recipe.target else ()),
            *("--file", str(recipe.dockerfile), str(recipe.context)),
        ]
        start = time.monotonic()
        wrong = run_watched(command, log, self.limits, self._store.folder)
        seconds = time.monotonic() - start
        if wrong is not None:
            limited = "limit" in wrong and "reached" in wrong
            return NotBuilt(wrong if limited else failure_reason(tail(log)), log)
        return identity.read_text().strip(), seconds

    def configuration(self, image: str) -> Configuration:
        """Return how ``image`` says that it is run."""
        about = json.loads(answer([*self._program, "inspect", "--type", "image", image]))
        return configuration_from(about["Docker"]["config"])

    def inventory(self, image: str, hashed: str) -> Inventory:
        """Return the files of ``image``, read where buildah mounts them."""
        with self._container(image) as container:
            root = answer([*self._program, "mount", container]).strip()
            return inventory_of_folder(Path(root), hashed)

    def run(
        self, image: str, command: Sequence[str], environment: Mapping[str, str], seconds: float
    ) -> Ran:
        """Run ``command`` alone in its namespaces."""
        with self._container(image) as container:
            output = self._store.folder / f"{container}.log"
            ran = run_bounded(self._inside(container, command, environment), output, seconds)
            return Ran(ran.status, _its_own_words(ran.output))

    @contextmanager
    def started(self, image: str, environment: Mapping[str, str]) -> Iterator[Started]:
        """Start ``image`` with its entrypoint and command."""
        config = self.configuration(image)
        command = (*config.entrypoint, *config.command)
        with self._container(image) as container:
            output = self._store.folder / f"{container}.log"
            with output.open("wb") as stream:
                process = subprocess.Popen(
                    self._inside(container, command, environment),
                    env=clean_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                yield _Running(process, output)
            finally:
                kill_group(process)

    def _inside(
        self, container: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> list[str]:
        if not command:
            raise BuilderError("the image has neither an entrypoint nor a command")
        return [
            *(*_ALONE, sys.executable, "-I", "-c", _LOOPBACK_UP),
            *(*self._program, "run", "--isolation", "chroot", "--terminal=false"),
            *(f"--env={name}={value}" for name, value in environment.items()),
            *(container, "--", *command),
        ]

    @contextmanager
    def _container(self, image: str) -> Iterator[str]:
        name = f"c{next(self._numbers)}"
        answer([*self._program, "from", "--quiet", "--pull-never", "--name", name, image])
        try:
            yield name
        finally:
            answer([*self._program, "rm", name])


class _Running:
    """A process tree in namespaces of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def status(self) -> int | None:
        """Return the exit status of the command; None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """Return what the command has printed so far."""
        return _its_own_words(tail(self._log))

    def ask(self, script: str, arguments: Sequence[str], seconds: float) -> Ran:
        """Run ``script`` with this interpreter on the loopback of the started image."""
        network = f"/proc/{self._process.pid}/ns/net"
        # Until unshare has left it, and once it is gone, this would be the host's own network.
        if not _leads_elsewhere(network):
            return Ran(None, "")
        command = ["nsenter", f"--net={network}", "--", sys.executable, "-I", "-c", script]
        command += arguments
        return run_bounded(command, self._log.with_suffix(".ask"), seconds)


def _leads_elsewhere(network: str) -> bool:
    """Whether a process has a network namespace that is not this process's."""
    try:
        return os.readlink(network) != os.readlink("/proc/self/ns/net")
    except OSError:
        return False


def _its_own_words(output: str) -> str:
    """Return ``output`` without what buildah says at its end about a command that failed."""
    return _SAID_BY_BUILDAH.sub("", output)


def buildah_answers() -> bool:
    """Whether buildah can build here: it is installed, and this is root."""
    needed = ("buildah", "unshare", "nsenter")
    return os.geteuid() == 0 and all(shutil.which(program) for program in needed)
