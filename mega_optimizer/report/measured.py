"""The images that were built, before and after, for a person at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mega_optimizer.report.words import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from mega_optimizer.measure.images import ImagePair

_NAMED = 4
_HEADS = ("service", "compressed", "", "on disk", "", "proof")


def measured_images(images: Sequence[ImagePair]) -> RenderableType:
    """Return a table of ``images`` with their totals, and what did not pass or was not tried."""
    table = Table(box=None, pad_edge=False)
    for head in _HEADS:
        table.add_column(head, no_wrap=True)
    notes: list[RenderableType] = []
    for pair in images:
        before, after = pair.before, pair.after
        table.add_row(
            Text(printable(pair.service), style="cyan"),
            _sizes(before.bytes_compressed, after.bytes_compressed),
            _change(before.bytes_compressed, after.bytes_compressed),
            _sizes(before.bytes_on_disk, after.bytes_on_disk),
            _change(before.bytes_on_disk, after.bytes_on_disk),
            _verdict(pair),
        )
        told = [*(before.unknown or after.unknown)]
        told += [
            f"{check.name} {check.verdict.replace('-', ' ')}: {check.detail}"
            for check in pair.checks
            if check.verdict != "passed" and check.name != "build"
        ]
        told += _packages(pair)
        notes += [Text(printable(f"{pair.service}: {each}"), style="dim") for each in told]
    compressed = _total(
        [(pair.before.bytes_compressed, pair.after.bytes_compressed) for pair in images]
    )
    on_disk = _total([(pair.before.bytes_on_disk, pair.after.bytes_on_disk) for pair in images])
    if compressed and on_disk and len(images) > 1:
        table.add_row(
            "total",
            _sizes(*compressed),
            _change(*compressed),
            _sizes(*on_disk),
            _change(*on_disk),
            "",
        )
    sources = dict.fromkeys(f"{pair.after.source}, {pair.after.date}" for pair in images)
    title = Text("Image sizes, measured, before → after", style="bold")
    closing = Text("; ".join(sources), style="dim")
    return Group(title, Padding(Group(table, *notes, closing), (0, 0, 0, 2), expand=False))


def _packages(pair: ImagePair) -> list[str]:
    """Say how many packages left and which came, Debian's and Python's together."""
    if not pair.left and not pair.came:
        return []
    came = ", ".join(pair.came[:_NAMED]) or "none"
    more = f" and {len(pair.came) - _NAMED} more" if len(pair.came) > _NAMED else ""
    return [f"{len(pair.left)} packages left, came: {came}{more} (--format json names all)"]


def _verdict(pair: ImagePair) -> str:
    verdicts = [check.verdict for check in pair.checks]
    if pair.after.unknown:
        return "not built"
    if "failed" in verdicts:
        return "failed"
    if "not-verified" in verdicts:
        return "in part"
    return f"passed ({len(verdicts)} checks)"


def _total(pairs: list[tuple[int | None, int | None]]) -> tuple[int, int] | None:
    before = [old for old, new in pairs if old is not None and new is not None]
    after = [new for old, new in pairs if old is not None and new is not None]
    return (sum(before), sum(after)) if len(before) == len(pairs) else None


def _sizes(before: int | None, after: int | None) -> str:
    return f"{_megabytes(before)} → {_megabytes(after)}"


def _megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1_000_000:.1f} MB"


def _change(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return ""
    sign = "+" if after > before else "−"  # noqa: RUF001
    return "no change" if after == before else f"{sign}{abs(after - before) / 1_000_000:.1f} MB"
