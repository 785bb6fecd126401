"""Hold what was estimated of an image against what its build shows, part by part.

The base is left aside: the estimate knows the published one, and the build used a stand-in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from benchmarks.images.row import Guess, Unit
from mega_optimizer.measure.builders.model import Built, Layer
from mega_optimizer.measure.estimate import ImageEstimate
from mega_optimizer.measure.evidence import Part
from mega_optimizer.measure.unpacked import VENV

_INSTALLS = re.compile(r"\b(pip3?|uv|poetry|pipenv)\b.*\b(install|sync)\b")
_SYSTEM = re.compile(r"\bapt(-get)?\b")
_COPIES = re.compile(r"#\(nop\) (COPY|ADD) ")
# Where packages lie that another stage has installed.
_FROM_STAGE = re.compile(r"(COPY|ADD) .* in .*(venv|-packages|\.local|/usr/local)")


def guesses(estimate: ImageEstimate, built: Built, suffix: str = "") -> Iterator[Guess]:
    """Yield the parts whose size was estimated and can be read off the layers."""
    for name, parts, layers in (
        ("packages", _named(estimate, "package ", VENV, "pip's cache"), _installing(built.layers)),
        ("build context", _named(estimate, "build context"), _copying(built.layers)),
    ):
        if not parts or not layers:
            continue
        units: tuple[Unit, ...] = ("compressed", "on_disk")
        for unit in units:
            known = [
                part.compressed.value if unit == "compressed" else part.on_disk.value
                for part in parts
            ]
            measured = sum(
                layer.bytes_compressed if unit == "compressed" else layer.bytes_on_disk
                for layer in layers
            )
            values = [value for value in known if value is not None]
            if len(values) == len(known):
                yield Guess(f"{name}{suffix}", unit, sum(values), measured)


def _named(estimate: ImageEstimate, *beginnings: str) -> Sequence[Part]:
    return [part for part in estimate.parts if part.name.startswith(beginnings)]


def _installing(layers: Sequence[Layer]) -> Sequence[Layer]:
    """Return the layers that hold packages and nothing else; none where another is mixed in."""
    found = [
        layer
        for layer in layers
        if _INSTALLS.search(layer.created_by) or _FROM_STAGE.search(layer.created_by)
    ]
    return [] if any(_SYSTEM.search(layer.created_by) for layer in found) else found


def _copying(layers: Sequence[Layer]) -> Sequence[Layer]:
    return [
        layer
        for layer in layers
        if _COPIES.search(layer.created_by) and not _FROM_STAGE.search(layer.created_by)
    ]
