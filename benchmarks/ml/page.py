"""The table, and the page that keeps it."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.serving.page import MARK, told
from benchmarks.serving.rounds import Ratio

HEAD = (
    "| rule | what | device | ms, before → after | times as fast | peak, MB | outputs differ by "
    "| measured |\n|---|---|---|---|---|---|---|---|\n"
)
SAME = 1e-12  # the last bits of double precision, as a part of the largest value


@dataclass(frozen=True, slots=True)
class Measurement:
    """One case on one device: seconds of each pair, and the bytes that each side needs more."""

    rule: str
    what: str
    device: str
    pairs: tuple[tuple[float, float], ...]
    difference: float
    peaks: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def ratio(self) -> Ratio:
        """Return how many times as fast the second side was, pair by pair."""
        ratios = [before / after for before, after in self.pairs]
        return Ratio(min(ratios), statistics.median(ratios), max(ratios))


def row(measured: Measurement) -> str:
    """Return the line of the table; a ratio without a verdict says ``open``."""
    ratio = measured.ratio()
    text = told(ratio)
    speed = (
        f"**{text}**" if ratio.low > 1 else f"slower: {text}" if ratio.high < 1 else f"open: {text}"
    )
    before, after = (statistics.median(side) * 1e3 for side in zip(*measured.pairs, strict=True))
    memory = "–"  # noqa: RUF001
    if measured.peaks is not None:
        memory = " → ".join(f"{statistics.median(each) / 1e6:.0f}" for each in measured.peaks)
    difference = "nothing" if measured.difference < SAME else f"{measured.difference:.0e}"
    cells = [
        f"{figure(before)} → {figure(after)}",
        speed,
        memory,
        difference,
        f"{datetime.now(UTC):%Y-%m-%d}, {len(measured.pairs)} rounds",
    ]
    return f"{label(measured)}{' | '.join(cells)} |\n"


def figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def label(measured: Measurement) -> str:
    """Return how the line begins, which no other case and device shares."""
    return f"| {measured.rule} | {measured.what} | {measured.device} | "


def machine() -> str:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in info if line.startswith("model name")), "unknown")
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release().split('-')[0]}, "
        f"CPython {platform.python_version()}"
    )


def write(path: Path, measured: Sequence[Measurement]) -> None:
    """Renew the rows of what was measured; those of other cases and devices stay."""
    introduction, mark, before = path.read_text().partition(MARK)
    new = {label(each): row(each) for each in measured}
    rows: dict[str, str] = {}
    for line in before.splitlines(keepends=True):
        if line.startswith("| ml/"):
            rows[" | ".join(line.split(" | ")[:3]) + " | "] = line
    rows |= new
    ordered = sorted(rows.items(), key=lambda item: item[0].split(" | ")[0])
    table = HEAD + "".join(line for _, line in ordered)
    path.write_text(f"{introduction}{mark}On {machine()}.\n\n{table}")
