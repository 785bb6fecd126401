"""Image sizes as rows of a table: what grew comes first, and an unknown size stays unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.publish.text import code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mega_optimizer.measure.images import ImagePair

PARTS_SHOWN = 100
# What a part of an image grows by before it is more than a row of the table (10 kB).
WORTH_A_LINE = 10_000


@dataclass(frozen=True, slots=True)
class ImageRow:
    """The sizes of one image before and after, in words."""

    service: str
    compressed: str
    compressed_change: str
    on_disk: str
    on_disk_change: str
    kind: str


@dataclass(frozen=True, slots=True)
class PartRow:
    """What one part of an image gained or lost, in words."""

    service: str
    name: str
    compressed: str
    on_disk: str


def verdict(images: Sequence[ImagePair]) -> str:
    """Return the sentence on image sizes for the first line."""
    if not images:
        return "Image sizes were not looked at."
    change = _total(images)
    kinds = _kinds(images)
    if change is None:
        known = sum(pair.known_difference for pair in images)
        told = f"{signed(known)} compressed ({kinds})" if known else f"nothing ({kinds})"
        return f"Image sizes are known in part only; of that part: {told}."
    before, after = change
    told = f"{human(before)} → {human(after)} compressed ({signed(after - before)}, {kinds})"
    return f"Images {'grow' if after > before else 'together'}: {told}."


def image_rows(images: Iterable[ImagePair]) -> list[ImageRow]:
    """Return a row for each image, the one that grew most first."""
    return [
        ImageRow(
            service=pair.service,
            compressed=_pair(pair.before.bytes_compressed, pair.after.bytes_compressed),
            compressed_change=_compressed_change(pair),
            on_disk=_pair(pair.before.bytes_on_disk, pair.after.bytes_on_disk),
            on_disk_change=signed(_difference(pair.before.bytes_on_disk, pair.after.bytes_on_disk)),
            kind=_kind(pair),
        )
        for pair in sorted(images, key=lambda pair: -_growth(pair))
    ]


def part_rows(images: Iterable[ImagePair]) -> list[PartRow]:
    """Return a row for each part of an image that changes."""
    rows = [
        PartRow(pair.service, each.name, signed(each.compressed), signed(each.on_disk))
        for pair in images
        for each in sorted(pair.differences, key=lambda each: -(each.compressed or 0))
    ]
    return rows[:PARTS_SHOWN]


def total_change(images: Sequence[ImagePair]) -> str:
    """Return before, after and change of all images together; empty where that is not known."""
    change = _total(images)
    if change is None or len(images) < 2:
        return ""
    return f"{_pair(*change)} ({signed(change[1] - change[0])}, {_kinds(images)})"


def growths(images: Sequence[ImagePair]) -> Iterator[str]:
    """Say what is bigger afterwards, the most first: images that were built, else their parts.

    The layers of a built image say little by themselves: what one loses, another may hold.
    """
    grown: dict[str, dict[tuple[int, str], list[str]]] = {}
    for pair in images:
        change = _difference(pair.before.bytes_compressed, pair.after.bytes_compressed)
        parts = [(each.name, each.compressed) for each in pair.differences]
        for name, size in [("image", change)] if is_measured(pair) else parts:
            if size is not None and size >= WORTH_A_LINE:
                sizes = grown.setdefault(name, {})
                sizes.setdefault((size, pair.after.kind), []).append(code(pair.service))
    for name, sizes in sorted(grown.items(), key=lambda item: -max(item[1])[0]):
        told = "; ".join(
            f"{signed(size)} ({kind}) in {', '.join(services)}"
            for (size, kind), services in sorted(sizes.items(), reverse=True)
        )
        yield f"Bigger, compressed: {code(name)} {told}."
    added: dict[tuple[str, ...], list[str]] = {}
    for pair in images:
        if pair.came:
            added.setdefault(tuple(pair.came), []).append(code(pair.service))
    for packages, services in added.items():
        yield f"Added: {', '.join(code(each) for each in packages)} in {', '.join(services)}."


def _total(images: Sequence[ImagePair]) -> tuple[int, int] | None:
    before = [pair.before.bytes_compressed for pair in images]
    after = [pair.after.bytes_compressed for pair in images]
    known_before = [size for size in before if size is not None]
    known_after = [size for size in after if size is not None]
    if not images or len(known_before) + len(known_after) < 2 * len(images):
        return None
    return sum(known_before), sum(known_after)


def _kinds(images: Iterable[ImagePair]) -> str:
    kinds = {size.kind for pair in images for size in (pair.before, pair.after)}
    return "measured" if kinds == {"measured"} else "estimated"


def _kind(pair: ImagePair) -> str:
    if is_measured(pair):
        return "measured"
    was_tried = any(
        why.startswith("not built") for why in (*pair.before.unknown, *pair.after.unknown)
    )
    return "not built" if was_tried else "estimated"


def is_measured(pair: ImagePair) -> bool:
    """Whether both images were built."""
    return pair.before.kind == pair.after.kind == "measured"


def _growth(pair: ImagePair) -> int:
    change = _difference(pair.before.bytes_compressed, pair.after.bytes_compressed)
    return pair.known_difference if change is None else change


def _compressed_change(pair: ImagePair) -> str:
    change = _difference(pair.before.bytes_compressed, pair.after.bytes_compressed)
    if change is not None:
        return signed(change)
    known = pair.known_difference
    return f"{signed(known)} known, the rest unknown" if known else "unknown"


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _pair(before: int | None, after: int | None) -> str:
    if before is None and after is None:
        return "unknown"
    return f"{human(before)} → {human(after)}"


def human(size: int | None) -> str:
    """Return bytes in decimal units, as registries count them."""
    if size is None:
        return "unknown"
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


def signed(size: int | None) -> str:
    """Return a change in bytes with its sign."""
    if size is None:
        return "unknown"
    return f"{'+' if size > 0 else '−'}{human(abs(size))}" if size else "no change"  # noqa: RUF001
