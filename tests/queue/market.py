"""A rewritten service with a queue, its worker and the market that its jobs ask, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from uv import find_uv_bin

from mega_optimizer.engine.resolve import child_environment
from mega_optimizer.examples import read_example
from tests.services.programs import free_port
from tests.services.redis import Redis, redis_server

EXAMPLE = (
    Path(__file__).resolve().parents[2]
    / "rules/queue/redis-task-queue/examples/three-kinds-of-work.txtar"
)
PATIENCE = 120  # seconds; a loaded machine takes a few


@dataclass
class Market:
    """What jobs ask: it counts, and while ``gate`` is closed it answers nobody."""

    port: int
    status: int = 200
    calls: list[tuple[str, object]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def await_call(self) -> None:
        """Return when one more job has asked."""
        assert self.arrived.acquire(timeout=PATIENCE), "no job asked"

    def fresh(self) -> None:
        """Forget what was asked, and answer as at first."""
        self.status = 200
        self.calls.clear()
        self.gate.set()
        while self.arrived.acquire(blocking=False):
            pass


@contextmanager
def market() -> Iterator[Market]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            about.calls.append((self.path, json.loads(body) if body else None))
            about.arrived.release()
            about.gate.wait(PATIENCE)
            self.send_response(about.status)
            self.end_headers()
            with suppress(OSError):  # who asked may have been killed
                self.wfile.write(b"[1.0, 2.0, 6.0]")

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    about = Market(server.server_port)
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
    """The rewritten service: its folder, and the interpreter that has what it declares."""

    folder: Path
    python: Path

    def copy(self, folder: Path, *changes: tuple[str, str]) -> Checkout:
        """Return a copy in whose queue module each old text reads as the new one."""
        subprocess.run(["cp", "-r", self.folder, folder], check=True)
        module = folder / "app" / "job_queue.py"
        text = module.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        module.write_text(text)
        return Checkout(folder, self.python)


def rewritten_service(folder: Path) -> Checkout:
    """Write the example as the rule leaves it, and install what it then declares."""
    service, environment = folder / "service", folder / "venv"
    example = read_example(EXAMPLE)
    for path, content in {**example.before, **example.after}.items():
        (service / path).parent.mkdir(parents=True, exist_ok=True)
        (service / path).write_bytes(content)
    uv, python = find_uv_bin(), environment / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, environment], check=True)
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


@dataclass
class Stack:
    """The service, one worker, and the Redis between them."""

    checkout: Checkout
    market: Market
    redis: Redis
    url: str = ""
    worker: subprocess.Popen[bytes] | None = None

    def post(self, path: str, body: object = None) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=PATIENCE)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=PATIENCE)

    def status(self, job: httpx.Response, below: str) -> str:
        """Return the status of the job that an answer names."""
        answer = self.get(f"{below}/jobs/{job.headers['X-Job-Id']}")
        return str(answer.json()["status"]) if answer.status_code == 200 else answer.text

    def await_status(self, job: httpx.Response, below: str, wanted: str) -> None:
        self.await_(lambda: self.status(job, below) == wanted, f"never {wanted}")

    def await_(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{complaint}\n{self.log('worker')}"

    def log(self, name: str) -> str:
        return (self.checkout.folder / f"{name}.log").read_text(errors="replace")

    def children(self) -> list[int]:
        """Return the processes that run the jobs of the worker."""
        assert self.worker is not None
        path = Path(f"/proc/{self.worker.pid}/task/{self.worker.pid}/children")
        return [int(each) for each in path.read_text().split()]

    def kill_job(self) -> None:
        """Kill the process that runs the job, as a kernel without memory does."""
        os.kill(self.children()[-1], signal.SIGKILL)

    def start_worker(self) -> None:
        command = ("-m", "celery", "-A", "app.job_queue", "worker", "--concurrency", "1")
        self.worker = self._start("worker", *command)

    def stop_worker(self) -> None:
        if self.worker is not None and self.worker.poll() is None:
            os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait()
        self.worker = None

    def _start(self, name: str, *command: str, queue: bool = True) -> subprocess.Popen[bytes]:
        environment = {
            **child_environment(os.environ),
            "MARKET_URL": self.market.url,
            "STORE_URL": self.redis.url.replace("/0", "/1"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"REDIS_URL": self.redis.url} if queue else {}),
        }
        with (self.checkout.folder / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                [self.checkout.python, *command],
                cwd=self.checkout.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @contextmanager
    def serving(self, *, queue: bool = True) -> Iterator[None]:
        """Run the service, with or without a queue."""
        port = free_port()
        command = ("-m", "uvicorn", "app.main:app", "--port", str(port))
        process = self._start("service", *command, queue=queue)
        before, self.url = self.url, f"http://127.0.0.1:{port}"
        try:
            self.await_(lambda: _answers(self.url), "the service does not start")
            yield
        finally:
            process.kill()
            process.wait()
            self.url = before


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def running(checkout: Checkout) -> Iterator[Stack]:
    """Run the service and a worker."""
    with ExitStack() as stack:
        about = stack.enter_context(market())
        found = Stack(checkout, about, stack.enter_context(redis_server()))
        stack.callback(found.stop_worker)
        found.start_worker()
        stack.enter_context(found.serving())
        yield found
