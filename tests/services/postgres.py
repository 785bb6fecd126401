"""A PostgreSQL server of a test's own: on loopback, in a folder that goes with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.services.programs import free_port, require, unprivileged

START_UP = 60  # seconds; a loaded machine takes a few


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """A running server; its only user is ``test``, who needs no password."""

    folder: Path
    port: int
    control: str
    max_connections: int

    @property
    def url(self) -> str:
        """The URL of the database ``postgres``."""
        return f"postgresql://test@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server, and return when it accepts connections."""
        options = (
            f"-p {self.port} -h 127.0.0.1 -k '' -N {self.max_connections} -c fsync=off "
            "-c synchronous_commit=off -c superuser_reserved_connections=1"
        )
        log = str(self.folder / "log")
        self._control("start", "-w", "-t", str(START_UP), "-l", log, "-o", options)

    def stop(self) -> None:
        """Break all connections and stop the server."""
        self._control("stop", "-m", "fast", "-w")

    def restart(self) -> None:
        """Stop and start: what an upgrade or a failover looks like to a client."""
        self.stop()
        self.start()

    def clients(self, condition: str = "TRUE") -> int:
        """Count the connections of clients of which ``condition`` holds, in pg_stat_activity."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                f"AND pid <> pg_backend_pid() AND {condition}".encode()
            ).fetchone()
        assert row is not None
        return int(row[0])

    def _control(self, action: str, *options: str) -> None:
        _run([self.control, action, "-D", str(self.folder / "data"), *options], self.folder)


@contextmanager
def postgresql(max_connections: int = 100) -> Iterator[PostgreSQL]:
    """Run a server; skips where PostgreSQL is not installed."""
    initialise, control, _ = require("initdb", "pg_ctl", "postgres")
    # Not below pytest's own folders: those are closed to other users than root.
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    user = unprivileged()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = PostgreSQL(folder, free_port(), control, max_connections)
    try:
        data = str(folder / "data")
        arguments = ["-D", data, "-U", "test", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
        _run([initialise, *arguments], folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str], folder: Path) -> None:
    user = unprivileged()
    # Output goes to a file: the server would inherit a pipe and keep it open.
    with tempfile.TemporaryFile() as output:
        ended = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            timeout=2 * START_UP,
        )
        output.seek(0)
        assert ended.returncode == 0, output.read().decode(errors="replace")
