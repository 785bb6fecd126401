"""Read the dependencies of a service: its manifests, what they include, and their locks."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mega_optimizer.repository.dependencies.model import Dependencies, LockedPackage, Manifest
from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.specifiers import SpecifierSet

    from mega_optimizer.repository.dependencies.locks import Locked
    from mega_optimizer.repository.dependencies.model import Dependency, ManifestKind
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.service import Service

REQUIREMENTS = re.compile(
    r"(^|/)(([\w.-]*requirements[\w.-]*|constraints)\.(txt|in)|requirements/[\w.-]+\.(txt|in))$"
)
ENVIRONMENT = re.compile(r"(^|/)(conda-)?environment([.-][\w-]+)?\.ya?ml$")
DECLARES = {
    "pyproject.toml": re.compile(
        rb"""(?mx)
        ^\s*\[\s*(project|dependency-groups|tool\.poetry\.(group\.[\w-]+\.)?dependencies)\s*[\].]
        """
    ),
    "setup.cfg": re.compile(rb"(?m)^install_requires\s*="),
}
MAXIMUM_MANIFESTS = 100


def manifest_kind(path: str, content: bytes | None = None) -> ManifestKind | None:
    """Return what kind of manifest ``path`` is, None for other files.

    By its name alone; with ``content``, a pyproject.toml or setup.cfg without dependencies is
    none. A Poetry or PDM project is told from PEP 621 only by :func:`read_manifest`.
    """
    name = posixpath.basename(path)
    if content is not None and name in DECLARES and not DECLARES[name].search(content):
        return None
    if name == "pyproject.toml":
        return "pep621"
    if name == "Pipfile":
        return "pipfile"
    if name == "setup.cfg":
        return "setup.cfg"
    if REQUIREMENTS.search(path) and not name.startswith("constraints"):
        return "requirements"
    return "conda" if ENVIRONMENT.search(path) else None


def read_manifest(files: Files, path: str) -> Manifest | Problem:
    """Return what one manifest declares, without what it includes; or why it cannot be read.

    A file with an unknown name is read as a requirements file.
    """
    from mega_optimizer.repository.dependencies.requirements import read_requirements

    try:
        content = files.read(path)
    except UnreadableFile as error:
        return Problem(path, error.code, error.message)
    kind = manifest_kind(path)
    if kind == "pep621":
        from mega_optimizer.repository.dependencies.pyproject import read_pyproject

        manifest = read_pyproject(path, content)
    elif kind == "pipfile":
        from mega_optimizer.repository.dependencies.pyproject import read_pipfile

        manifest = read_pipfile(path, content)
    elif kind == "setup.cfg":
        from mega_optimizer.repository.dependencies.setup_cfg import read_setup_cfg

        manifest = read_setup_cfg(path, content)
    elif kind == "conda":
        from mega_optimizer.repository.dependencies.conda import read_environment

        manifest = read_environment(path, content)
    else:
        manifest = read_requirements(path, content)
    if isinstance(manifest, Problem):
        return manifest
    source = _compiled_from(files, manifest) if manifest.compiled else None
    return replace(manifest, compiled_from=source, lock=_lock_of(files, manifest))


def read_dependencies(files: Files, service: Service) -> Dependencies:
    """Return everything that the service depends on, in the snapshot ``files``."""
    problems: list[Problem] = []
    manifests = tuple(_manifests(files, service.manifests, problems))
    constraints = tuple(_constraints(files, manifests, problems))
    locked: Locked = {}
    for manifest in manifests:
        problems += manifest.problems
        pins = _lock_pins(files, manifest, problems)
        for name, packages in (*pins.items(), *_pinned(manifest.dependencies)):
            known = locked.get(name, ())
            locked[name] = (*known, *(package for package in packages if package not in known))
    declared = {entry.name for manifest in manifests for entry in manifest.dependencies}
    for name, packages in _pinned(constraints):
        if name in declared and name not in locked:
            locked[name] = packages
    ranges = [found for entry in manifests if (found := entry.requires_python) is not None]
    python: SpecifierSet | None = ranges[0] if ranges else None
    for other in ranges[1:]:
        python = other if python is None else python & other
    return Dependencies(manifests, locked, python, tuple(problems), constraints)


def manifests_of(files: Files, service: Service) -> Iterator[Manifest]:
    """Yield the manifests of a service and what they include, each once."""
    return _manifests(files, service.manifests, [])


def _manifests(files: Files, paths: tuple[str, ...], problems: list[Problem]) -> Iterator[Manifest]:
    """Yield the manifests and what they include, each once."""
    seen: set[str] = set()
    waiting = list(paths)
    while waiting and len(seen) < MAXIMUM_MANIFESTS:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        manifest = read_manifest(files, path)
        if isinstance(manifest, Problem):
            if manifest.code != "no-dependencies":
                problems.append(manifest)
            continue
        waiting[:0] = [*manifest.includes, *_local_manifests(files, manifest)]
        yield manifest


def _local_manifests(files: Files, manifest: Manifest) -> Iterator[str]:
    for folder in manifest.folders:
        for name in ("pyproject.toml", "setup.cfg"):
            path = posixpath.normpath(posixpath.join(folder, name))
            if path in files:
                yield path


def _constraints(
    files: Files, manifests: tuple[Manifest, ...], problems: list[Problem]
) -> Iterator[Dependency]:
    seen: set[str] = set()
    waiting = [path for manifest in manifests for path in manifest.constraints]
    while waiting and len(seen) < MAXIMUM_MANIFESTS:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        found = read_manifest(files, path)
        if isinstance(found, Problem):
            problems.append(found)
            continue
        problems += found.problems
        waiting += [*found.constraints, *found.includes]
        yield from found.dependencies


def _compiled_from(files: Files, manifest: Manifest) -> str | None:
    """Find the input of a compiled file: beside it, else from the root of the repository."""
    worded = manifest.compiled_from
    if worded is None:
        return None
    folder = posixpath.dirname(manifest.path)
    candidates = (
        posixpath.join(folder, worded),
        worded,
        posixpath.join(folder, posixpath.basename(worded)),
        posixpath.join(folder, posixpath.basename(manifest.path).removesuffix(".txt") + ".in"),
    )
    normal = (posixpath.normpath(path) for path in candidates)
    return next((path for path in normal if path in files and path != manifest.path), None)


def _lock_of(files: Files, manifest: Manifest) -> str | None:
    """Return the lock file that pins a manifest."""
    folder = posixpath.dirname(manifest.path)
    if manifest.kind == "pipfile":
        names = ["Pipfile.lock"]
    elif manifest.kind in ("pep621", "pdm"):
        names = ["uv.lock", "pdm.lock", "poetry.lock"]
    elif manifest.kind == "poetry":
        names = ["poetry.lock", "uv.lock"]
    elif manifest.path.endswith(".in"):
        return _compiled_output(files, manifest.path)
    else:
        return None
    beside = next((path for name in names if (path := posixpath.join(folder, name)) in files), None)
    if beside is not None or "uv.lock" not in names:
        return beside
    return _workspace_lock(files, folder)


def _compiled_output(files: Files, path: str) -> str | None:
    from mega_optimizer.repository.dependencies.requirements import read_requirements

    output = path.removesuffix(".in") + ".txt"
    try:
        manifest = read_requirements(output, files.read(output))
    except UnreadableFile:
        return None
    return output if isinstance(manifest, Manifest) and manifest.compiled else None


def _workspace_lock(files: Files, folder: str) -> str | None:
    """Return the uv.lock of a folder above that has ``folder`` as a member."""
    from mega_optimizer.repository.dependencies.locks import UvLock, read_uv_lock

    above = folder
    while above:
        above = posixpath.dirname(above)
        path = posixpath.join(above, "uv.lock")
        if path not in files:
            continue
        try:
            lock = read_uv_lock(path, files.read(path))
        except UnreadableFile:
            return None
        member = posixpath.relpath(folder, above or ".")
        return path if isinstance(lock, UvLock) and member in lock.members else None
    return None


def _lock_pins(files: Files, manifest: Manifest, problems: list[Problem]) -> Locked:
    from mega_optimizer.repository.dependencies import locks

    path = manifest.lock
    if path is None:
        return {}
    try:
        content = files.read(path)
    except UnreadableFile as error:
        problems.append(Problem(path, error.code, error.message))
        return {}
    name = posixpath.basename(path)
    pins: Locked | Problem
    if name == "uv.lock":
        lock = locks.read_uv_lock(path, content)
        if isinstance(lock, locks.UvLock):
            folder = posixpath.relpath(
                posixpath.dirname(manifest.path) or ".", posixpath.dirname(path) or "."
            )
            members = lock.installed("" if folder == "." else folder)
            pins = dict(lock.packages) if members is None else members
        else:
            pins = lock
    elif name == "Pipfile.lock":
        pins = locks.read_pipfile_lock(path, content)
    elif name in ("poetry.lock", "pdm.lock"):
        pins = locks.read_group_lock(path, content)
    else:
        compiled = read_manifest(files, path)
        pins = dict(_pinned(compiled.dependencies)) if isinstance(compiled, Manifest) else compiled
    if isinstance(pins, Problem):
        if pins not in problems:
            problems.append(pins)
        return {}
    return pins


def _pinned(
    dependencies: tuple[Dependency, ...],
) -> Iterator[tuple[str, tuple[LockedPackage, ...]]]:
    """Yield the packages that requirements files pin with ``==``, by name."""
    from mega_optimizer.repository.dependencies.allowed import pinned_version

    pins: Locked = {}
    for entry in dependencies:
        is_line = manifest_kind(entry.place.path) in ("requirements", None)
        version = pinned_version(entry.specifier) if is_line and not entry.group else None
        if version is not None and entry.origin == "index":
            package = LockedPackage(entry.name, version, marker=entry.marker, place=entry.place)
            pins[entry.name] = (*pins.get(entry.name, ()), package)
    yield from pins.items()
