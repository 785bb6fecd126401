"""The table, and the pages that keep it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.serving.rounds import Measurement, Ratio

MARK = "<!-- measured -->\n"
HEAD = (
    "| rule | service, request | requests/s | CPU a request, ms | p50, ms | p99, ms | memory, MB "
    "| failed |\n|---|---|---|---|---|---|---|---|\n"
)


def row(measured: Measurement) -> str:
    """Return the line of the table; a figure without a verdict says ``open``."""
    case = measured.case
    request = f"`{case.load.method} {case.load.path.partition('?')[0]}`"
    given = f", after {', '.join(case.given)}" if case.given else ""
    cells = [
        case.rule,
        f"{case.service.source.split('/')[-1]} {request}: {case.what}{given}",
        figure(measured, "rate", "{:,.0f}"),
        figure(measured, "cpu", "{:.2f}"),
        figure(measured, "p50", "{:.1f}"),
        figure(measured, "p99", "{:.1f}"),
        figure(measured, "memory", "{:.0f}", 1e6),
        " → ".join(map(str, measured.errors)),
    ]
    if measured.difference:
        cells[1] += f" (**answers differ**: {measured.difference})"
    return f"| {' | '.join(cells)} |\n"


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


def table(measured: Sequence[Measurement], rounds: int, seconds: float, command: str) -> str:
    """Return the whole measured part, with the machine and the versions."""
    return "".join(
        [
            f"Measured {datetime.now(UTC):%Y-%m-%d}: {machine()}. {rounds} rounds of {seconds:g} s "
            f"a side, `{command}`.\n\n",
            HEAD,
            *map(row, measured),
        ]
    )


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


def write(path: Path, text: str) -> None:
    """Replace the measured part of a page, which begins at its mark."""
    introduction, mark, _ = path.read_text().partition(MARK)
    path.write_text(f"{introduction}{mark}{text}")
