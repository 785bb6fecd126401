"""A Redis server of a test's own: on loopback, nothing kept."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.services.programs import free_port, require, until

START_UP = 30  # seconds


@dataclass(slots=True)
class Redis:
    """A running server without a password. ``options`` are lines of its configuration."""

    program: str
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, and return when it accepts connections."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [self.program, *arguments, *self.options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        process = self.process
        until(
            lambda: self._answers() or process.poll() is not None,
            lambda: "redis-server does not answer",
            START_UP,
        )
        assert process.poll() is None, "redis-server ended"

    def stop(self) -> None:
        """Stop the server at once; its connections break."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Stop and start; all data is lost."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


@contextmanager
def redis_server(*options: str) -> Iterator[Redis]:
    """Run a server; skips where Redis is not installed."""
    (program,) = require("redis-server")
    server = Redis(program, free_port(), options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def stalled_server() -> Iterator[tuple[int, list[socket.socket]]]:
    """Accept connections and never say a word: a server that is too slow for anybody."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                accepted.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], accepted
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for each in accepted:
            each.close()
