"""The table, and the pages that keep it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.serving.case import Case
from benchmarks.serving.rounds import Measurement, Ratio

MARK = "<!-- measured -->\n"
HEAD = (
    "| rule | service, request | requests/s | CPU a request, ms | p50, ms | p99, ms | memory, MB "
    "| failed | measured |\n|---|---|---|---|---|---|---|---|---|\n"
)


def row(measured: Measurement) -> str:
    """Return the line of the table; a figure without a verdict says ``open``."""
    differs = f" **Answers differ**: {measured.difference}" if measured.difference else ""
    cells = [
        figure(measured, "rate", "{:,.0f}"),
        figure(measured, "cpu", "{:.2f}"),
        figure(measured, "p50", "{:.1f}"),
        figure(measured, "p99", "{:.1f}"),
        figure(measured, "memory", "{:.0f}", 1e6),
        " → ".join(map(str, measured.errors)) + differs,
        f"{datetime.now(UTC):%Y-%m-%d}, {len(measured.before)} rounds",
    ]
    return f"{label(measured.case)}{' | '.join(cells)} |\n"


def label(case: Case) -> str:
    """Return how the line of a case begins, which no other case shares."""
    request = f"`{case.load.method} {case.load.path.partition('?')[0]}`"
    given = f"; {', '.join(case.given)} on both sides" if case.given else ""
    return f"| {case.rule} | {case.service.name} {request}: {case.what}{given} | "


def figure(measured: Measurement, name: str, form: str, unit: float = 1) -> str:
    before, after = (form.format(value / unit) for value in measured.middle(name))
    verdict = measured.verdict(name)
    ratio = told(measured.ratio(name))
    told_verdict = {"better": f"**{ratio}**", "worse": f"worse: {ratio}", "open": f"open: {ratio}"}
    return f"{before} → {after}, {told_verdict[verdict]}"


def told(ratio: Ratio) -> str:
    numbers = (f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in ratio_values(ratio))
    low, middle, high = numbers
    return f"{middle}× ({low}–{high})"  # noqa: RUF001


def ratio_values(ratio: Ratio) -> tuple[float, float, float]:
    return ratio.low, ratio.middle, ratio.high


def table(cases: Sequence[Case], lines: Sequence[str]) -> str:
    """Return the measured part, in the order of the cases, with the machine and the versions."""
    in_order = [line for case in cases for line in lines if line.startswith(label(case))]
    return f"On {machine()}.\n\n{HEAD}{''.join(in_order)}"


def machine() -> str:
    """Return processor, cores and versions in a line."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in info if line.startswith("model name")), "unknown")
    wrk = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores (shared, noisy), "
        f"Linux {platform.release().split('-')[0]}, CPython {platform.python_version()}, "
        f"wrk {wrk.split()[1].removeprefix('debian/')}"
    )


def write(path: Path, cases: Sequence[Case], lines: Sequence[str]) -> None:
    """Renew the measured part of a page, which begins at its mark; other rows stay."""
    introduction, mark, before = path.read_text().partition(MARK)
    new = {tuple(line.split(" | ")[:2]) for line in lines}
    kept = [
        line for line in before.splitlines(keepends=True) if tuple(line.split(" | ")[:2]) not in new
    ]
    path.write_text(introduction + mark + table(cases, [*kept, *lines]))
