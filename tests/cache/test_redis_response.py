"""The generated cache at work: real Redis, real uvicorn, an upstream that can be held.

Each check is a function, so that the last test can show that it fails where the generated code is
broken in the way that it is there to see.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mega_optimizer.engine.resolve import child_environment
from tests.cache.gateway import gateway, redis_command, rewritten_gateway
from tests.services.programs import free_port, until
from tests.services.redis import redis_server, stalled_server
from tests.services.rewritten import Checkout
from tests.services.upstream import upstream

PREDICTIONS = "/api/v1/predictions"
KEY = "cache:api-gateway:/api/v1/predictions"
CROWD = 50


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return rewritten_gateway(tmp_path_factory.mktemp("gateway"))


def said(response: httpx.Response) -> tuple[int, str | None]:
    return response.status_code, response.headers.get("x-cache")


def check_hit_and_miss(checkout: Checkout) -> None:
    with redis_server() as redis, upstream() as other, gateway(checkout, other, redis.url) as one:
        first = one.client.get(PREDICTIONS)
        second = one.client.get(PREDICTIONS)
        assert said(first) == (200, "MISS")
        assert said(second) == (200, "HIT")
        assert first.content == second.content
        assert first.headers["content-type"] == second.headers["content-type"]
        assert len(other.calls) == 1
        assert said(one.client.get("/status")) == (200, "MISS")
        assert said(one.client.get("/status")) == (200, "HIT")
        assert "x-cache" not in one.client.get("/health").headers


def check_every_input_is_in_the_key(checkout: Checkout) -> None:
    with redis_server() as redis, upstream() as other, gateway(checkout, other, redis.url) as one:
        url, get = PREDICTIONS, one.client.get
        plain = get(url).json()
        assert get(url, params={"limit": 5}).json() != plain
        assert get(url, params={"limit": 5, "symbol": "btc"}).headers["x-cache"] == "MISS"
        assert get(f"{url}?symbol=btc&limit=5").headers["x-cache"] == "HIT"
        longer = get(url, params={"symbol": "b" * 400})
        assert get(url, params={"symbol": "b" * 399}).json() != longer.json()
        assert len(other.calls) == 5


def check_time_to_live(checkout: Checkout) -> None:
    with redis_server() as redis, upstream() as other, gateway(checkout, other, redis.url) as one:
        one.client.get(PREDICTIONS)
        one.client.get("/status")
        assert 290 <= int(redis_command(redis.port, "ttl", f"{KEY}?")) <= 300
        assert 20 <= int(redis_command(redis.port, "ttl", "cache:api-gateway:/status?")) <= 30
        redis_command(redis.port, "expire", f"{KEY}?", "0")
        assert said(one.client.get(PREDICTIONS)) == (200, "MISS")


def check_single_flight(checkout: Checkout) -> None:
    with redis_server() as redis, upstream() as other, gateway(checkout, other, redis.url) as one:
        other.gate.clear()
        with ThreadPoolExecutor(CROWD) as crowd:
            asked = [crowd.submit(one.client.get, PREDICTIONS, timeout=30) for _ in range(CROWD)]
            other.await_call()
            one.client.get("/health", timeout=30)
            other.gate.set()
            answers = [each.result() for each in asked]
        assert len(other.calls) == 1
        assert {each.content for each in answers} == {answers[0].content}
        assert sorted({str(each.headers["x-cache"]) for each in answers}) == ["HIT", "MISS"]


def check_redis_down_at_start(checkout: Checkout) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with upstream() as other, gateway(checkout, other, url) as one:
        for _ in range(3):
            assert said(one.client.get(PREDICTIONS)) == (200, "BYPASS")
        assert len(other.calls) == 3
        assert "no response cache for" in one.log.read_text()


def check_redis_dies_and_comes_back(checkout: Checkout) -> None:
    with redis_server() as redis, upstream() as other, gateway(checkout, other, redis.url) as one:
        assert said(one.client.get(PREDICTIONS)) == (200, "MISS")
        redis.stop()
        assert said(one.client.get(PREDICTIONS)) == (200, "BYPASS")
        redis.start()
        until(lambda: said(one.client.get(PREDICTIONS)) != (200, "BYPASS"), one.log.read_text, 30)
        assert said(one.client.get(PREDICTIONS)) == (200, "HIT")


def check_slow_redis(checkout: Checkout) -> None:
    with (
        stalled_server() as (port, accepted),
        upstream() as other,
        gateway(checkout, other, f"redis://127.0.0.1:{port}/0") as one,
    ):
        answers = [one.client.get(PREDICTIONS, timeout=4) for _ in range(5)]
        assert {said(each) for each in answers} == {(200, "BYPASS")}
        assert len(accepted) < 5  # one request waited, and the others knew


def check_full_redis(checkout: Checkout) -> None:
    options = ("--maxmemory", "1", "--maxmemory-policy", "noeviction")
    with (
        redis_server(*options) as redis,
        upstream() as other,
        gateway(checkout, other, redis.url) as one,
    ):
        assert said(one.client.get(PREDICTIONS)) == (200, "BYPASS")
        assert said(one.client.get(PREDICTIONS)) == (200, "BYPASS")
        assert len(other.calls) == 2


def check_only_good_answers_are_kept(checkout: Checkout) -> None:
    with redis_server() as redis, upstream() as other, gateway(checkout, other, redis.url) as one:
        for status, expected in ((404, 404), (500, 502), (200, 200)):
            other.status = status
            assert one.client.get(PREDICTIONS).status_code == expected
        assert one.client.get(PREDICTIONS).headers["x-cache"] == "HIT"
        assert len(other.calls) == 3


def check_failed_leader_leaves_others_their_own_call(checkout: Checkout) -> None:
    with redis_server() as redis, upstream() as other, gateway(checkout, other, redis.url) as one:
        other.status = 500
        other.gate.clear()
        with ThreadPoolExecutor(5) as crowd:
            asked = [crowd.submit(one.client.get, PREDICTIONS) for _ in range(5)]
            other.await_call()
            other.gate.set()
            assert {each.result().status_code for each in asked} == {502}


def check_two_processes_share(checkout: Checkout) -> None:
    with (
        redis_server() as redis,
        upstream() as other,
        gateway(checkout, other, redis.url) as one,
        gateway(checkout, other, redis.url) as two,
    ):
        assert said(one.client.get(PREDICTIONS)) == (200, "MISS")
        assert said(two.client.get(PREDICTIONS)) == (200, "HIT")
        assert len(other.calls) == 1


def check_client_that_leaves(checkout: Checkout) -> None:
    with redis_server() as redis, upstream() as other, gateway(checkout, other, redis.url) as one:
        other.gate.clear()
        with ThreadPoolExecutor(1) as crowd:
            with pytest.raises(httpx.ReadTimeout):
                one.client.get(PREDICTIONS, timeout=0.5)
            other.await_call()
            follower = crowd.submit(one.client.get, PREDICTIONS, timeout=30)
            one.client.get("/health")
            other.gate.set()
            assert follower.result().status_code == 200
        assert len(other.calls) == 1


def check_shutdown_in_flight(checkout: Checkout) -> None:
    with redis_server() as redis, upstream() as other, gateway(checkout, other, redis.url) as one:
        other.gate.clear()
        with ThreadPoolExecutor(1) as crowd:
            asked = crowd.submit(one.client.get, PREDICTIONS, timeout=30)
            other.await_call()
            one.process.terminate()
            one.await_log("Shutting down")
            other.gate.set()
            assert said(asked.result()) == (200, "MISS")
        assert one.process.wait(30) in (0, -15)
        assert "Traceback" not in one.log.read_text()
        assert redis_command(redis.port, "exists", f"{KEY}?") == "1"


PREAMBLE = """
import asyncio, os
from fastapi import Request, Response
from app import response_cache as cached

