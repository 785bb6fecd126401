"""What the user asks of the pull request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asks of the pull request.

    ``base`` is the branch to merge into (``None``: the default branch), ``group`` the end of the
    branch name (``None``: by level, rules and services).
    """

    base: str | None = None
    group: str | None = None
    draft: bool = False
    signoff: bool = False
