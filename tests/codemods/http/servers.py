"""A service that was rewritten, under real uvicorn, and an upstream that counts what it sees."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from uv import find_uv_bin

from mega_optimizer.engine.resolve import child_environment

WAIT = 60  # seconds; a loaded machine takes a few


def installed(folder: Path, *requirements: str) -> Path:
    """Make a virtual environment in ``folder`` and return its interpreter."""
    uv, python = find_uv_bin(), folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, *requirements],
        env=child_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"the package index does not answer: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return python


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
def serving(seen: Upstream) -> Iterator[Upstream]:
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


@dataclass(slots=True)
class Service:
    """A running service and what it has written so far."""

    client: httpx.Client
    process: subprocess.Popen[str]
    output: list[str]

    def stop(self) -> str:
        """Ask it to stop, wait for its end, and return all that it wrote."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        self.output += self.process.stderr.readlines()
        self.process.wait(WAIT)
        return "".join(self.output)


@contextmanager
def uvicorn(
    python: Path, folder: Path, environment: Mapping[str, str], *options: str
) -> Iterator[Service]:
    """Run ``app.main:app`` of ``folder``, and yield it when it accepts requests."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        command = [
            str(python),
            "-m",
            "uvicorn",
            "app.main:app",
            "--fd",
            str(bound.fileno()),
            *options,
        ]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**child_environment(os.environ), **environment, "PYTHONASYNCIODEBUG": "0"},
            pass_fds=(bound.fileno(),),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
    assert process.stderr is not None
    output: list[str] = []
    for line in process.stderr:
        output.append(line)
        if "Uvicorn running on" in line:
            break
    try:
        assert process.poll() is None, "".join(output)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT) as client:
            yield Service(client, process, output)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
