"""Start a side of a case as a real server, on a port of its own, and stop it again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving.case import Case
from benchmarks.serving.trees import CHECKOUT, Side
from tests.services.programs import free_port

START_UP = 60  # seconds


@contextmanager
def started(case: Case, side: Side) -> Iterator[tuple[str, int]]:
    """Run the service; give its base URL and the id of its first process."""
    port = free_port()
    environment = surroundings(case, side, port)
    command = on_port(side.command, case.service.port, port)
    log = side.folder / ".bench.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", command if command.startswith("exec ") else f"exec {command}"],
            cwd=side.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{base}{case.service.health}", process, log)
        yield base, process.pid
    finally:
        stop(process)


@contextmanager
def beside(case: Case, side: Side) -> Iterator[None]:
    """Run what the case lets run beside the service, if anything."""
    if not case.beside:
        yield
        return
    with (side.folder / ".beside.log").open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {case.beside}"],
            cwd=side.folder,
            env=surroundings(case, side),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        stop(process)


def surroundings(case: Case, side: Side, port: int = 0) -> dict[str, str]:
    environment = {
        name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR")
    }
    environment["PATH"] = f"{side.binaries}:/usr/local/bin:/usr/bin:/bin"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment |= side.variables
    for name, value in case.service.environment.items():
        environment[name] = value.format(**side.places, port=port)
    return environment


def on_port(command: str, declared: int, port: int) -> str:
    """Return the launch command on another port; ``$PORT`` and settings are the environment's."""
    command = re.sub(r"\b0\.0\.0\.0\b", "127.0.0.1", command)
    return re.sub(rf"(?<![-:]){declared}\b|(?<=[0-9]:){declared}\b", str(port), command)


def prepare(case: Case, side: Side) -> None:
    """Run what the service needs before its first start: tables, a trained model."""
    environment = surroundings(case, side)
    for command in case.service.prepare:
        subprocess.run(
            command,
            shell=True,
            check=True,
            cwd=side.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
        )


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_UP
    while True:
        try:
            if httpx.get(url, timeout=5).status_code < 500:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{url} does not answer:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)


def stop(process: subprocess.Popen[Any]) -> None:
    """End the whole session of the server: a reloader and workers are processes of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


@contextmanager
def upstream(delay: int) -> Iterator[str]:
    """Run the upstream; give its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.serving.upstream", str(port), str(delay)]
    process = subprocess.Popen(command, cwd=CHECKOUT, start_new_session=True)
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(base, process, Path(os.devnull))
        yield base
    finally:
        stop(process)
