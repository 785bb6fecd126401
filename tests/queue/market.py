"""A rewritten service with a queue, its worker and the market that its jobs ask, as processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from mega_optimizer.engine.resolve import child_environment
from tests.services.environment import installed
from tests.services.programs import until
from tests.services.redis import Redis, redis_server
from tests.services.rewritten import Checkout, written
from tests.services.serving import serving
from tests.services.upstream import Upstream, upstream

RULE = "queue/redis-task-queue"
PRICES = [1.0, 2.0, 6.0]


def rewritten_service(folder: Path) -> Checkout:
    """Write the example as the rule leaves it, and install what it then declares."""
    _, service = written(RULE, "three-kinds-of-work", folder)
    return Checkout(service, installed(folder / "venv", service / "requirements.txt"))


@dataclass
class Stack:
    """The service, one worker, and the Redis between them."""

    checkout: Checkout
    market: Upstream
    redis: Redis
    client: httpx.Client = field(init=False)
    worker: subprocess.Popen[bytes] | None = None

    def post(self, path: str, body: object = None) -> httpx.Response:
        return self.client.post(path, json=body)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def status(self, job: httpx.Response, below: str) -> str:
        """Return the status of the job that an answer names."""
        answer = self.get(f"{below}/jobs/{job.headers['X-Job-Id']}")
        return str(answer.json()["status"]) if answer.status_code == 200 else answer.text

    def await_status(self, job: httpx.Response, below: str, wanted: str) -> None:
        self.await_(lambda: self.status(job, below) == wanted, f"never {wanted}")

    def await_(self, condition: Callable[[], bool], complaint: str) -> None:
        until(condition, lambda: f"{complaint}\n{self.log()}", self.market.patience)

    @property
    def _log(self) -> Path:
        return self.checkout.folder / "worker.log"

    def log(self) -> str:
        """Return what the worker has written."""
        return self._log.read_text(errors="replace")

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
        with self._log.open("ab") as output:
            self.worker = subprocess.Popen(
                [self.checkout.python, *command],
                cwd=self.checkout.folder,
                env={**child_environment(os.environ), **self.environment(self.redis.url)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop_worker(self) -> None:
        if self.worker is not None and self.worker.poll() is None:
            os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait()
        self.worker = None

    def environment(self, redis_url: str) -> dict[str, str]:
        """Return what tells the service where the market, its store and its queue are."""
        return {
            "MARKET_URL": self.market.url,
            "STORE_URL": self.redis.url.replace("/0", "/1"),
            "REDIS_URL": redis_url,
        }

    @contextmanager
    def serving(self, redis_url: str) -> Iterator[httpx.Client]:
        """Run the service with the queue at ``redis_url``; without any where that is empty."""
        environment = self.environment(redis_url)
        with serving(self.checkout.folder, environment, python=self.checkout.python) as running:
            yield running.client


@contextmanager
def running(checkout: Checkout) -> Iterator[Stack]:
    """Run the service and a worker."""
    with ExitStack() as stack:
        market = stack.enter_context(upstream(PRICES))
        found = Stack(checkout, market, stack.enter_context(redis_server()))
        stack.callback(found.stop_worker)
        found.start_worker()
        found.client = stack.enter_context(found.serving(found.redis.url))
        yield found
