"""The serving benchmark judges only what every pair says, and renews only the rows it measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.serving.case import Case, Request, Service
from benchmarks.serving.page import MARK, row, write
from benchmarks.serving.processes import usage
from benchmarks.serving.rounds import Measurement, Ratio, Sample, without
from benchmarks.serving.servers import on_port

SERVICE = Service("shop", "/health", port=8000)
CASES = (
    Case("serving/one", SERVICE, Request("/items?limit=5"), "items"),
    Case("serving/two", SERVICE, Request("/items"), "items", given=("serving/one",)),
)


def sample(rate: float) -> Sample:
    return Sample(rate=rate, p50=1, p99=2, cpu=10 / rate, memory=10, errors=0, requests=100)


def measured(before: list[float], after: list[float], case: Case = CASES[0]) -> Measurement:
    return Measurement(case, tuple(map(sample, before)), tuple(map(sample, after)), "")


def test_a_gain_is_one_where_every_pair_gains() -> None:
    measurement = measured([100, 50, 200], [150, 100, 220])
    assert measurement.verdict("rate") == "better"
    assert measurement.ratio("rate") == Ratio(1.1, 1.5, 2.0)
    assert measurement.verdict("cpu") == "better"


def test_pairs_that_disagree_give_no_verdict() -> None:
    assert measured([100, 100, 100], [300, 300, 99]).verdict("rate") == "open"
    assert measured([100, 100], [100, 300]).verdict("rate") == "open"


def test_a_loss_is_told() -> None:
    measurement = measured([100, 100], [90, 80])
    assert measurement.verdict("rate") == "worse"
    assert "worse: 0.85× (0.80–0.90)" in row(measurement)  # noqa: RUF001


def test_only_measured_rows_are_renewed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Introduction\n\n{MARK}")
    second = row(measured([100], [150], CASES[1]))
    write(page, CASES, [second])
    write(page, CASES, [row(measured([100], [120]))])
    renewed = row(measured([100], [300]))
    write(page, CASES, [renewed])
    text = page.read_text()
    assert text.startswith(f"Introduction\n\n{MARK}")
    assert text.endswith(renewed + second)
    assert text.count("serving/one |") == 1


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("uvicorn app:app --host 0.0.0.0 --port 8000", "uvicorn app:app --host 127.0.0.1 --port 9"),
        ("gunicorn app:app --bind 0.0.0.0:8000", "gunicorn app:app --bind 127.0.0.1:9"),
        (
            "gunicorn app:app -b 0.0.0.0:${PORT:-8000}",
            "gunicorn app:app -b 127.0.0.1:${PORT:-8000}",
        ),
    ],
)
def test_launch_commands_move_to_another_port(command: str, expected: str) -> None:
    assert on_port(command, 8000, 9) == expected


def test_varying_keys_are_left_out_at_any_depth() -> None:
    answer = {"items": [{"name": "a", "latency": 1}], "latency": 2}
    assert without(answer, ("latency",)) == {"items": [{"name": "a"}]}


def test_usage_counts_children() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = "sum(i * i for i in range(3_000_000)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, child], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        used = usage(process.pid)
        process.communicate(b"\n")
    assert used.cpu > 0.05
    assert used.memory > 2 * os.sysconf("SC_PAGE_SIZE")
