"""A service that was rewritten, and an upstream that sees connections, cookies and users."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WAIT = 60  # seconds; a loaded machine takes a few


def rewritten(folder: Path, files: Mapping[str, str], rule: str) -> Path:
    """Write ``files`` into ``folder`` as a repository, and let ``rule`` rewrite them."""
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "Service"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    command = ["optimize", str(folder), "--select", rule, "--offline", "--sizes", "off"]
    subprocess.run([sys.executable, "-m", "mega_optimizer", *command], check=True)
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=folder, check=True, capture_output=True
    )
    assert changed.stdout, f"{rule} changed nothing"
    return folder


@dataclass(slots=True)
class Upstream:
    """What a server has seen: connections opened and closed, cookies, users, requests."""

    port: int = 0
    opened: int = 0
    cookies: list[str | None] = field(default_factory=list)
    users: list[str | None] = field(default_factory=list)
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.seen.opened += 1
        self.server.connections.append(self.connection)

    def finish(self) -> None:
        super().finish()
        self.server.seen.closed.release()

    def do_GET(self) -> None:
        seen = self.server.seen
        seen.cookies.append(self.headers.get("Cookie"))
        seen.users.append(self.headers.get("X-User"))
        seen.arrived.release()
        if self.path == "/slow":
            seen.release.wait(WAIT)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.send_header("Set-Cookie", "user=somebody")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, seen: Upstream) -> None:
        super().__init__(("127.0.0.1", seen.port), _Handler)
        self.seen = seen
        self.connections: list[socket.socket] = []
        seen.port = self.server_port

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that goes away is no error here."""


@contextmanager
def answering(seen: Upstream) -> Iterator[Upstream]:
    """Serve at the port of ``seen``, or a free one."""
    server = _Server(seen)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        seen.release.set()
        server.shutdown()
        server.server_close()
        for each in server.connections:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
