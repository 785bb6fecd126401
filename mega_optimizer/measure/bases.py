"""How large a base image is, read from a table with the source and date of each figure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mega_optimizer.measure.evidence import Figure, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.measure.evidence import Unit

_HUB = ("docker.io/library/", "index.docker.io/library/", "docker.io/", "library/")


@dataclass(frozen=True, slots=True)
class BaseSize:
    """The size of a base image for linux/amd64."""

    compressed: Figure
    on_disk: Figure


def base_size(image: str) -> BaseSize:
    """Return the size of ``image`` (as FROM names it), unknown figures where the table has none.

    A digest pin names one build and the table another, so that a pinned image is unknown.
    """
    name = next((image.removeprefix(hub) for hub in _HUB if image.startswith(hub)), image)
    if name == "scratch":
        return BaseSize(
            Figure(0, "bytes compressed", source="scratch is the empty image"),
            Figure(0, "bytes on disk", source="scratch is the empty image"),
        )
    entry = {} if "@" in name else _table().get(name, {})
    return BaseSize(
        _figure(entry.get("compressed"), "bytes compressed", image),
        _figure(entry.get("on_disk"), "bytes on disk", image),
    )


def _figure(record: Mapping[str, Any] | None, unit: Unit, image: str) -> Figure:
    if record is None:
        return unknown(unit, f"The table of base images has no such figure for {image}")
    return Figure(record["bytes"], unit, source=record["source"], date=record["date"])


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    text = files("mega_optimizer.measure").joinpath("bases.json").read_text(encoding="utf-8")
    return {
        f"{entry['image']}:{tag}": entry
        for entry in json.loads(text)["images"]
        for tag in entry["tags"]
    }
