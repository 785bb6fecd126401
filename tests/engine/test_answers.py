"""Kept answers hold as long as they may, and damage to them is never worse than their absence."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest

from mega_optimizer.engine.answers import FAILURE_S, Answers
from mega_optimizer.repository.place import Problem

TODAY = date(2026, 11, 24)
FAILURE = Problem("", "resolver-timeout", "no answer within 30 seconds: é")


def test_a_solution_is_kept_for_the_day(tmp_path: Path) -> None:
    Answers(tmp_path, TODAY).keep("key", "lock\r\nversion = é\n")
    assert Answers(tmp_path, TODAY).read("key") == "lock\r\nversion = é\n"
    assert Answers(tmp_path, date(2026, 11, 25)).read("key") is None
    assert Answers(tmp_path, TODAY).read("other") is None


@pytest.mark.parametrize(
    ("later_s", "kept"), [(0.0, True), (FAILURE_S - 1, True), (FAILURE_S + 1, False), (-60, False)]
)
def test_a_failure_is_kept_for_minutes(tmp_path: Path, later_s: float, kept: bool) -> None:
    Answers(tmp_path, TODAY, now=lambda: 1000.0).keep("key", FAILURE)
    found = Answers(tmp_path, TODAY, now=lambda: 1000.0 + later_s).read("key")
    assert found == (FAILURE if kept else None)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-5],
        lambda content: content.replace(b"lock", b"luck"),
        lambda content: b"\xff\n\xff",
        lambda content: b"lock-version = 1\n",
    ],
)
def test_what_is_damaged_was_not_kept(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    answers = Answers(tmp_path, TODAY)
    answers.keep("key", "lock")
    path = tmp_path / TODAY.isoformat() / "key"
    path.write_bytes(damage(path.read_bytes()))
    assert answers.read("key") is None
    answers.keep("key", "lock")
    assert answers.read("key") == "lock"


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    answers = Answers(tmp_path / "file", TODAY)
    answers.keep("key", "lock")
    assert answers.read("key") is None


def test_without_a_folder_nothing_is_kept() -> None:
    answers = Answers(None, TODAY)
    answers.keep("key", "lock")
    assert answers.read("key") is None


def test_other_days_go(tmp_path: Path) -> None:
    Answers(tmp_path, date(2026, 11, 23)).keep("key", "old")
    Answers(tmp_path, TODAY).keep("key", "new")
    assert [path.name for path in tmp_path.iterdir()] == [TODAY.isoformat()]


def test_writers_at_once_leave_one_whole_answer(tmp_path: Path) -> None:
    texts = [str(number) * 100_000 for number in range(8)]
    answers = Answers(tmp_path, TODAY)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: answers.keep("key", text), texts))
    assert answers.read("key") in texts
    assert os.listdir(tmp_path / TODAY.isoformat()) == ["key"]
