"""Poetry's version constraints and tables ("Dependency specification", Poetry documentation)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mega_optimizer.repository.dependencies.model import Dependency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from packaging.specifiers import SpecifierSet

    from mega_optimizer.repository.place import Place

CLAUSE = re.compile(r"\s*(\^|~(?!=)|===|==|~=|!=|>=|<=|>|<|=)?\s*([^\s,]+)")


def poetry_specifier(text: str) -> SpecifierSet | None:
    """Return a Poetry constraint as a specifier set; None for unions and what cannot be read."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    text = text.strip()
    if "|" in text:
        return None
    clauses: list[str] = []
    for operator, version in CLAUSE.findall(text):
        if version == "*":
            continue
        try:
            clauses += _clauses(operator, version)
        except InvalidVersion:
            return None
    try:
        return SpecifierSet(",".join(clauses))
    except InvalidSpecifier:
        return None


def _clauses(operator: str, version: str) -> list[str]:
    from packaging.version import Version

    if operator == "^":
        release = Version(version).release
        pivot = next((at for at, part in enumerate(release) if part), len(release) - 1)
        return [f">={version}", f"<{_next(release, pivot)}"]
    if operator == "~":
        release = Version(version).release
        return [f">={version}", f"<{_next(release, min(1, len(release) - 1))}"]
    return [f"{'==' if operator in ('', '=') else operator}{version}"]


def _next(release: tuple[int, ...], pivot: int) -> str:
    return ".".join(map(str, (*release[:pivot], release[pivot] + 1)))


def table_dependencies(
    table: dict[str, Any], place_of: Callable[[str], Place], group: str
) -> Iterator[Dependency | str]:
    """Yield the dependencies of a table in the manner of Poetry and Pipenv.

    The name of an entry that cannot be read is yielded as it stands. ``optional`` ones belong to
    the group ``optional``. The entry ``python`` is none.
    """
    for name, value in table.items():
        if name.lower() == "python":
            continue
        for entry in value if isinstance(value, list) else [value]:
            yield _entry(name, entry, place_of(name), group) or name


def _entry(name: str, entry: object, place: Place, group: str) -> Dependency | None:
    from packaging.markers import InvalidMarker, Marker
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    table: dict[str, Any] = entry if isinstance(entry, dict) else {"version": entry}
    version, marker = table.get("version", "*"), table.get("markers")
    extras = table.get("extras", ())
    if not isinstance(version, str) or not isinstance(extras, list | tuple):
        return None
    origin = origin_of(table)
    specifier = poetry_specifier(version)
    if specifier is None and origin == "index":
        return None
    try:
        parsed = Marker(marker) if isinstance(marker, str) and marker else None
    except InvalidMarker:
        return None
    return Dependency(
        canonicalize_name(name),
        specifier if specifier is not None else SpecifierSet(),
        place,
        frozenset(map(str, extras)),
        parsed,
        origin,
        group or ("optional" if table.get("optional") is True else ""),
    )


def origin_of(table: dict[str, Any]) -> Literal["index", "url", "vcs", "path"]:
    """Return where a table entry comes from; a package of a named index counts as ``url``."""
    if "git" in table:
        return "vcs"
    if "path" in table or table.get("workspace") is True:
        return "path"
    named = table.get("index") or table.get("source")
    if "url" in table or "file" in table or (named and named != "pypi"):
        return "url"
    return "index"
