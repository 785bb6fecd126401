"""The generated queue at work: real Redis, real Celery, real uvicorn, jobs that can be held.

Each check is a function, so that the last test can show that it fails where the generated code is
broken in the way that it is there to see.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.queue.market import Stack, rewritten_service, running
from tests.services.rewritten import Checkout, answers

ALERT = {"symbol": "BTC", "limit": "70000.10", "direction": "above", "channels": ["mail", "app"]}
QUEUE = "app/job_queue.py"
SOONER = ("RETRIES = 3", "RETRIES = 1")  # the pauses between attempts double


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return rewritten_service(tmp_path_factory.mktemp("prices"))


@pytest.fixture(scope="module")
def started(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    copy = checkout.copy(tmp_path_factory.mktemp("running") / "service", QUEUE, SOONER)
    with running(copy) as stack:
        yield stack


@pytest.fixture
def stack(started: Stack) -> Stack:
    started.market.fresh()
    if started.worker is None or started.worker.poll() is not None:
        started.start_worker()
    return started


def check_a_job_runs_and_tells_how_far_it_is(stack: Stack) -> None:
    stack.market.gate.clear()
    answer = stack.post("/prices/BTC/refresh?days=7")
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    stack.market.await_call()
    assert stack.status(answer, "/prices") == "running"
    waiting = stack.post("/prices/ETH/refresh")  # the worker has one process
    assert stack.status(waiting, "/prices") == "queued"
    stack.market.gate.set()
    stack.await_status(answer, "/prices", "succeeded")
    stack.await_status(waiting, "/prices", "succeeded")
    assert stack.get("/prices/btc").json() == {"average": 3.0}
    assert stack.market.calls == [("/prices/btc?days=7", None), ("/prices/eth?days=30", None)]


def check_models_and_coroutines_arrive(stack: Stack) -> None:
    answer = stack.post("/alerts", ALERT)
    stack.await_status(answer, "/alerts", "succeeded")
    ((path, body),) = stack.market.calls
    assert path == "/alerts"
    assert isinstance(body, dict)
    text = body["text"].partition(" since 2")[0]
    assert (body["id"], text) == (answer.json()["id"], "BTC above 70000.10")
    assert body["channels"] == ["mail", "app"]
    answer = stack.post("/alerts/digest?recipient=ann")
    assert (answer.status_code, answer.json()) == (200, {"status": "started"})
    stack.await_status(answer, "/alerts", "succeeded")
    assert stack.market.calls[1:] == [("/digests", {"to": "ann"})]


def check_what_can_be_repeated_is_tried_again(stack: Stack) -> None:
    stack.market.status = 500
    refresh, alert = stack.post("/prices/BTC/refresh"), stack.post("/alerts", ALERT)
    stack.await_status(refresh, "/prices", "failed")
    stack.await_status(alert, "/alerts", "failed")
    asked = sorted(path for path, _ in stack.market.calls)
    assert asked == ["/alerts", "/prices/btc?days=30", "/prices/btc?days=30"]


def check_a_lost_job_goes_to_another_process(stack: Stack) -> None:
    stack.market.gate.clear()
    answer = stack.post("/prices/BTC/refresh")
    stack.market.await_call()
    stack.kill_job()
    stack.market.await_call()
    stack.market.gate.set()
    stack.await_status(answer, "/prices", "succeeded")


def check_a_job_that_ends_every_process_fails(stack: Stack) -> None:
    stack.market.gate.clear()
    answer = stack.post("/prices/BTC/refresh")
    for _ in range(3):
        stack.market.await_call()
        stack.kill_job()
    stack.await_status(answer, "/prices", "failed")
    assert len(stack.market.calls) == 3


def check_what_cannot_be_repeated_is_started_once(stack: Stack) -> None:
    stack.market.gate.clear()
    answer = stack.post("/alerts", ALERT)
    stack.market.await_call()
    stack.kill_job()
    stack.await_status(answer, "/alerts", "failed")
    stack.market.gate.set()
    stack.await_status(stack.post("/prices/BTC/refresh"), "/prices", "succeeded")
    assert [path for path, _ in stack.market.calls] == ["/alerts", "/prices/btc?days=30"]


def check_without_redis_the_route_says_so_and_recovers(stack: Stack) -> None:
    before = stack.post("/prices/BTC/refresh")
    stack.await_status(before, "/prices", "succeeded")
    stack.redis.stop()
    for path in ("/prices/BTC/refresh", "/alerts/digest?recipient=ann"):
        answer = stack.post(path)
        assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "5")
    status = stack.get(f"/prices/jobs/{before.headers['X-Job-Id']}")
    assert status.status_code == 503
    stack.redis.start()
    stack.await_(lambda: stack.post("/prices/ETH/refresh").status_code == 202, "no recovery")
    stack.await_status(stack.post("/prices/BTC/refresh"), "/prices", "succeeded")


def check_a_redis_that_is_too_slow_is_away(stack: Stack) -> None:
    with redis.Redis(port=stack.redis.port) as control:
        control.client_pause(60_000, all=False)  # whoever writes waits
        answer = stack.post("/prices/BTC/refresh")
        control.client_unpause()
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "5")
    stack.await_status(stack.post("/prices/BTC/refresh"), "/prices", "succeeded")


def check_a_redis_that_is_full_is_away(stack: Stack) -> None:
    with redis.Redis(port=stack.redis.port) as control:
        control.config_set("maxmemory", 1)
        answer = stack.post("/prices/BTC/refresh")
        control.config_set("maxmemory", 0)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "5")
    stack.await_status(stack.post("/prices/BTC/refresh"), "/prices", "succeeded")


CHECKS = [each for name, each in sorted(globals().items()) if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_generated_queue(stack: Stack, check: Callable[[Stack], None]) -> None:
    check(stack)


def test_nobody_knows_other_jobs(stack: Stack) -> None:
    assert stack.get("/prices/jobs/6f1d6e9c-0f0c-4b7a-9a55-3c6f0f7f3c11").status_code == 404
    assert stack.get("/prices/jobs/celery").status_code == 422


def test_without_a_queue_jobs_run_where_they_did(stack: Stack) -> None:
    with stack.serving("") as client:
        answer = client.post("/prices/BTC/refresh")
        stack.market.await_call()
        assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
        assert "X-Job-Id" not in answer.headers
        client.post("/alerts/digest?recipient=ann")
        stack.market.await_call()
        path = "/prices/jobs/6f1d6e9c-0f0c-4b7a-9a55-3c6f0f7f3c11"
        assert client.get(path).status_code == 404
    assert [path for path, _ in stack.market.calls] == ["/prices/btc?days=30", "/digests"]


FORKS = """
import os
from fastapi.testclient import TestClient
from app.main import app

