"""Rewritten services that serve: a process on a port of its own, and a client of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from mega_optimizer.engine.resolve import child_environment
from tests.services.programs import free_port, until

START_UP = 60  # seconds; a loaded machine takes a few
UVICORN = ("-m", "uvicorn", "app.main:app", "--port", "{port}")


@dataclass(frozen=True, slots=True)
class Serving:
    """A service that answers on ``port``; what it writes goes to ``log``."""

    port: int
    client: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> str:
        """Ask it to end, as a container runtime does; return all that it wrote."""
        self.process.terminate()
        self.process.wait(timeout=START_UP)
        return self.log.read_text()

    def await_log(self, text: str) -> None:
        """Return when the service has written ``text``."""
        until(lambda: text in self.log.read_text(), self.log.read_text, START_UP)


@contextmanager
def serving(
    folder: Path,
    environment: Mapping[str, str],
    arguments: Sequence[str] = UVICORN,
    python: Path | str = sys.executable,
) -> Iterator[Serving]:
    """Run ``python ARGUMENTS`` in ``folder``, with its port in ``PORT`` and for ``{port}``.

    It is asked to end as a container runtime does, and has to.
    """
    port = free_port()
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, *(each.format(port=port) for each in arguments)],
            cwd=folder,
            env={**child_environment(os.environ), **environment, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: _accepts(port) or process.poll() is not None, log.read_text, START_UP)
        assert process.poll() is None, log.read_text()
        # A connection that is kept may be closed by an idle server just as it is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=START_UP, limits=limits
        ) as client:
            yield Serving(port, client, process, log)
        process.terminate()
        process.wait(timeout=START_UP)
    finally:
        process.kill()
        process.wait()


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
