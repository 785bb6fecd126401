"""Write what was measured as a page of tables."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from statistics import mean, median, quantiles

from benchmarks.images.row import AIMS, Guess, Row, Size, Stratum, Unit
from mega_optimizer.measure.bases import base_size
from tests.bases.stand_in import is_stand_in

UNITS: tuple[Unit, ...] = ("compressed", "on_disk")
_NAMED_PACKAGES = 5
_FOUNDING_PROMISE = 74  # per cent: the founding document's images of the sample repository


def page(rows: Sequence[Row]) -> str:
    """Return all tables, the sample repository first."""
    ordered = sorted(rows, key=lambda row: row.key)
    ours = [row for row in ordered if row.tree == "sample"]
    others = [row for row in ordered if row.tree != "sample"]
    sections = [
        ("The sample repository", _sizes(ours, _sample_total(ours))),
        ("Public repositories", _sizes(others, ())),
        ("Means against the aims", _means(others)),
        ("On published bases", _published(ordered)),
        ("Packages that left", _packages(ordered)),
        ("Building again after one edited line", _rebuilds(ordered)),
        ("Estimates against builds", _errors(ordered)),
        ("The bases", _bases(ordered)),
    ]
    return "\n".join(
        f"## {title}\n\n" + "\n".join(lines) + "\n"
        for title, found in sections
        if (lines := list(found))
    )


def _sizes(rows: Sequence[Row], closing: Sequence[str]) -> Iterator[str]:
    if not rows:
        return
    dates = sorted({row.date for row in rows})
    yield f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}."
    yield ""
    yield "| service | base before → after | compressed | on disk | proof | withdrawn |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        bases = " → ".join(dict.fromkeys(base for base in (row.base, row.base_after) if base))
        yield _line(
            row.title, bases, *_changes(row), _proof(row), "; ".join(row.withdrawn) or "none"
        )
    yield from closing


def _changes(row: Row) -> tuple[str, str]:
    if row.before is None:
        return row.state, row.state
    if row.after is None:
        sizes = [f"{row.before.whole(unit) / 1e6:.1f} MB" for unit in UNITS]
        return f"{sizes[0]}, {row.state}", f"{sizes[1]}, {row.state}"
    compressed, on_disk = (_change(row.before.whole(u), row.after.whole(u)) for u in UNITS)
    return compressed, on_disk


def _proof(row: Row) -> str:
    if row.state == "unchanged":
        return "nothing to change"
    return row.reason or row.proof


def _sample_total(rows: Sequence[Row]) -> tuple[str, ...]:
    built = [row for row in rows if row.before and row.after]
    if not built:
        return ()
    totals = [_total(built, unit) for unit in UNITS]
    cells = [_change(*each) for each in totals]
    percents = [100 * (before - after) / before for before, after in totals]
    return (
        _line(f"**total of {len(built)} built**", "", *cells, "", ""),
        "",
        f"The founding document promises {_FOUNDING_PROMISE} % over all images of the sample; "
        f"measured on these bases: {percents[0]:.0f} % compressed, {percents[1]:.0f} % on disk.",
    )


def _total(rows: Sequence[Row], unit: Unit) -> tuple[int, int]:
    pairs = [
        (row.before.whole(unit), row.after.whole(unit)) for row in rows if row.before and row.after
    ]
    return sum(before for before, _ in pairs), sum(after for _, after in pairs)


def _means(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "A Dockerfile in which nothing is changed counts as 0 %. In the last two columns those"
    yield "that could not be built before, or were not tried, count as 0 % as well."
    yield ""
    yield (
        "| stratum | Dockerfiles | built before | changed and built after | mean, compressed "
        "| mean, on disk | all: mean, compressed | all: mean, on disk | aim |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for stratum in AIMS:
        found = [row for row in rows if row.stratum == stratum]
        built = [row for row in found if row.before]
        after = [row for row in built if row.after]
        means = [_mean(built, unit) for unit in UNITS]
        everything = [_mean(found, unit) for unit in UNITS]
        yield _line(stratum, len(found), len(built), len(after), *means, *everything, _aim(stratum))


def _mean(rows: Sequence[Row], unit: Unit) -> str:
    return f"{mean(row.change(unit) or 0 for row in rows):+.1f} %" if rows else "none"


def _aim(stratum: Stratum) -> str:
    aim = AIMS[stratum]
    return f"{aim} % or better" if aim is not None else "none"


def _published(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what the measured layers come to upon the published sizes of their bases."""
    lines = []
    for row in rows:
        if row.before is None or row.after is None:
            continue
        cells = [_on_published(row, row.before, row.after, unit) for unit in UNITS]
        if any(cells):
            shown = [cell or "base unknown" for cell in cells]
            lines.append(_line(row.title, *shown))
    if not lines:
        return
    yield "Computed: the layers above the base as measured, and for the base the published size in"
    yield "place of the stand-in's. Where the table of bases has no figure, none is given."
    yield ""
    yield "| service | compressed | on disk |"
    yield "|---|---|---|"
    yield from lines
    totals = [_published_total([row for row in rows if row.tree == "sample"], u) for u in UNITS]
    yield _line("**total of the sample**", *totals)


