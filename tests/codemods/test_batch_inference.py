"""Services whose routes share calls of a model: real servers, requests at the same time."""

from __future__ import annotations

import fcntl
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.rewritten import written
from tests.services.serving import START_UP, Serving, serving

# stands in for the model: it doubles, refuses rows below zero, and is held up by a lock on a file
JOBLIB = """
import fcntl

class Model:
    def predict(self, rows):
        with open("calls", "a") as calls:
            calls.write(f"{len(rows)}\\n")
        with open("gate") as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)
        if any(row[0] < 0 for row in rows):
            raise ValueError("no flower is that small")
        return tuple(row[0] * 2 for row in rows)

def load(path):
    return Model()
"""
WAITING = """

@app.get("/waiting")
async def waiting():
    {how}
"""
COMMAND = ("-m", "uvicorn", "main:app", "--port", "{port}")
Change = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of route: its example, its batcher, how many wait in it, how it is asked."""

    example: str
    batcher: str
    waiting: str
    request: Callable[[float], dict[str, Any]]


ASYNC = Kind(
    "module-level",
    "micro_batcher.py",
    "return sum(len(each.waiting) for each in _shared_predict._lines.values())",
    lambda size: {"json": {"sepal": size, "petal": 1}},
)
THREADS = Kind(
    "thread-route",
    "thread_batcher.py",
    "return len(_shared_predict._waiting)",
    lambda size: {"params": {"sepal": size, "petal": 1}},
)


@dataclass(slots=True)
class Flowers:
    """A service that serves, and those who ask it."""

    kind: Kind
    folder: Path
    running: Serving
    callers: ThreadPoolExecutor

    def ask(self, size: float) -> Future[httpx.Response]:
        return self.callers.submit(self.running.client.post, "/predict", **self.kind.request(size))

    def calls(self) -> list[int]:
        return [int(each) for each in (self.folder / "calls").read_text().split()]

    def are_waiting(self, count: int) -> None:
        until(lambda: self.running.client.get("/waiting").json() == count)

    @contextmanager
    def held(self) -> Iterator[Future[httpx.Response]]:
        """Hold the model up while it is at a first request."""
        (self.folder / "calls").write_text("")
        with (self.folder / "gate").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            first = self.ask(100)
            until(lambda: self.calls() == [1])
            yield first


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_UP
    while not holds():
        assert time.monotonic() < deadline


@contextmanager
def flowers(kind: Kind, tmp_path: Path, *changes: Change, side: int = 1) -> Iterator[Flowers]:
    folder = written("ml/batch-inference", kind.example, tmp_path)[side]
    (folder / "joblib.py").write_text(JOBLIB)
    (folder / "gate").touch()
    (folder / "calls").touch()
    if side:
        main, batcher = folder / "main.py", folder / kind.batcher
        main.write_text(main.read_text() + WAITING.format(how=kind.waiting))
        for old, new in changes:
            assert old in batcher.read_text()
            batcher.write_text(batcher.read_text().replace(old, new))
    with ThreadPoolExecutor(16) as callers, serving(folder, {}, COMMAND) as running:
        yield Flowers(kind, folder, running, callers)


SIZES = (1.5, 2, -1, 3, 4, 5, 6, 7)


def told(answer: httpx.Response) -> tuple[int, object]:
    return answer.status_code, json.loads(answer.content) if answer.is_success else answer.text


@pytest.fixture(params=[ASYNC, THREADS], ids=["async", "threads"], scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def service(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flowers]:
    """A service in which eight may wait."""
    folder = tmp_path_factory.mktemp("flowers")
    with flowers(kind, folder, ("MAX_WAITING = 1024", "MAX_WAITING = 8")) as found:
        yield found


def test_answers_are_those_that_requests_got_one_after_another(
    service: Flowers, tmp_path: Path
) -> None:
    with flowers(service.kind, tmp_path, side=0) as original:
        wanted = [told(original.ask(size).result()) for size in SIZES]
    with service.held() as first:
        asked = [service.ask(size) for size in SIZES]
        service.are_waiting(len(SIZES))
    assert told(first.result()) == (200, {"species": "200.0"})
    assert [told(each.result()) for each in asked] == wanted
    assert [status for status, _ in wanted].count(500) == 1
    # together, and each on its own for the sake of the bad one
    assert service.calls() == [1, 8, *([1] * 8)]


def test_requests_share_one_call(service: Flowers) -> None:
    with service.held() as first:
        asked = [service.ask(size) for size in range(1, 9)]
        service.are_waiting(8)
    assert [each.result().json()["species"] for each in asked] == [
        f"{2.0 * size}" for size in range(1, 9)
    ]
    assert first.result().status_code == 200
    assert service.calls() == [1, 8]


def test_who_hangs_up_harms_nobody(service: Flowers) -> None:
    with service.held() as first:
        request = service.running.client.build_request(
            "POST", "/predict", **service.kind.request(9)
        )
        head = f"POST {request.url.raw_path.decode()} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in request.headers.items()
        )
        with socket.create_connection(("127.0.0.1", service.running.port)) as caller:
            caller.sendall(head.encode() + b"\r\n" + request.read())
            service.are_waiting(1)
        asked = [service.ask(size) for size in (1, 2)]
        service.are_waiting(3)
    assert [each.result().json()["species"] for each in asked] == ["2.0", "4.0"]
    assert first.result().status_code == 200
    assert service.ask(3).result().json() == {"species": "6.0"}


def test_too_many_are_answered_503(service: Flowers) -> None:
    with service.held() as first:
        asked = [service.ask(size) for size in range(1, 9)]
        service.are_waiting(8)
        refused = service.ask(3).result()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert [each.result().status_code for each in (first, *asked)] == [200] * 9
    assert service.ask(3).result().json() == {"species": "6.0"}


def test_a_server_that_stops_answers_those_who_wait(kind: Kind, tmp_path: Path) -> None:
    with flowers(kind, tmp_path) as service:
        with service.held() as first:
            asked = [service.ask(size) for size in (1, 2, 3)]
            service.are_waiting(3)
            service.running.process.terminate()
            service.running.await_log("Shutting down")
        found = [each.result().json()["species"] for each in (first, *asked)]
        assert found == ["200.0", "2.0", "4.0", "6.0"]
        assert service.running.process.wait(START_UP) in (0, -15)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (ASYNC, "request.answer.set_result(part)", "request.answer.set_result(parts[0])"),
        (THREADS, "request.answer.set_result(part)", "request.answer.set_result(parts[0])"),
    ],
)
def test_a_broken_batcher_is_seen(kind: Kind, old: str, new: str, tmp_path: Path) -> None:
    with flowers(kind, tmp_path, (old, new)) as service:
        with service.held():
            asked = [service.ask(size) for size in (1, 2, 3)]
            service.are_waiting(3)
        found = [each.result().json()["species"] for each in asked]
        assert (found, service.calls()) != (["2.0", "4.0", "6.0"], [1, 3])
