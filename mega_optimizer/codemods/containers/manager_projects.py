"""What uv, poetry and pipenv do with the project whose manifest they read.

https://docs.astral.sh/uv/concepts/projects/config/#project-packaging and
https://python-poetry.org/docs/basic-usage/#operating-modes
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dependencies.locks import UvLock, read_uv_lock
from mega_optimizer.repository.dependencies.model import Manifest
from mega_optimizer.repository.dependencies.read import read_manifest
from mega_optimizer.repository.dependencies.toml import load_toml
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from mega_optimizer.codemods.containers.installs import Install
    from mega_optimizer.codemods.context import Context


def reads_project(context: Context, manifest: str, install: Install) -> bool | Skip:
    """Return whether ``install`` reads the code of the project beside its manifest.

    ``manifest`` is the pyproject.toml or Pipfile in the repository. Skip codes: ``local-path``
    for packages that it names by their folder, and those of a manifest that cannot be read.
    """
    parsed = read_manifest(context.files, manifest)
    if isinstance(parsed, Problem) and parsed.code != "no-dependencies":
        return Skip(Place(manifest, parsed.line), parsed.code, parsed.message)
    entries = parsed.dependencies if isinstance(parsed, Manifest) else ()
    for entry in entries:
        if entry.origin == "path":
            return Skip(entry.place, "local-path", f"{entry.name} is named by its folder")
    if install.tool == "pipenv":
        return False
    content = context.read(manifest)
    document = load_toml(manifest, content) if isinstance(content, bytes) else content
    if isinstance(document, Problem):
        return Skip(Place(manifest, document.line), document.code, document.message)
    uv = _table(document, "tool", "uv")
    # Of a workspace all members are read, wherever they are.
    if install.tool == "uv-sync" and ("workspace" in uv or _has_members(context, manifest)):
        return True
    # Without a static list of dependencies the build backend is asked for it.
    dynamic = _table(document, "project").get("dynamic", [])
    if {"dependencies", "optional-dependencies"} & set(map(str, dynamic)):
        return True
    return install.with_project and is_package(document, install.tool)


def is_package(document: dict[str, Any], tool: str) -> bool:
    """Whether the project of a pyproject.toml is installed beside its dependencies."""
    if tool == "poetry":
        return _table(document, "tool", "poetry").get("package-mode", True) is not False
    package = _table(document, "tool", "uv").get("package")
    return package if isinstance(package, bool) else "build-system" in document


def _has_members(context: Context, manifest: str) -> bool:
    """Whether the lock holds more projects than the one beside it."""
    path = posixpath.join(posixpath.dirname(manifest), "uv.lock")
    content = context.read(path) if path in context.files else b""
    lock = read_uv_lock(path, content) if content and isinstance(content, bytes) else None
    return isinstance(lock, UvLock) and (
        len(lock.members) > 1 or not lock.sources.isdisjoint({"path", "directory"})
    )


def _table(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        inner = document.get(key)
        document = inner if isinstance(inner, dict) else {}
    return document


def script_names(context: Context) -> frozenset[str]:
    """Return the programs that the projects of the service declare."""
    found: set[str] = set()
    for manifest in context.dependencies.manifests:
        if posixpath.basename(manifest.path) != "pyproject.toml":
            continue
        content = context.read(manifest.path)
        document = load_toml(manifest.path, content) if isinstance(content, bytes) else content
        if isinstance(document, dict):
            found |= _table(document, "project", "scripts").keys()
            found |= _table(document, "tool", "poetry", "scripts").keys()
    return frozenset(found)
