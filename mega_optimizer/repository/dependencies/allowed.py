"""Which versions of a package may a service run with? (DESIGN §2, law 8.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    from mega_optimizer.repository.dependencies.model import (
        Dependencies,
        Dependency,
        LockedPackage,
    )

    Resolve = Callable[[Dependencies], Mapping[str, LockedPackage] | Problem]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether what is wanted holds for every version that a service allows, and why.

    ``fails`` says that it does not hold for at least one of them; ``unknown`` that neither can be
    shown. ``place`` is where the deciding version is written, if it is.
    """

    answer: Literal["holds", "fails", "unknown"]
    why: str
    place: Place | None = None


def holds(
    dependencies: Dependencies, package: str, wanted: SpecifierSet, resolve: Resolve | None = None
) -> Verdict:
    """Say whether ``wanted`` holds for every version of ``package`` that the service allows.

    Locked versions decide, all of them where a lock forks. Without a lock the declared range
    decides where it lies wholly inside or outside of ``wanted``, else what ``resolve`` would
    install today. What comes from a URL, a version control system, a path or an index of the
    project's own is unknown unless its range is enough.
    """
    from packaging.utils import canonicalize_name

    name = canonicalize_name(package)
    locked = dependencies.locked.get(name)
    if locked:
        return _locked(locked, wanted)
    declared = dependencies.declared(name)
    if verdict := _ranges(dependencies, declared, wanted):
        return verdict
    worded = "; ".join(_worded(entry) for entry in declared) or f"{name} is not pinned"
    place = declared[0].place if declared else None
    strange = next((entry for entry in declared if entry.origin != "index"), None)
    if strange is not None:
        return Verdict("unknown", f"{name} comes from a {strange.origin} ({strange.place})", place)
    if own := next((entry for entry in dependencies.manifests if entry.own_index), None):
        return Verdict("unknown", f"{worded}; {own.path} names a package index of its own", place)
    if resolve is None:
        return Verdict("unknown", f"{worded}; no resolver was asked", place)
    resolution = resolve(dependencies)
    if isinstance(resolution, Problem):
        return Verdict("unknown", f"{worded}; the resolver says: {resolution.message}", place)
    found = resolution.get(name)
    if found is None:
        return Verdict("unknown", f"{name} is not among what would be installed", place)
    fits = wanted.contains(found.version, prereleases=True)
    why = f"{worded}; the resolver would install {found.version}"
    return Verdict("holds" if fits else "fails", why, place)


def pinned_version(specifier: SpecifierSet) -> Version | None:
    """Return the one version that ``==`` or ``===`` allows, else None."""
    from packaging.version import InvalidVersion, Version

    clauses = list(specifier)
    exact = [clause for clause in clauses if clause.operator in ("==", "===")]
    if len(exact) != 1 or exact[0].version.endswith(".*"):
        return None
    try:
        return Version(exact[0].version)
    except InvalidVersion:
        return None


def _locked(locked: tuple[LockedPackage, ...], wanted: SpecifierSet) -> Verdict:
    outside = [one for one in locked if not wanted.contains(one.version, prereleases=True)]
    shown = outside or list(locked)
    words = []
    for one in shown:
        where = f" ({one.place})" if one.place else ""
        words.append(f"{one.name} {one.version}{where}")
    why = ", ".join(dict.fromkeys(words))
    return Verdict("fails" if outside else "holds", why, shown[0].place)


def _ranges(
    dependencies: Dependencies, declared: tuple[Dependency, ...], wanted: SpecifierSet
) -> Verdict | None:
    """Return what the declared ranges alone prove, None where they prove nothing."""
    from packaging.specifiers import SpecifierSet

    from mega_optimizer.repository.dependencies.intervals import relation

    if not declared:
        return None
    name = declared[0].name
    common = SpecifierSet()
    bounds = [entry for entry in dependencies.constraints if entry.name == name]
    for entry in (*declared, *bounds):
        if entry.marker is None:
            common &= entry.specifier
    forks = [entry for entry in declared if entry.marker is not None] or [declared[0]]
    if any(entry.marker is None for entry in declared):
        forks = [entry for entry in declared if entry.marker is None][:1] + [
            entry for entry in forks if entry.marker is not None
        ]
    answers = [relation(common & entry.specifier, wanted) for entry in forks]
    why = "; ".join(_worded(entry) for entry in forks)
    if all(answer == "within" for answer in answers):
        return Verdict("holds", why, forks[0].place)
    if "apart" in answers:
        fork = forks[answers.index("apart")]
        return Verdict("fails", _worded(fork), fork.place)
    return None


def _worded(entry: Dependency) -> str:
    text = str(entry.specifier)
    if not text:
        return f"{entry.name} is not pinned ({entry.place})"
    return f"{entry.name}{_ordered(entry.specifier)} ({entry.place})"


def _ordered(specifier: SpecifierSet) -> str:
    """Word a specifier set as people do: the lower bound first."""
    order = {">=": 0, ">": 0, "~=": 0, "==": 0, "===": 0, "!=": 1, "<": 2, "<=": 2}
    return ",".join(
        str(clause) for clause in sorted(specifier, key=lambda one: (order[one.operator], str(one)))
    )
