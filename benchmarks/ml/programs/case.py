"""What is measured: two ways to do the same, on the same input and the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """``build`` makes the sides for a device: (before, after), each returns what it computed.

    ``requests`` is how many requests, rows or frames one call stands for. ``memory`` asks for the
    peak of each side in a process of its own.
    """

    rule: str
    what: str
    build: Callable[[str], tuple[Call, Call]]
    requests: int = 1
    memory: bool = False
    devices: tuple[str, ...] = ("cpu",)


BOTH = ("cpu", "cuda")
