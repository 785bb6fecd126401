"""Rewritten services that serve: a process on a port of its own, and a client of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.services.programs import free_port

START_UP = 60  # seconds; a loaded machine takes a few


@contextmanager
def serving(
    folder: Path, arguments: Sequence[str], environment: Mapping[str, str]
) -> Iterator[httpx.Client]:
    """Run ``python ARGUMENTS`` in ``folder``, with its port in ``PORT`` and for ``{port}``.

    It is asked to end as a container runtime does, and has to.
    """
    port = free_port()
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *(each.format(port=port) for each in arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": "", **environment, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + START_UP
    try:
        while not _accepts(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=START_UP) as client:
            yield client
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
