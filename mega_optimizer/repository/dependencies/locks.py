"""Lock files: uv.lock, poetry.lock, pdm.lock and Pipfile.lock."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mega_optimizer.repository.dependencies.model import LockedPackage
from mega_optimizer.repository.dependencies.toml import MAXIMUM_BYTES, load_toml
from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.markers import Marker
    from packaging.version import Version

Locked = dict[str, tuple[LockedPackage, ...]]

PACKAGE = re.compile(rb"^\[\[package\]\][ \t]*\r?\n", re.MULTILINE)
MAIN_GROUPS = {"main", "default"}


@dataclass(frozen=True, slots=True)
class UvLock:
    """A uv.lock: its packages, what each draws in, and its members (folder → name).

    Folders are relative to the lock file; ``""`` is its own. ``sources`` are the kinds of source
    that occur (``registry``, ``editable``, ``git`` …).
    """

    packages: Mapping[str, tuple[LockedPackage, ...]]
    requires: Mapping[str, frozenset[str]]
    members: Mapping[str, str]
    sources: frozenset[str]

    def installed(self, folder: str) -> Locked | None:
        """Return what the member in ``folder`` runs with, all its extras included, no groups.

        None where the lock has no such member.
        """
        if folder not in self.members:
            return None
        reached: set[str] = set()
        waiting = [self.members[folder]]
        while waiting:
            name = waiting.pop()
            if name not in reached:
                reached.add(name)
                waiting += self.requires.get(name, ())
        return {name: self.packages[name] for name in sorted(reached) if name in self.packages}


@by_content(8)
def read_uv_lock(path: str, content: bytes) -> UvLock | Problem:
    """Return a uv.lock (format: uv documentation, "Resolution → Lockfile")."""
    document = load_toml(path, content)
    if isinstance(document, Problem):
        return document
    packages: dict[str, tuple[LockedPackage, ...]] = {}
    requires: dict[str, set[str]] = {}
    members: dict[str, str] = {}
    sources: set[str] = set()
    for entry, place in _packages(path, content, document):
        name, source = entry.get("name"), entry.get("source")
        if not isinstance(name, str) or not isinstance(source, dict):
            continue
        sources |= source.keys()
        for kind in ("editable", "virtual", "directory"):
            if isinstance(folder := source.get(kind), str):
                members["" if folder == "." else folder] = name
        optional = entry.get("optional-dependencies")
        lists = [
            entry.get("dependencies"),
            *(optional.values() if isinstance(optional, dict) else ()),
        ]
        drawn = {item.get("name") for found in lists for item in _tables(found)}
        requires.setdefault(name, set()).update(filter(None, drawn))
        version = _version(entry.get("version"))
        if version is not None and "registry" in source:
            locked = LockedPackage(
                name,
                version,
                _wheel_bytes(entry),
                _marker(entry),
                place,
                wheels=_wheels(entry.get("wheels")),
                lists_wheels=True,
            )
            packages[name] = (*packages.get(name, ()), locked)
    frozen = {name: frozenset(drawn) for name, drawn in requires.items()}
    return UvLock(packages, frozen, members, frozenset(sources))


@by_content(16)
def read_group_lock(path: str, content: bytes) -> Locked | Problem:
    """Return what a poetry.lock or pdm.lock pins, without what only other groups need."""
    document = load_toml(path, content)
    if isinstance(document, Problem):
        return document
    locked: Locked = {}
    for entry, place in _packages(path, content, document):
        groups = entry.get("groups", [entry.get("category", "main")])
        if isinstance(groups, list) and MAIN_GROUPS.isdisjoint(map(str, groups)):
            continue
        files = entry.get("files")
        _add(locked, entry.get("name"), entry.get("version"), place, _marker(entry), files)
    return locked


@by_content(16)
def read_pipfile_lock(path: str, content: bytes) -> Locked | Problem:
    """Return what the ``default`` section of a Pipfile.lock pins."""
    if len(content) > MAXIMUM_BYTES:
        return Problem(path, "too-large", f"larger than {MAXIMUM_BYTES} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        return Problem(path, "json-error", f"not valid JSON: {str(error)[:120]}")
    default = document.get("default") if isinstance(document, dict) else None
    locked: Locked = {}
    for name, entry in default.items() if isinstance(default, dict) else ():
        offset = max(content.find(f'"{name}": {{'.encode()), 0)
        place = Place(path, content.count(b"\n", 0, offset) + 1)
        version = entry.get("version") if isinstance(entry, dict) else None
        if isinstance(version, str):
            _add(locked, name, version.removeprefix("=="), place, _marker(entry))
    return locked


def _packages(
    path: str, content: bytes, document: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], Place]]:
    """Yield the entries of ``[[package]]`` with their places; without lines if they are odd."""
    entries = _tables(document.get("package"))
    offsets = [match.start() for match in PACKAGE.finditer(content)]
    known = len(offsets) == len(entries)
    line, before = 1, 0
    for index, entry in enumerate(entries):
        if known:
            line += content.count(b"\n", before, offsets[index])
            before = offsets[index]
        yield entry, Place(path, line)


def _add(
    locked: Locked,
    name: object,
    text: object,
    place: Place,
    marker: Marker | None,
    files: object = None,
) -> None:
    from packaging.utils import canonicalize_name

    version = _version(text)
    if isinstance(name, str) and version is not None:
        key = canonicalize_name(name)
        package = LockedPackage(
            key,
            version,
            marker=marker,
            place=place,
            wheels=_wheels(files),
            lists_wheels=isinstance(files, list),
        )
        locked[key] = (*locked.get(key, ()), package)


def _version(text: object) -> Version | None:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(text) if isinstance(text, str) else None
    except InvalidVersion:
        return None


def _marker(entry: dict[str, Any]) -> Marker | None:
    from packaging.markers import InvalidMarker, Marker

    text = entry.get("markers") or entry.get("marker")
    if text is None:
        forks = entry.get("resolution-markers")
        if isinstance(forks, list) and forks:
            text = " or ".join(f"({fork})" for fork in forks)
    try:
        return Marker(text) if isinstance(text, str) else None
    except InvalidMarker:
        return None


def _wheel_bytes(entry: dict[str, Any]) -> Mapping[str, int]:
    sizes: dict[str, int] = {}
    for wheel in _tables(entry.get("wheels")):
        address, size = wheel.get("url") or wheel.get("path") or "", wheel.get("size")
        if isinstance(address, str) and isinstance(size, int):
            sizes[address.rsplit("/", 1)[-1]] = size
    return MappingProxyType(sizes)


def _wheels(files: object) -> frozenset[str]:
    """Return the names of the wheels among the files of a package."""
    names = (
        str(entry.get("file") or entry.get("url") or entry.get("path") or "").rsplit("/", 1)[-1]
        for entry in _tables(files)
    )
    return frozenset(name for name in names if name.endswith(".whl"))


def _tables(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
