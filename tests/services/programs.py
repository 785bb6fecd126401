"""Find the programs of servers, and run them without root."""

from __future__ import annotations

import fcntl
import os
import pwd
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

PAUSE = 0.02  # seconds between two looks
# Debian keeps the programs of PostgreSQL outside of PATH.
OUTSIDE_OF_PATH = "/usr/lib/postgresql/*/bin"


def require(*names: str) -> list[str]:
    """Return the paths of programs; skip, loudly, where one is missing. In CI that is a failure."""
    found = [_program(name) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if not missing:
        return [path for path in found if path is not None]
    message = f"{', '.join(missing)} not found: nothing is tested against a real server"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def _program(name: str) -> str | None:
    root = Path("/")
    folders = sorted(root.glob(f"{OUTSIDE_OF_PATH.lstrip('/')}/{name}"), reverse=True)
    return str(folders[0]) if folders else shutil.which(name)


def unprivileged() -> pwd.struct_passwd | None:
    """Return the user to run a server as that refuses root; None where this is not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("this is root, and neither postgres nor nobody exists to run a server as")


# Below the ports that Linux gives to clients.
PORTS = range(20_000, 32_000)
_held: list[TextIO] = []


def until(condition: Callable[[], bool], complaint: Callable[[], str], patience: float) -> None:
    """Return when ``condition`` holds; fail with ``complaint`` after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, complaint()
        time.sleep(PAUSE)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on, for this process alone.

    A service may start long after its port was chosen: a lock keeps the other processes of the
    tests from choosing it as well.
    """
    folder = Path(tempfile.gettempdir()) / "mega-optimizer-ports"
    folder.mkdir(exist_ok=True)
    for port in random.sample(PORTS, len(PORTS)):
        lock = (folder / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        _held.append(lock)
        return port
    raise AssertionError("no port is free")