def _published_total(rows: Sequence[Row], unit: Unit) -> str:
    before = after = 0
    for row in rows:
        old, new = _base_bytes(row.base, unit), _base_bytes(row.base_after, unit)
        if row.before and row.after and old is not None and new is not None:
            before += old + row.before.above_base(unit)
            after += new + row.after.above_base(unit)
    return _change(before, after) if before else "none"


def _on_published(row: Row, before: Size, after: Size, unit: Unit) -> str | None:
    old, new = (_base_bytes(name, unit) for name in (row.base, row.base_after))
    if old is None or new is None:
        return None
    return _change(old + before.above_base(unit), new + after.above_base(unit))


def _base_bytes(image: str, unit: Unit) -> int | None:
    size = base_size(image)
    return size.compressed.value if unit == "compressed" else size.on_disk.value


def _packages(rows: Sequence[Row]) -> Iterator[str]:
    changed = [row for row in rows if row.left or row.came]
    if not changed:
        return
    yield "Debian's by installed size, the largest first, then Python's. What the base of before"
    yield "held and that of after does not is among them."
    yield ""
    yield "| service | left | came |"
    yield "|---|---|---|"
    for row in changed:
        yield _line(row.title, _listed(row.left), _listed(row.came))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_PACKAGES])
    rest = len(names) - _NAMED_PACKAGES
    return f"{len(names)}: {shown}{f' and {rest} more' if rest > 0 else ''}" if names else "none"


def _rebuilds(rows: Sequence[Row]) -> Iterator[str]:
    timed = [(row, row.rebuild) for row in rows if row.rebuild and row.rebuild.after]
    if not timed:
        return
    yield "Seconds to build the image again after a comment line was added to the file named, with"
    yield "all other layers in the store: median (lowest to highest of the rounds), by turns before"
    yield "and after. No further round once a minute is spent. Two cores, busy with other work: the"
    yield "ratio says more than the seconds."
    yield ""
    yield "| service | edited file | before, s | after, s | ratio |"
    yield "|---|---|---|---|---|"
    for row, found in timed:
        cells = (_spread(found.before), _spread(found.after), f"{found.ratio:.1f}")
        yield _line(row.title, f"`{found.path}`", *cells)


def _spread(seconds: Sequence[float]) -> str:
    if len(seconds) == 1:
        return f"{seconds[0]:.1f}"
    return f"{median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


def _errors(rows: Sequence[Row]) -> Iterator[str]:
    found: dict[tuple[str, Unit], list[tuple[Row, Guess]]] = {}
    for row in rows:
        for guess in row.guesses:
            part = guess.part.partition(",")[0]
            found.setdefault((part, guess.unit), []).append((row, guess))
    if not found:
        return
    yield "The error of `--sizes estimate` in per cent of what was measured, over all images built,"
    yield "before and after. The base is left aside, because the estimate takes the published one"
    yield "and the build a stand-in; so are system packages, which are never estimated. The layers"
    yield "of one kind stand against the parts of that kind, where the estimate knows all of them."
    yield ""
    columns = ("lowest", "lower quartile", "median", "upper quartile", "highest", "worst")
    yield _line("part", "unit", "images", *columns)
    yield "|---|---|---|---|---|---|---|---|---|"
    for (part, unit), pairs in sorted(found.items()):
        errors = sorted(guess.error for _, guess in pairs)
        quarters = quantiles(errors, n=4, method="inclusive") if len(errors) > 1 else errors * 3
        row, guess = max(pairs, key=lambda each: abs(each[1].error))
        figures = [f"{value:+.0f} %" for value in (errors[0], *quarters, errors[-1])]
        worst = (
            f"{row.title}: estimated {guess.estimated / 1e6:.2f} MB, "
            f"measured {guess.measured / 1e6:.2f} MB"
        )
        yield _line(part, unit.replace("_", " "), len(errors), *figures, worst)


def _bases(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the stand-ins beside the published sizes of the images whose names they have."""
    names = dict.fromkeys(
        name for row in rows if row.before for name in (row.base, row.base_after) if name
    )
    if not names:
        return
    yield "| image | here | stand-in, on disk | published, compressed | published, on disk |"
    yield "|---|---|---|---|---|"
    for name in sorted(names):
        ours = is_stand_in(name)
        if ours is None:
            continue
        size = base_size(name)
        published = [figure.value for figure in (size.compressed, size.on_disk)]
        shown = [f"{value / 1e6:.1f} MB" if value else "unknown" for value in published]
        yield _line(name, "stand-in" if ours else "pulled", _local_size(name), *shown)


def _local_size(name: str) -> str:
    listed = subprocess.run(
        ["buildah", "images", "--format", "{{.Size}}", name],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split("\n")[0]


def _change(before: int, after: int) -> str:
    percent = 100 * (after - before) / before
    return f"{before / 1e6:.1f} → {after / 1e6:.1f} MB ({percent:+.0f} %)"


def _line(*cells: object) -> str:
    return (
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    )
