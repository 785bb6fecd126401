"""Refresh a uv.lock with uv itself, on inert copies of the project files.

``uv lock --no-build`` still calls the build backend of the project itself where its metadata is
dynamic (seen with uv 0.13.9). So uv only ever sees copies in which the build backend is replaced
by a name that does not exist, and of which nothing but the static metadata is left.
"""

from __future__ import annotations

import posixpath
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dependencies.locks import read_uv_lock
from mega_optimizer.repository.dependencies.toml import load_toml
from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.engine.resolve import Resolver
    from mega_optimizer.repository.dependencies.model import Manifest
    from mega_optimizer.repository.files import Files

NO_BACKEND = "a_backend_that_does_not_exist"
STAND_IN = "0+dynamic"
LOCAL = {"registry", "editable", "virtual", "directory"}
# What of [tool.uv] decides a resolution. Caches, interpreters, credentials and indexes are not.
RESOLUTION_SETTINGS = {
    "workspace", "sources", "environments", "required-environments", "conflicts", "package",
    "constraint-dependencies", "override-dependencies", "exclude-dependencies",
    "dev-dependencies", "default-groups", "dependency-groups", "managed", "resolution",
    "prerelease", "fork-strategy", "exclude-newer", "exclude-newer-package",
    "dependency-metadata",
}  # fmt: skip
PACKAGE = "[[package]]\n"


def refresh_uv_lock(
    files: Files, manifest: Manifest, changed: Mapping[str, bytes], resolver: Resolver
) -> bytes | Skip:
    """Return the uv.lock of ``manifest`` for the manifests in ``changed``.

    Only new packages and entries whose dependencies change differ from the old one.
    """
    path = manifest.lock or ""
    place = Place(path)
    old = files.read(path)
    lock = read_uv_lock(path, old)
    if isinstance(lock, Problem):
        return Skip(place, "lock-not-refreshable", lock.message)
    if strange := sorted(lock.sources - LOCAL):
        reason = f"it has packages from other sources ({', '.join(strange)})"
        return Skip(place, "lock-not-refreshable", reason)
    registries = set(re.findall(rb'registry = "([^"]*)"', old))
    if manifest.own_index or len(registries) > 1:
        return Skip(place, "lock-not-refreshable", "the project names package indexes of its own")
    inert: dict[str, bytes] = {}
    for folder in lock.members:
        member = posixpath.normpath(
            posixpath.join(posixpath.dirname(path), folder, "pyproject.toml")
        )
        copy = _inert_copy(files, member, changed)
        if isinstance(copy, Skip):
            return copy
        inert[posixpath.normpath(posixpath.join(folder, "pyproject.toml"))] = copy
    if any(name.startswith("..") for name in inert):
        return Skip(place, "lock-not-refreshable", "a member lies outside of the locked folder")
    new = _locked(inert, old, resolver, lowest_ok=_host_fits(manifest))
    if isinstance(new, Problem):
        return Skip(place, "lock-not-refreshable", new.message)
    return _spliced(old, new, place)


def _host_fits(manifest: Manifest) -> bool:
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    return manifest.requires_python is None or manifest.requires_python.contains(version)


def _inert_copy(files: Files, path: str, changed: Mapping[str, bytes]) -> bytes | Skip:
    """Return the static part of a pyproject.toml, with a build backend that cannot run."""
    import tomlkit

    try:
        content = changed[path] if path in changed else files.read(path)
    except UnreadableFile as error:
        return Skip(Place(path), "lock-not-refreshable", error.message)
    document = load_toml(path, content)
    if isinstance(document, Problem):
        return Skip(Place(path), "lock-not-refreshable", document.message)
    project = document.get("project")
    if not isinstance(project, dict):
        return Skip(Place(path), "lock-not-refreshable", "it has no [project] table")
    dynamic = project.pop("dynamic", [])
    if dynamic == ["version"]:
        project["version"] = STAND_IN
    elif dynamic and not set(dynamic).isdisjoint({"dependencies", "optional-dependencies"}):
        return Skip(Place(path), "lock-not-refreshable", "its dependencies are dynamic")
    elif dynamic and "version" in dynamic:
        project["version"] = STAND_IN
    static = {"name", "version", "requires-python", "dependencies", "optional-dependencies"}
    copy: dict[str, Any] = {
        "project": {key: value for key, value in project.items() if key in static}
    }
    if "dependency-groups" in document:
        copy["dependency-groups"] = document["dependency-groups"]
    tool = document.get("tool")
    uv = tool.get("uv", {}) if isinstance(tool, dict) else {}
    kept = {key: value for key, value in uv.items() if key in RESOLUTION_SETTINGS}
    copy["tool"] = {"uv": kept}
    if "build-system" in document or kept.get("package") is True:
        copy["build-system"] = {"requires": [], "build-backend": NO_BACKEND}
    return tomlkit.dumps(copy).encode()


