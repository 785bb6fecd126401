"""A figure and what it rests on: nothing is reported without unit, kind, source and date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["bytes compressed", "bytes on disk"]
Kind = Literal["measured", "estimated"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A size with its evidence, or why there is none.

    ``value`` counts bytes in the sense of ``unit``: what a registry transfers and what a disk
    holds are two units and never stand in one column. ``value`` is ``None`` where the size is not
    known; ``why_unknown`` then says why. ``source`` names where the figure was read or what it was
    computed from, ``date`` (ISO 8601) when that was true.
    """

    value: int | None
    unit: Unit
    kind: Kind = "estimated"
    source: str = ""
    date: str = ""
    why_unknown: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an image. ``name`` is the same before and after a change."""

    name: str
    compressed: Figure
    on_disk: Figure

    def figure(self, unit: Unit) -> Figure:
        """Return the size in ``unit``."""
        return self.compressed if unit == "bytes compressed" else self.on_disk


def unknown_part(name: str, why: str) -> Part:
    """Return a part of which neither size is known."""
    return Part(name, unknown("bytes compressed", why), unknown("bytes on disk", why))


def unknown(unit: Unit, why: str) -> Figure:
    """Return the figure that says that the size is not known, and why."""
    return Figure(None, unit, why_unknown=why)


def total(figures: tuple[Figure, ...]) -> int | None:
    """Return the sum in bytes; ``None`` as soon as one of the figures is unknown.

    Raises ``ValueError`` when compressed and on-disk sizes would be added up.
    """
    if len({figure.unit for figure in figures}) > 1:
        raise ValueError("compressed and on-disk sizes cannot be added")
    values = [figure.value for figure in figures]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
