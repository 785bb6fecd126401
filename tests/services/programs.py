"""Find the programs of servers, and run them without root."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from pathlib import Path

import pytest

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


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