def _locked(
    inert: Mapping[str, bytes], old: bytes, resolver: Resolver, *, lowest_ok: bool
) -> bytes | Problem:
    """Return the uv.lock that uv makes of inert copies and the old lock."""
    with tempfile.TemporaryDirectory(prefix="mega-optimizer-") as name:
        folder = Path(name)
        for path, content in inert.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        (folder / "uv.lock").write_bytes(old)
        python = ["--python", sys.executable] if lowest_ok else []
        answer = resolver.run(["lock", "--no-build", *python], folder)
        return answer if isinstance(answer, Problem) else (folder / "uv.lock").read_bytes()


def _spliced(old: bytes, new: bytes, place: Place) -> bytes | Skip:
    """Return ``old`` with the new packages of ``new`` and its entries of the project itself."""
    ending = "\r\n" if b"\r\n" in old else "\n"
    before = _entries(old.decode().replace("\r\n", "\n"))
    after = _entries(new.decode().replace("\r\n", "\n"))
    head, *_ = before.values()
    names = {_name(entry) for entry in before.values()}
    moved = {_name(entry) for key, entry in before.items() if key not in after}
    moved |= {
        _name(entry) for key, entry in after.items() if key not in before and _name(entry) in names
    }
    if moved:
        return Skip(place, "lock-moves-others", f"these would move: {', '.join(sorted(moved))}")
    if _resolution(head) != _resolution(next(iter(after.values()))):
        return Skip(place, "lock-moves-others", "the environments of the lock would change")
    parts = []
    for key, entry in after.items():
        known = before.get(key)
        if known is not None and (key == "" or _relations(known) == _relations(entry)):
            parts.append(known)  # as it was, whatever a newer uv says about its files
        else:
            parts.append(entry)
    return "".join(parts).replace("\n", ending).encode()


def _entries(text: str) -> dict[str, str]:
    """Return the head (key ``""``) and the packages of a uv.lock, by name, version and source."""
    head, *packages = text.split(PACKAGE)
    entries = {"": head}
    for position, package in enumerate(packages):
        entry = PACKAGE + package.replace(f'version = "{STAND_IN}"\n', "")
        if position == len(packages) - 1 and not entry.endswith("\n\n"):
            entry = entry.rstrip("\n") + "\n"
        key = "\n".join(
            line for line in entry.splitlines()[1:5] if line.startswith(("name =", "version ="))
        )
        entries[key] = entry
    return _evenly(entries)


def _evenly(entries: dict[str, str]) -> dict[str, str]:
    """End every entry but the last with one blank line, so that they can be put in any order."""
    last = list(entries)[-1]
    return {
        key: entry.rstrip("\n") + ("\n" if key == last else "\n\n")
        for key, entry in entries.items()
    }


def _name(entry: str) -> str:
    found = re.search(r'^name = "([^"]*)"', entry, re.MULTILINE)
    return found[1] if found else ""


def _relations(entry: str) -> str:
    """Return what an entry says besides its files."""
    files = r"^sdist = .*$|^wheels = \[[^\]]*\]$"
    return re.sub(files, "", entry, flags=re.MULTILINE)


def _resolution(head: str) -> list[str]:
    """Return what a head says besides the version of the format."""
    return [line for line in head.splitlines() if not line.startswith(("version =", "revision ="))]
