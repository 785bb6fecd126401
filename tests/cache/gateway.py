"""The sample's api-gateway with its cache, as processes, before an upstream that can be held."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from uv import find_uv_bin

from mega_optimizer.engine.resolve import child_environment
from tests.services.programs import free_port
from tests.test_sample_repository import copy_of_the_sample, optimize

START_UP = 60  # seconds


@dataclass
class Upstream:
    """Counts what it is asked; while ``held``, it answers nobody."""

    port: int
    status: int = 200
    calls: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def upstream() -> Iterator[Upstream]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            about.calls.append(self.path)
            about.arrived.release()
            about.gate.wait(30)
            body = json.dumps({"path": self.path, "call": len(about.calls)}).encode()
            self.send_response(about.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    about = Upstream(server.server_port)
    about.gate.set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield about
    finally:
        about.gate.set()
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, slots=True)
class Checkout:
    """The rewritten gateway: its folder, and the interpreter that has what it declares."""

    folder: Path
    python: Path

    def copy(self, folder: Path, old: str = "", new: str = "") -> Checkout:
        """Return a copy in which ``old`` of the generated module reads ``new``."""
        subprocess.run(["cp", "-r", self.folder, folder], check=True)
        module = folder / "app" / "response_cache.py"
        text = module.read_text()
        assert old in text
        module.write_text(text.replace(old, new))
        return Checkout(folder, self.python)


def rewritten_gateway(folder: Path) -> Checkout:
    """Rewrite the sample with the rule and install what its api-gateway then declares."""
    copy = copy_of_the_sample(folder)
    optimize(copy, "safe", "--select", "cache/redis-response")
    service = copy / "services" / "api-gateway"
    assert (service / "app" / "response_cache.py").exists()
    uv, environment = find_uv_bin(), folder / "venv"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    done = subprocess.run(
        [uv, "pip", "install", "-q", "--python", python, "-r", service / "requirements.txt"],
        env=child_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"the package index does not answer: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return Checkout(service, python)


@dataclass(frozen=True, slots=True)
class Gateway:
    """One running process of the gateway."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """Ask it to end, as a container runtime does."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def gateway(checkout: Checkout, elsewhere: Upstream, redis_url: str) -> Iterator[Gateway]:
    """Run the gateway on a port of its own."""
    port = free_port()
    log = checkout.folder / f"{port}.log"
    environment = {
        **child_environment(os.environ),
        "PREDICTION_URL": elsewhere.url,
        "ORCHESTRATOR_URL": elsewhere.url,
        "REDIS_URL": redis_url,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [checkout.python, "-m", "uvicorn", "app.main:app", "--port", str(port)],
            cwd=checkout.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + START_UP
    try:
        while not _accepts(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        yield Gateway(f"http://127.0.0.1:{port}", process, log)
    finally:
        process.kill()
        process.wait()


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


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


def redis_command(port: int, *words: str) -> str:
    """Return what redis-cli prints for a command."""
    done = subprocess.run(
        ["redis-cli", "-p", str(port), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
