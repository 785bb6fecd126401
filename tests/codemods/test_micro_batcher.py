"""The micro-batcher that ml/batch-inference adds to services, at work and under failure."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol

import pytest
from fastapi import HTTPException

from mega_optimizer.codemods.cache.rendered import rendered

Row = list[Any]
Answer = Any
Scenario = Callable[["Service"], Coroutine[Any, Any, None]]
NUMBERS = itertools.count()


class Results(tuple[Any, ...]):
    """As an array, it is no list, and what is cut out of it is one result for each row."""


class Line(Protocol):
    """Who waits in one event loop."""

    waiting: list[object]
    task: asyncio.Task[None]


class Model:
    """Doubles the first value of each row; while ``gate`` is closed, it does not come back."""

    def __init__(self) -> None:
        self.calls: list[list[Row]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.busy = threading.Lock()
        self.was_shared = False
        self.patience = 30.0

    def predict(self, requests: list[list[Row]]) -> Results:
        if not self.busy.acquire(blocking=False):
            self.was_shared = True
            raise RuntimeError("asked by two at the same time")
        try:
            rows = [row for rows in requests for row in rows]
            self.calls.append(rows)
            self.entered.set()
            assert self.gate.wait(30)
            if any(row[0] == "bad" for row in rows):
                raise ValueError("a bad row")
            return Results(row[0] * 2 for row in rows)
        finally:
            self.busy.release()


class Service:
    """A model behind a batcher of the rendered ``text``."""

    def __init__(self, text: str) -> None:
        self.model = Model()
        self.module = ModuleType(f"micro_batcher_{next(NUMBERS)}")
        sys.modules[self.module.__name__] = self.module  # dataclasses look it up
        exec(compile(text, "micro_batcher.py", "exec"), self.module.__dict__)
        self.batcher: Any = self.module.MicroBatcher(self.model.predict)

    @property
    def line(self) -> Line:
        found: Line = self.batcher._lines[asyncio.get_running_loop()]
        return found

    def ask(self, *rows: Row) -> asyncio.Task[Answer]:
        async def asking() -> Answer:
            return await self.batcher(list(rows))

        return asyncio.create_task(asking())

    async def holding(self) -> asyncio.Task[Answer]:
        """Ask about a row, and return once the model is at it."""
        self.model.gate.clear()
        self.model.entered.clear()
        first = self.ask([0])
        await asyncio.to_thread(self.model.entered.wait, self.model.patience)
        self.model.calls.clear()
        return first

    async def waiting(self, count: int) -> None:
        async def enough() -> None:
            while len(self.line.waiting) < count:
                await asyncio.sleep(0)

        await asyncio.wait_for(enough(), self.model.patience)

    async def answers(self, *tasks: asyncio.Task[Answer]) -> list[Answer]:
        self.model.gate.set()
        gathered = asyncio.gather(*tasks, return_exceptions=True)
        return await asyncio.wait_for(gathered, self.model.patience)


async def calls_are_shared(service: Service) -> None:
    first = await service.holding()
    others = [service.ask([number], [number + 10]) for number in range(1, 8)]
    await service.waiting(7)
    wanted = [(2 * number, 2 * number + 20) for number in range(1, 8)]
    assert await service.answers(first, *others) == [(0,), *wanted]
    assert len(service.model.calls) == 1
    assert not service.model.was_shared


async def one_bad_row_fails_alone(service: Service) -> None:
    service.module.__dict__["_kind"] = lambda rows: None  # it looks like the others
    first = await service.holding()
    others = [service.ask([value]) for value in (1, "bad", 3)]
    await service.waiting(3)
    before, failed, behind = await service.answers(*others)
    assert (before, behind) == ((2,), (6,))
    assert isinstance(failed, ValueError)
    assert await service.answers(first, service.ask([5])) == [(0,), (10,)]


async def rows_of_another_shape_wait(service: Service) -> None:
    first = await service.holding()
    others = [service.ask(row) for row in ([1], [1, 2], [3.0], [4])]
    await service.waiting(4)
    await service.answers(first, *others)
    assert sorted(service.model.calls, key=str) == [[[1, 2]], [[1], [4]], [[3.0]]]


async def who_left_is_not_computed(service: Service) -> None:
    first = await service.holding()
    gone, stays = service.ask([1]), service.ask([2])
    await service.waiting(2)
    gone.cancel()
    await asyncio.wait([gone])
    assert await service.answers(first, stays) == [(0,), (4,)]
    assert service.model.calls == [[[2]]]


async def who_leaves_while_it_fails_harms_nobody(service: Service) -> None:
    service.model.gate.clear()
    bad = service.ask(["bad"])
    await asyncio.to_thread(service.model.entered.wait, service.model.patience)
    bad.cancel()
    second = service.ask([2])
    await service.waiting(1)
    assert await service.answers(second) == [(4,)]


async def too_many_are_refused(service: Service) -> None:
    service.module.__dict__["MAX_WAITING"] = 2
    first = await service.holding()
    others = [service.ask([1]), service.ask([2])]
    await service.waiting(2)
    refused = service.ask([3])
    await asyncio.wait([refused], timeout=service.model.patience)
    error = refused.exception()
    assert isinstance(error, HTTPException)
    assert error.status_code == 503
    assert error.headers == {"Retry-After": "1"}
    assert await service.answers(first, *others) == [(0,), (2,), (4,)]
    assert await service.answers(service.ask([3])) == [(6,)]


async def nobody_waits_for_what_has_stopped(service: Service) -> None:
    first = await service.holding()
    others = [service.ask([1]), service.ask([2])]
    await service.waiting(2)
    service.line.task.cancel()
    done, pending = await asyncio.wait([first, *others], timeout=service.model.patience)
    service.model.gate.set()
    assert not pending
    assert all(each.cancelled() for each in done)
    while service.model.busy.locked():
        await asyncio.sleep(0)
    assert await service.answers(service.ask([3])) == [(6,)]
    assert service.model.calls == [[[3]]]


async def calls_are_bounded(service: Service) -> None:
    service.module.__dict__["MAX_BATCH"] = 2
    first = await service.holding()
    others = [service.ask([number]) for number in range(1, 6)]
    large = service.ask([6], [7], [8])
    await service.waiting(6)
    found = await service.answers(first, *others, large)
    assert found[1:] == [(2,), (4,), (6,), (8,), (10,), (12, 14, 16)]
    assert sorted(map(len, service.model.calls)) == [1, 2, 2, 3]


async def outputs_are_not_taken_for_rows(service: Service) -> None:
    def outputs(requests: list[list[Row]]) -> list[Results]:
        rows = service.model.predict(requests)
        return [rows, rows]

    service.batcher = service.module.MicroBatcher(outputs)
    first = await service.holding()
    others = [service.ask([1]), service.ask([2])]
    await service.waiting(2)
    found = await service.answers(first, *others)
    assert found == [[(0,), (0,)], [(2,), (2,)], [(4,), (4,)]]


async def missing_results_are_asked_for_again(service: Service) -> None:
    service.batcher = service.module.MicroBatcher(lambda rows: service.model.predict(rows)[:1])
    first = await service.holding()
    others = [service.ask([1]), service.ask([2])]
    await service.waiting(2)
    assert await service.answers(first, *others) == [(0,), (2,), (4,)]


async def a_full_call_does_not_wait(service: Service) -> None:
    service.module.__dict__.update(MAX_WAIT=3600, MAX_BATCH=2)
    first = service.ask([1])
    for _ in range(10):
        await asyncio.sleep(0)  # until it waits for company
    assert await service.answers(first, service.ask([2])) == [(2,), (4,)]
    assert service.model.calls == [[[1], [2]]]
    service.module.__dict__["MAX_WAIT"] = 0.01
    assert await service.answers(service.ask([3])) == [(6,)]


SCENARIOS: list[Scenario] = [
    calls_are_shared,
    one_bad_row_fails_alone,
    rows_of_another_shape_wait,
    who_left_is_not_computed,
    who_leaves_while_it_fails_harms_nobody,
    too_many_are_refused,
    nobody_waits_for_what_has_stopped,
    calls_are_bounded,
    outputs_are_not_taken_for_rows,
    missing_results_are_asked_for_again,
    a_full_call_does_not_wait,
]
BROKEN: list[tuple[str, str, Scenario]] = [
    ("batch.append(request)", "batch.append(request)\n        break", calls_are_shared),
    (
        "if len(batch) > 1:\n                for",
        "if False:\n                for",
        one_bad_row_fails_alone,
    ),
    ("_kind(request.rows) != _kind(batch[0].rows)", "False", rows_of_another_shape_wait),
    (
        "for each in line.waiting if not each.answer.done()",
        "for each in line.waiting",
        who_left_is_not_computed,
    ),
    ("elif not batch[0].answer.done()", "elif True", who_leaves_while_it_fails_harms_nobody),
    ("len(line.waiting) >= MAX_WAITING", "False", too_many_are_refused),
    (
        "            request.answer.cancel()\n",
        "            pass\n",
        nobody_waits_for_what_has_stopped,
    ),
    ("size > MAX_BATCH", "False", calls_are_bounded),
    ("isinstance(results, list) or ", "", outputs_are_not_taken_for_rows),
    ("len(results) != _count(batch)", "False", missing_results_are_asked_for_again),
    ("line.full.set()", "pass", a_full_call_does_not_wait),
]


@pytest.fixture(autouse=True)
def collected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let the tasks that a broken batcher forgot go before another test parses anything."""
    caplog.set_level(logging.CRITICAL + 1, logger="asyncio")
    yield
    gc.collect()


