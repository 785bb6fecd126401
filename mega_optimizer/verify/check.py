"""One comparison of an image before and after a rewrite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Verdict = Literal["passed", "failed", "not-verified"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Check:
    """What was compared, and what came out."""

    name: str
    verdict: Verdict
    detail: str = ""


def check_of(name: str, wrong: Sequence[str], detail: str = "") -> Check:
    """Return a check that failed for what is ``wrong``, or passed where that is nothing."""
    if not wrong:
        return Check(name, "passed", detail)
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Check(name, "failed", "; ".join(wrong[:_SHOWN]) + more)
