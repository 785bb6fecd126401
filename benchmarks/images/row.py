"""What was found out about one Dockerfile, as it is kept between runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

State = Literal["changed", "unchanged", "not built", "not tried"]
Stratum = Literal["single stage, not slim", "single stage, slim already", "several stages already"]
Unit = Literal["compressed", "on_disk"]

AIMS: dict[Stratum, int | None] = {
    "single stage, not slim": -50,
    "single stage, slim already": -15,
    "several stages already": None,
}


@dataclass(frozen=True, slots=True)
class Size:
    """An image in bytes, and the layers of its base alone."""

    compressed: int
    on_disk: int
    base_compressed: int
    base_on_disk: int

    def above_base(self, unit: Unit) -> int:
        if unit == "compressed":
            return self.compressed - self.base_compressed
        return self.on_disk - self.base_on_disk

    def whole(self, unit: Unit) -> int:
        return self.compressed if unit == "compressed" else self.on_disk


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Seconds of each rebuild after a line was added to ``path``, a file of the service's own."""

    path: str
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return median(self.before) / median(self.after)


@dataclass(frozen=True, slots=True)
class Guess:
    """A part of an image before the change: what was estimated, and what was measured of it."""

    part: str
    unit: Unit
    estimated: int
    measured: int

    @property
    def error(self) -> float:
        """The estimate's error in per cent of what was measured."""
        return 100 * (self.estimated - self.measured) / self.measured


@dataclass(frozen=True, slots=True)
class Row:
    """One Dockerfile. ``base`` and ``base_after`` are those of the stage that ships."""

    tree: str
    service: str
    dockerfile: str
    date: str
    stratum: Stratum
    base: str
    state: State
    reason: str = ""
    base_after: str = ""
    before: Size | None = None
    after: Size | None = None
    proof: str = ""
    rules: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    came: tuple[str, ...] = ()
    rebuild: Rebuild | None = None
    guesses: tuple[Guess, ...] = field(default_factory=tuple)

    @property
    def key(self) -> str:
        return f"{self.tree}: {self.service}"

    @property
    def title(self) -> str:
        return self.service if self.tree == "sample" else self.key.replace("+", "/")

    def change(self, unit: Unit) -> float | None:
        """The change in per cent; 0 where there was nothing to change, None where not built."""
        if self.state == "unchanged" and self.before:
            return 0.0
        if self.before is None or self.after is None:
            return None
        before = self.before.whole(unit)
        return 100 * (self.after.whole(unit) - before) / before

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def row_from(data: dict[str, Any]) -> Row:
    """Return the row that ``as_data`` gave."""
    made: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
    }
    for name in ("before", "after"):
        made[name] = Size(**data[name]) if data[name] else None
    if data["rebuild"]:
        given = data["rebuild"]
        before, after = tuple(given["before"]), tuple(given["after"])
        made["rebuild"] = Rebuild(given["path"], before, after)
    made["guesses"] = tuple(Guess(**each) for each in data["guesses"])
    return Row(**made)
