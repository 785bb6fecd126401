"""What became of a pull request. Light to import: reports need it where nothing is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Operation = Literal["created", "updated", "unchanged", "blocked"]


@dataclass(frozen=True, slots=True)
class Published:
    """The pull request that shows a plan; ``reason`` says why it was blocked."""

    operation: Operation
    number: int | None
    url: str | None
    reason: str = ""