def request(path):
    return Request({"type": "http", "method": "GET", "path": path, "query_string": b"",
                    "headers": [], "server": ("x", 80), "scheme": "http", "root_path": ""})
"""
CANCELLED = """
async def main():
    calls = []
    started, release = asyncio.Event(), asyncio.Event()

    async def handler(request):
        calls.append(request.url.path)
        started.set()
        await release.wait()
        return Response(b"{}", media_type="application/json")

    async with cached.open_response_cache():
        one = asyncio.create_task(cached._cache.answer(request("/a"), handler, 30))
        await started.wait()
        others = [
            asyncio.create_task(cached._cache.answer(request("/a"), handler, 30)) for _ in range(9)
        ]
        await asyncio.sleep(0)
        one.cancel()
        release.set()
        answers = await asyncio.gather(*others)
        assert [each.status_code for each in answers] == [200] * 9, answers
        assert len(calls) == 2, calls  # the cancelled one, and one of those who waited
        assert not cached._cache._flights
        await cached._cache.answer(request("/a/1"), handler, 30)
        await cached._cache.answer(request("/b*"), handler, 30)
        await cached._cache.answer(request("/bc"), handler, 30)
        assert await cached.invalidate("/b*") == 1
        assert await cached.invalidate("/a") == 2
        assert await cached.invalidate("/a") == 0
        assert cached._cache.counts == {"HIT": 8, "MISS": 4}, cached._cache.counts
    assert await cached.invalidate("/a") == 0
    assert cached._cache is None