for number in range(8):
    if os.fork() == 0:
        with TestClient(app) as client:
            answer = client.post(f"/prices/S{number}/refresh")
            status = client.get(f"/prices/jobs/{answer.headers['X-Job-Id']}").json()["status"]
        os.write(1, f"{json.dumps([answer.status_code, status])}\\n".encode())
        os._exit(0)
for _ in range(8):
    os.wait()
"""


def test_each_forked_process_has_a_queue(stack: Stack) -> None:
    stack.market.gate.clear()
    environment = stack.environment(stack.redis.url)
    found = answers(stack.checkout.folder, FORKS, environment, stack.checkout.python)
    assert [status for status, _ in found] == [202] * 8
    assert {status for _, status in found} <= {"queued", "running"}
    stack.market.gate.set()
    for _ in range(8):
        stack.market.await_call()
    assert len({path for path, _ in stack.market.calls}) == 8


def test_a_worker_that_is_asked_to_end_finishes_its_job(stack: Stack) -> None:
    stack.market.gate.clear()
    answer = stack.post("/alerts", ALERT)
    stack.market.await_call()
    assert stack.worker is not None
    stack.worker.send_signal(signal.SIGTERM)
    stack.await_(lambda: "Warm shutdown" in stack.log(), "the signal is not seen")
    stack.market.gate.set()
    assert stack.worker.wait(stack.market.patience) == 0
    assert stack.status(answer, "/alerts") == "succeeded"


MUTATIONS = [
    ("celery.backend.store_result(job_id, None, QUEUED)", "pass",
     check_a_job_runs_and_tells_how_far_it_is),
    ("bound.arguments[name] = kind.model_validate(value)", "pass",
     check_models_and_coroutines_arrive),
    ('"autoretry_for": (Exception,),', '"autoretry_for": (),',
     check_what_can_be_repeated_is_tried_again),
    ('"reject_on_worker_lost": True,', '"reject_on_worker_lost": False,',
     check_a_job_that_ends_every_process_fails),
    ("AWAY = (OperationalError, RedisError, OSError)", "AWAY = (ZeroDivisionError,)",
     check_a_redis_that_is_full_is_away),
]  # fmt: skip


@pytest.fixture(scope="module")
def broken(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    copy = checkout.copy(
        tmp_path_factory.mktemp("broken") / "service",
        QUEUE,
        *((old, new) for old, new, _ in MUTATIONS),
    )
    with running(copy) as stack:
        stack.market.patience = 3
        yield stack


@pytest.mark.parametrize(
    "check", [check for *_, check in MUTATIONS], ids=[old[:30] for old, *_ in MUTATIONS]
)
def test_check_sees_a_broken_queue(broken: Stack, check: Callable[[Stack], None]) -> None:
    broken.market.fresh()
    with pytest.raises((AssertionError, KeyError)):
        check(broken)
