"""Measure a case: seed, compare the answers, then rounds in alternating order."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from benchmarks.serving.case import Case, Request
from benchmarks.serving.load import send
from benchmarks.serving.processes import usage
from benchmarks.serving.servers import beside, prepare, started, upstream
from benchmarks.serving.trees import SAMPLE, Side, both_sides
from tests.services.postgres import postgresql
from tests.services.redis import redis_server

WARM_UP = 5.0  # seconds of load before the first measured run: a model may load meanwhile


@dataclass(frozen=True, slots=True)
class Sample:
    """One run on one side; CPU in milliseconds a request, memory in bytes."""

    rate: float
    p50: float
    p99: float
    cpu: float
    memory: int
    errors: int
    requests: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times better the second side was, over the pairs: above 1 is a gain."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """All runs of a case, pair by pair; ``difference`` is what the answers differ in."""

    case: Case
    before: tuple[Sample, ...]
    after: tuple[Sample, ...]
    difference: str

    def middle(self, name: str) -> tuple[float, float]:
        """Return the medians of a figure, before and after."""
        sides = (self.before, self.after)
        before, after = (statistics.median(getattr(each, name) for each in side) for side in sides)
        return before, after

    def ratio(self, name: str) -> Ratio:
        """Return the ratios of the pairs; for rates after ÷ before, else before ÷ after."""
        pairs = [
            (getattr(first, name), getattr(second, name))
            for first, second in zip(self.before, self.after, strict=True)
        ]
        ratios = [
            second / first if name == "rate" else first / second
            for first, second in pairs
            if first and second
        ]
        return Ratio(min(ratios), statistics.median(ratios), max(ratios))

    def verdict(self, name: str) -> str:
        """Return ``better`` or ``worse`` where every pair says so, else ``open``."""
        ratio = self.ratio(name)
        if ratio.low > 1:
            return "better"
        return "worse" if ratio.high < 1 else "open"

    @property
    def errors(self) -> tuple[int, int]:
        """Failed requests on both sides, over all runs."""
        return sum(each.errors for each in self.before), sum(each.errors for each in self.after)


def measure(case: Case, rounds: int, log: Callable[[str], None]) -> Measurement:
    """Run the case on real servers; ends the program where a side does not start."""
    samples: tuple[list[Sample], list[Sample]] = ([], [])
    with (
        tempfile.TemporaryDirectory(prefix="serving-") as name,
        postgresql(max_connections=300) as database,
        redis_server() as redis,
        upstream(case.delay) as base,
    ):
        names = ("before", "after") if case.service.rows else ("postgres", "postgres")
        urls = [f"{database.url.removesuffix('postgres')}{each}" for each in names]
        places = [
            {
                "postgres": url.removeprefix("postgresql://"),
                "redis_port": str(redis.port),
                "upstream": base,
            }
            for url in urls
        ]
        first, second, patch = both_sides(case, Path(name), places)
        log(patch)
        if case.service.rows:
            for each in names:
                execute(database.url, f"CREATE DATABASE {each}")
        if case.service.schema:
            for url in dict.fromkeys(urls):
                execute(url, (SAMPLE / case.service.schema).read_text())
        for side, url in zip((first, second), urls, strict=True):
            prepare(case, side)
            execute(url, case.service.rows)
        difference = compare(case, first, second)
        with started(case, first) as before, started(case, second) as after, beside(case, second):
            servers = (before, after)
            for base, _ in servers:
                send(case.load, base, case.connections, WARM_UP)
            for number in range(rounds):
                for index in (0, 1) if number % 2 == 0 else (1, 0):
                    samples[index].append(one_run(case, servers[index]))
                    log(f"{number} {('before', 'after')[index]} {samples[index][-1]}")
    return Measurement(case, tuple(samples[0]), tuple(samples[1]), difference)


def execute(url: str, statements: str) -> None:
    """Run SQL in the database at ``url``."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements.encode())


def one_run(case: Case, server: tuple[str, int]) -> Sample:
    base, process = server
    start = usage(process)
    load = send(case.load, base, case.connections, case.seconds)
    end = usage(process)
    if not load.requests:
        raise SystemExit(f"{case.rule}: no request was answered")
    return Sample(
        rate=load.rate,
        p50=load.p50,
        p99=load.p99,
        cpu=(end.cpu - start.cpu) * 1000 / load.requests,
        memory=end.memory,
        errors=load.errors,
        requests=load.requests,
    )


def compare(case: Case, first: Side, second: Side) -> str:
    """Seed the service and return how the answers of the two sides differ, empty if they do not."""
    with started(case, first) as (base, _), httpx.Client(base_url=base) as client:
        for _ in range(case.seeds):
            for request in case.seed:
                ask(client, request).raise_for_status()
    answers = []
    for side in (first, second):
        with started(case, side) as (base, _), httpx.Client(base_url=base) as client:
            answers.append([ask(client, case.load) for _ in range(2)])
    for before, after in zip(*answers, strict=True):
        if before.status_code != after.status_code:
            return f"status {before.status_code} and {after.status_code}"
        if content(before, case.varies) != content(after, case.varies):
            return f"{before.text[:200]} and {after.text[:200]}"
    return ""


def ask(client: httpx.Client, request: Request) -> httpx.Response:
    return client.request(
        request.method, request.path, json=request.body, headers=dict(request.headers), timeout=60
    )


def content(response: httpx.Response, varies: Sequence[str]) -> object:
    if "json" not in response.headers.get("content-type", ""):
        return response.content
    return without(json.loads(response.content), varies)


def without(value: object, names: Sequence[str]) -> object:
    """Return ``value`` without the keys that differ from call to call."""
    if isinstance(value, dict):
        return {name: without(each, names) for name, each in value.items() if name not in names}
    if isinstance(value, list):
        return [without(each, names) for each in value]
    return value