asyncio.run(main())
"""


def run_in_process(checkout: Checkout, program: str) -> None:
    with redis_server() as redis:
        done = subprocess.run(
            [checkout.python, "-c", PREAMBLE + program],
            cwd=checkout.folder,
            env={**child_environment(os.environ), "REDIS_URL": redis.url},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr


def check_cancelled_leader_and_invalidation(checkout: Checkout) -> None:
    run_in_process(checkout, CANCELLED)


FORKS = """
cached.TIMEOUT = 30.0

async def echo(request):
    return Response(request.url.path, media_type="text/plain")

async def main(number):
    async with cached.open_response_cache():
        for path in (f"/{number}", f"/{number}", "/shared"):
            answer = await cached._cache.answer(request(path), echo, 30)
            assert answer.body.decode() == path, (answer.body, path)
        kept = cached._cache.counts["HIT"]
        assert kept in (1, 2), kept

for number in range(8):
    if os.fork() == 0:
        asyncio.run(main(number))
        os._exit(0)
assert not any(os.wait()[1] for _ in range(8))
"""


def check_eight_forked_processes(checkout: Checkout) -> None:
    run_in_process(checkout, FORKS)


CHECKS = [each for name, each in sorted(globals().items()) if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_generated_cache(checkout: Checkout, check: Callable[[Checkout], None]) -> None:
    check(checkout)


MUTATIONS = [
    ("?{query}", "?", check_every_input_is_in_the_key),
    ("sorted(request.query_params.multi_items(), key=lambda one: one[0])",
     "request.query_params.multi_items()", check_every_input_is_in_the_key),
    ("sha256(query.encode()).hexdigest()", 'query[:LONGEST]', check_every_input_is_in_the_key),
    (", ex=seconds", "", check_time_to_live),
    ("{PREFIX}:{_key(request)}", "{PREFIX}:", check_eight_forked_processes),
    ("(flight := self._flights.get(key)) is not None", "False", check_single_flight),
    ("RedisError, OSError, asyncio.TimeoutError", "ZeroDivisionError,", check_redis_down_at_start),
    ("TIMEOUT = 0.2", "TIMEOUT = 30.0", check_slow_redis),
    ("self._away_until = now + PAUSE", "self._away_until = 0.0", check_slow_redis),
    ("response.status_code != 200", "False", check_only_good_answers_are_kept),
    ("flight.cancel()", "pass", check_cancelled_leader_and_invalidation),
    ("            del self._flights[key]\n", "", check_redis_dies_and_comes_back),
    ('if one in "*?[]\\\\" else one', "if False else one", check_cancelled_leader_and_invalidation),
    ("        _cache = None\n", "", check_cancelled_leader_and_invalidation),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "check"), MUTATIONS, ids=lambda part: str(part)[:30])
def test_check_sees_a_broken_cache(
    checkout: Checkout, old: str, new: str, check: Callable[[Checkout], None], tmp_path: Path
) -> None:
    broken = checkout.copy(tmp_path / "broken", "app/response_cache.py", (old, new))
    with pytest.raises((AssertionError, httpx.HTTPError, subprocess.TimeoutExpired)):
        check(broken)
