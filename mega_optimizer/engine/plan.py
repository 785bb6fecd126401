"""What a plan is: how it was asked for, what was found, and what changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mega_optimizer.engine.resolve import Resolver
    from mega_optimizer.engine.workspace import Workspace
    from mega_optimizer.repository.place import Place, Problem
    from mega_optimizer.repository.service import Repository
    from mega_optimizer.rules import Level

Status = Literal["applied", "would-apply", "above-level", "skipped", "suppressed", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to plan. The default is what ``mega-optimize`` does without options.

    ``named`` are the rules that the user selected by name: their level does not hold them back.
    ``obstacle`` says why a path cannot be written (``None``: it can); in memory nothing is in the
    way. ``excluded`` says whether a path is left out by configuration; ``only``, where given, names
    the files in which findings count. ``withdrawn`` maps (rule, service) to the (code, reason) for
    which the fixes of that rule to that service are not made.
    """

    level: Level = "safe"
    named: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stale_locks: bool = False
    resolver: Resolver | None = None
    obstacle: Callable[[str], tuple[str, str] | None] = lambda path: None
    excluded: Callable[[str, str], bool] = lambda path, rule: False
    only: frozenset[str] | None = None
    withdrawn: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    propagate_errors: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where a rule applies or was skipped; ``code`` and ``reason`` say why skipped.

    ``advised`` is what a rule of level advice would have a person do: (path, before, after).
    """

    rule: str
    level: Level
    service: str
    place: Place
    status: Status
    message: str = ""
    code: str = ""
    reason: str = ""
    fingerprint: str = ""
    advised: tuple[tuple[str, bytes | None, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """All fixes of one rule to one service: ``before`` (``None``: no such file) and ``after``."""

    rule: str
    level: Level
    service: str
    before: Mapping[str, bytes | None]
    after: Mapping[str, bytes]

    @property
    def paths(self) -> list[str]:
        """The files that it changes, sorted."""
        return sorted(self.after)


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered change sets, every finding, what could not be read, and the resulting files.

    ``idle`` says for each rule and service why the rule was not even tried there.
    """

    repository: Repository
    findings: tuple[Finding, ...]
    changes: tuple[ChangeSet, ...]
    problems: tuple[Problem, ...]
    result: Workspace
    idle: Mapping[tuple[str, str], str]

    def changed(self) -> dict[str, tuple[bytes | None, bytes]]:
        """Return path → (content before, content after) over the whole plan."""
        total: dict[str, tuple[bytes | None, bytes]] = {}
        for change in self.changes:
            for path, after in change.after.items():
                before = total[path][0] if path in total else change.before[path]
                total[path] = (before, after)
        return {path: pair for path, pair in sorted(total.items()) if pair[0] != pair[1]}
