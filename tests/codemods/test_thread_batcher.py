"""The batcher that ml/batch-inference adds for routes that run in threads."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from fastapi import HTTPException

from mega_optimizer.codemods.cache.rendered import rendered
from tests.codemods.test_micro_batcher import Answer, Model, Results, Row

NUMBERS = itertools.count()
Scenario = Callable[["Service"], None]


class Service:
    """A model behind a batcher of the rendered ``text``, asked by threads."""

    def __init__(self, text: str) -> None:
        self.model = Model()
        self.module = ModuleType(f"thread_batcher_{next(NUMBERS)}")
        sys.modules[self.module.__name__] = self.module  # dataclasses look it up
        exec(compile(text, "thread_batcher.py", "exec"), self.module.__dict__)
        self.batcher: Any = self.module.ThreadBatcher(self.model.predict)

    def ask(self, *rows: Row) -> Future[Answer]:
        answer: Future[Answer] = Future()

        def asking() -> None:
            try:
                answer.set_result(self.batcher(list(rows)))
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=asking, daemon=True).start()
        return answer

    def asked(self, *rows: Row) -> Future[Answer]:
        """Ask, and return once the request waits behind the others."""
        count = len(self.batcher._waiting) + 1
        answer = self.ask(*rows)
        deadline = time.monotonic() + self.model.patience
        while len(self.batcher._waiting) < count:
            assert time.monotonic() < deadline
        return answer

    def holding(self) -> Future[Answer]:
        """Ask about a row, and return once the model is at it."""
        self.model.gate.clear()
        self.model.entered.clear()
        first = self.ask([0])
        assert self.model.entered.wait(self.model.patience)
        self.model.calls.clear()
        return first

    def answers(self, *asked: Future[Answer]) -> list[Answer]:
        self.model.gate.set()
        return [each.exception(self.model.patience) or each.result() for each in asked]


def calls_are_shared(service: Service) -> None:
    first = service.holding()
    others = [service.asked([number], [number + 10]) for number in range(1, 8)]
    wanted = [(2 * number, 2 * number + 20) for number in range(1, 8)]
    assert service.answers(first, *others) == [(0,), *wanted]
    assert len(service.model.calls) == 1
    assert not service.model.was_shared


def alone_it_waits_for_nobody(service: Service) -> None:
    threads = threading.active_count()
    assert service.batcher([[4]]) == (8,)
    assert threading.active_count() == threads
    assert service.model.calls == [[[4]]]


def one_bad_row_fails_alone(service: Service) -> None:
    service.module.__dict__["_kind"] = lambda rows: None  # it looks like the others
    first = service.holding()
    before, failed, behind = (service.asked([value]) for value in (1, "bad", 3))
    found = service.answers(before, failed, behind)
    assert (found[0], found[2]) == ((2,), (6,))
    assert isinstance(found[1], ValueError)
    assert service.answers(first, service.ask([5])) == [(0,), (10,)]


def who_ends_the_thread_ends_only_its_own(service: Service) -> None:
    def predict(requests: list[list[Row]]) -> Results:
        if ["exit"] in [row for rows in requests for row in rows]:
            raise SystemExit(3)
        return service.model.predict(requests)

    service.batcher = service.module.ThreadBatcher(predict)
    service.module.__dict__["_kind"] = lambda rows: None
    first = service.holding()
    others = [service.asked([value]) for value in (1, "exit", 3)]
    found = service.answers(first, *others)
    assert (found[0], found[1], found[3]) == ((0,), (2,), (6,))
    assert isinstance(found[2], SystemExit)


def rows_of_another_shape_wait(service: Service) -> None:
    first = service.holding()
    others = [service.asked(row) for row in ([1], [1, 2], [3.0], [4])]
    service.answers(first, *others)
    assert sorted(service.model.calls, key=str) == [[[1, 2]], [[1], [4]], [[3.0]]]


def what_are_no_rows_fails_alone(service: Service) -> None:
    with pytest.raises(TypeError):
        service.batcher(None)
    assert service.answers(service.ask([3])) == [(6,)]


def too_many_are_refused(service: Service) -> None:
    service.module.__dict__["MAX_WAITING"] = 2
    first = service.holding()
    others = [service.asked([1]), service.asked([2])]
    error = service.ask([3]).exception(service.model.patience)
    assert isinstance(error, HTTPException)
    assert error.status_code == 503
    assert error.headers == {"Retry-After": "1"}
    assert service.answers(first, *others) == [(0,), (2,), (4,)]
    assert service.answers(service.ask([3])) == [(6,)]


def calls_are_bounded(service: Service) -> None:
    service.module.__dict__["MAX_BATCH"] = 2
    first = service.holding()
    others = [service.asked([number]) for number in range(1, 6)]
    large = service.asked([6], [7], [8])
    found = service.answers(first, *others, large)
    assert found[1:] == [(2,), (4,), (6,), (8,), (10,), (12, 14, 16)]
    assert sorted(map(len, service.model.calls)) == [1, 2, 2, 3]


def outputs_are_not_taken_for_rows(service: Service) -> None:
    def outputs(requests: list[list[Row]]) -> list[Results]:
        rows = service.model.predict(requests)
        return [rows, rows]

    service.batcher = service.module.ThreadBatcher(outputs)
    first = service.holding()
    others = [service.asked([1]), service.asked([2])]
    found = service.answers(first, *others)
    assert found == [[(0,), (0,)], [(2,), (2,)], [(4,), (4,)]]


def missing_results_are_asked_for_again(service: Service) -> None:
    service.batcher = service.module.ThreadBatcher(lambda rows: service.model.predict(rows)[:1])
    first = service.holding()
    others = [service.asked([1]), service.asked([2])]
    assert service.answers(first, *others) == [(0,), (2,), (4,)]


def a_full_call_does_not_wait(service: Service) -> None:
    service.module.__dict__.update(MAX_WAIT=3600, MAX_BATCH=2)
    first = service.asked([1])  # it waits for company
    assert service.answers(first, service.ask([2])) == [(2,), (4,)]
    assert service.model.calls == [[[1], [2]]]
    service.module.__dict__["MAX_WAIT"] = 0.01
    assert service.answers(service.ask([3])) == [(6,)]


def many_threads_get_their_own(service: Service) -> None:
    asked = [service.ask([number]) for number in range(200)]
    assert service.answers(*asked) == [(2 * number,) for number in range(200)]
    assert not service.model.was_shared


SCENARIOS: list[Scenario] = [
    calls_are_shared,
    alone_it_waits_for_nobody,
    one_bad_row_fails_alone,
    who_ends_the_thread_ends_only_its_own,
    rows_of_another_shape_wait,
    what_are_no_rows_fails_alone,
    too_many_are_refused,
    calls_are_bounded,
    outputs_are_not_taken_for_rows,
    missing_results_are_asked_for_again,
    a_full_call_does_not_wait,
    many_threads_get_their_own,
]
BROKEN: list[tuple[str, str, Scenario]] = [
    ("batch.append(request)", "break", calls_are_shared),
    ("if not self._busy:", "if True:", calls_are_shared),
    ("self._busy = bool(self._waiting)", "self._busy = False", calls_are_shared),
    ("self._waiting[0].called.set()", "pass", calls_are_shared),
    ("request.answer.set_result(part)", "request.answer.set_result(parts[0])", calls_are_shared),
    (
        "request.answer.set_result(part)\n            request.called.set()",
        "request.answer.set_result(part)",
        calls_are_shared,
    ),
    (
        "if len(batch) > 1:\n                for",
        "if False:\n                for",
        one_bad_row_fails_alone,
    ),
    ("batch[0].called.set()", "pass", one_bad_row_fails_alone),
    ("except BaseException", "except Exception", who_ends_the_thread_ends_only_its_own),
    ("request.kind == batch[0].kind", "True", rows_of_another_shape_wait),
    ("_Request(rows, _kind(rows))", "_Request(rows, None)", what_are_no_rows_fails_alone),
    ("len(self._waiting) >= MAX_WAITING", "False", too_many_are_refused),
    ("size <= MAX_BATCH", "True", calls_are_bounded),
    ("isinstance(results, list) or ", "", outputs_are_not_taken_for_rows),
    ("len(results) != _count(batch)", "False", missing_results_are_asked_for_again),
    ("self._changes.notify()", "pass", a_full_call_does_not_wait),
]


@contextmanager
def serving(text: str, patience: float) -> Iterator[Service]:
    service = Service(text)
    service.model.patience = patience
    try:
        yield service
    finally:
        service.model.gate.set()
        del sys.modules[service.module.__name__]


def module(old: str = "", new: str = "") -> str:
    text = rendered("ml/thread_batcher.py.j2", max_batch=32, max_wait="0", max_waiting=1024)
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_requests_share_calls_and_nothing_else(scenario: Scenario) -> None:
    with serving(module(), patience=30) as service:
        scenario(service)


@pytest.mark.parametrize(("old", "new", "scenario"), BROKEN)
def test_scenarios_see_a_broken_batcher(old: str, new: str, scenario: Scenario) -> None:
    with (
        serving(module(old, new), patience=1) as service,
        pytest.raises((AssertionError, TimeoutError, pytest.fail.Exception)),
    ):
        scenario(service)
