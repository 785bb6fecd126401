"""Intervals of versions, to prove or to disprove what a specifier allows without a resolver.

The meaning of the operators is that of the version specifiers specification (PEP 440).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.specifiers import SpecifierSet
    from packaging.version import Version


@dataclass(frozen=True, slots=True)
class Interval:
    """The versions from ``low`` to ``high``; None is no bound. ``excluded`` are its ``!=``."""

    low: Version | None = None
    low_included: bool = True
    high: Version | None = None
    high_included: bool = True
    excluded: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Whether no version lies in it."""
        if self.low is None or self.high is None:
            return False
        both = self.low_included and self.high_included
        return self.low > self.high or (self.low == self.high and not both)

    def within(self, other: Interval) -> bool:
        """Whether every version of this one lies in ``other``, leaving ``excluded`` aside."""
        return _low_at_least(self, other) and _high_at_most(self, other)

    def meet(self, other: Interval) -> Interval:
        """Return what both allow."""
        lower = self if _low_at_least(self, other) else other
        upper = self if _high_at_most(self, other) else other
        return Interval(
            lower.low,
            lower.low_included,
            upper.high,
            upper.high_included,
            self.excluded | other.excluded,
        )


def interval(specifiers: SpecifierSet) -> Interval | None:
    """Return the smallest interval around a specifier set; None where ``===`` forbids one.

    It may hold more than the set does: what ``!=`` excludes, and post-releases and local versions
    at its bounds.
    """
    found = Interval()
    for operator, version in _clauses(specifiers):
        clause = _interval(operator, version)
        if clause is None:
            return None
        found = found.meet(clause)
    return found


def relation(allowed: SpecifierSet, wanted: SpecifierSet) -> Literal["within", "apart", "unknown"]:
    """Return whether all versions of ``allowed`` lie in ``wanted``, or none, or neither is shown.

    ``within`` and ``apart`` are proofs for pre-releases too.
    """
    inner, outer = interval(allowed), interval(wanted)
    if inner is None or outer is None or inner.is_empty:
        return "unknown"
    if inner.low is not None and inner.low == inner.high:
        return "within" if wanted.contains(inner.low, prereleases=True) else "apart"
    if inner.meet(outer).is_empty:
        return "apart"
    if not inner.within(outer) or not _shuns(inner, wanted):
        return "unknown"
    for operator, version in _clauses(wanted):
        # Post-releases of its bound do not satisfy an exclusive lower bound.
        if operator == ">" and inner.low is not None:
            same = not inner.low_included and inner.low.public == version
            if not same and not wanted.contains(inner.low, prereleases=True):
                return "unknown"
    return "within"


def _shuns(inner: Interval, wanted: SpecifierSet) -> bool:
    """Whether no version of ``inner`` is one that ``wanted`` excludes by ``!=``."""
    for operator, version in _clauses(wanted):
        if operator != "!=" or version in inner.excluded:
            continue
        hole = _interval("==", version)
        if hole is None or not inner.meet(hole).is_empty:
            return False
    return True


def _clauses(specifiers: SpecifierSet) -> Iterator[tuple[str, str]]:
    for specifier in specifiers:
        if specifier.operator == "~=":
            release = specifier.version.split(".")
            yield ">=", specifier.version
            yield "==", ".".join(_release(release)[:-1]) + ".*"
        else:
            yield specifier.operator, specifier.version


def _release(parts: list[str]) -> list[str]:
    from packaging.version import Version

    return [str(number) for number in Version(".".join(parts)).release]


def _interval(operator: str, text: str) -> Interval | None:
    from packaging.version import Version

    if operator in ("==", "!=") and text.endswith(".*"):
        base = Version(text[:-2])
        after = Version(f"{base.epoch}!{'.'.join(map(str, _following(base.release)))}.dev0")
        if operator == "!=":
            return Interval(excluded=frozenset({text}))
        return Interval(Version(f"{base.public}.dev0"), True, after, False)
    if operator == "===":
        return None
    version = Version(text)
    if operator == "==":
        return Interval(version, True, version, True)
    if operator == "!=":
        return Interval(excluded=frozenset({text}))
    if operator == ">=":
        return Interval(low=version)
    if operator == ">":
        return Interval(low=version, low_included=False)
    if operator == "<=":
        return Interval(high=version)
    if operator == "<":  # leaves out the pre-releases of a final version too
        bound = version if version.is_prerelease else Version(f"{version.public}.dev0")
        return Interval(high=bound, high_included=False)
    return None


def _following(release: tuple[int, ...]) -> tuple[int, ...]:
    return (*release[:-1], release[-1] + 1)


def _low_at_least(inner: Interval, outer: Interval) -> bool:
    if outer.low is None:
        return True
    if inner.low is None:
        return False
    return inner.low > outer.low or (
        inner.low == outer.low and (outer.low_included or not inner.low_included)
    )


def _high_at_most(inner: Interval, outer: Interval) -> bool:
    if outer.high is None:
        return True
    if inner.high is None:
        return False
    return inner.high < outer.high or (
        inner.high == outer.high and (outer.high_included or not inner.high_included)
    )