@contextmanager
def serving(text: str, patience: float) -> Iterator[Service]:
    service = Service(text)
    service.model.patience = patience
    try:
        yield service
    finally:
        service.model.gate.set()
        del sys.modules[service.module.__name__]


async def tried(scenario: Scenario, service: Service) -> None:
    try:
        await scenario(service)
    finally:
        service.model.gate.set()  # or the loop would wait for the model


def module(old: str = "", new: str = "") -> str:
    text = rendered("ml/micro_batcher.py.j2", max_batch=32, max_wait="0", max_waiting=1024)
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_requests_share_calls_and_nothing_else(scenario: Scenario) -> None:
    with serving(module(), patience=30) as service:
        asyncio.run(tried(scenario, service))


@pytest.mark.parametrize(("old", "new", "scenario"), BROKEN)
def test_scenarios_see_a_broken_batcher(old: str, new: str, scenario: Scenario) -> None:
    with (
        serving(module(old, new), patience=1) as service,
        pytest.raises((AssertionError, asyncio.TimeoutError, asyncio.InvalidStateError)),
    ):
        asyncio.run(tried(scenario, service))


def test_a_batcher_serves_one_event_loop_after_the_other() -> None:
    async def twice(service: Service) -> list[Answer]:
        return await service.answers(service.ask([1]), service.ask([2]))

    with serving(module(), patience=30) as service:
        assert asyncio.run(twice(service)) == [(2,), (4,)]
        assert asyncio.run(twice(service)) == [(2,), (4,)]
