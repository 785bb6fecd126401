"""Add requirements to the manifest that a person would edit, in the style it is written in.

The module decides which manifest and whether anything has to be added; how a kind of manifest is
edited stands in ``mega_optimizer.codemods.manifests``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.repository.dependencies.model import Manifest
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.requirements import Requirement

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dependencies.model import Dependencies, Dependency

EDITABLE = ("requirements", "pep621", "pdm", "poetry", "pipfile", "setup.cfg")


def add_requirements(
    context: Context, requirements: Sequence[str], beside: str | None = None
) -> tuple[Edit, ...] | Skip:
    """Return the edits that make the service declare ``requirements`` (PEP 508).

    They go into the manifest that declares ``beside``, into the same extra or group, else into the
    first manifest. What is declared already and satisfies is left alone. A range that overlaps
    with the wanted one satisfies where no lock says otherwise.

    Skip codes: ``no-manifest``, ``dependency-conflict``, ``hashed-requirements``,
    ``manifest-not-editable``, ``manifest-unreadable``.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    dependencies = context.dependencies
    missing: list[Requirement] = []
    for text in requirements:
        requirement = Requirement(text)
        answer = _is_declared(dependencies, requirement)
        if isinstance(answer, Skip):
            return answer
        if not answer:
            missing.append(requirement)
    if not missing:
        return ()
    target = _target(context, beside)
    if isinstance(target, Skip):
        return target
    manifest, neighbour = target
    content = context.read(manifest.path)
    if isinstance(content, Problem):
        return Skip(Place(manifest.path), content.code, content.message)
    # The input of a compiled file may declare what the compiled file does not show yet.
    present = {entry.name for entry in manifest.dependencies if not entry.group}
    missing = [one for one in missing if canonicalize_name(one.name) not in present]
    added = _added(manifest, content, missing, neighbour)
    if isinstance(added, Skip):
        return added
    return (_difference(manifest.path, content, added),) if added != content else ()


def _is_declared(dependencies: Dependencies, requirement: Requirement) -> bool | Skip:
    """Whether the service declares ``requirement`` already, or Skip where it contradicts."""
    from packaging.utils import canonicalize_name

    from mega_optimizer.repository.dependencies.intervals import relation

    name = canonicalize_name(requirement.name)
    for package in dependencies.locked.get(name, ()):
        if not requirement.specifier.contains(package.version, prereleases=True):
            place = package.place or Place(name)
            return Skip(place, "dependency-conflict", f"{name} is locked at {package.version}")
    declared = dependencies.declared(name)
    bounds = [entry for entry in dependencies.constraints if entry.name == name]
    for entry in (*declared, *bounds):
        if relation(entry.specifier, requirement.specifier) == "apart":
            reason = f"{name}{entry.specifier} is declared, {requirement} is needed"
            return Skip(entry.place, "dependency-conflict", reason)
    for entry in declared:
        if not requirement.extras <= entry.extras:
            reason = f"{name} is declared without {', '.join(sorted(requirement.extras))}"
            return Skip(entry.place, "dependency-conflict", reason)
    if not declared or any(_always_applies(entry, requirement) for entry in declared):
        return bool(declared)
    entry = declared[0]
    return Skip(entry.place, "dependency-conflict", f"{name} is declared only for {entry.marker}")


def _always_applies(entry: Dependency, requirement: Requirement) -> bool:
    """Whether a declaration holds on Linux, whatever the version of Python."""
    if entry.marker is None or entry.marker == requirement.marker:
        return True
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    versions = [f"3.{minor}" for minor in range(9, 16)]
    return all(
        entry.marker.evaluate({**linux, "python_version": one, "python_full_version": f"{one}.0"})
        for one in versions
    )


def _target(context: Context, beside: str | None) -> tuple[Manifest, Dependency | None] | Skip:
    """Return the manifest to edit and the declaration to stand beside."""
    from packaging.utils import canonicalize_name

    from mega_optimizer.repository.dependencies.read import read_manifest

    manifests = context.dependencies.manifests
    name = canonicalize_name(beside) if beside else None
    found = None
    for manifest in manifests:
        for entry in manifest.dependencies:
            # A run-time declaration comes before one of an extra or a group.
            if entry.name == name and (found is None or (found[1].group and not entry.group)):
                found = (manifest, entry)
    editable = [manifest for manifest in manifests if manifest.kind in EDITABLE]
    if not manifests and context.dependencies.problems:
        problem = context.dependencies.problems[0]
        return Skip(Place(problem.path, problem.line), "manifest-unreadable", problem.message)
    if not manifests:
        place = Place(context.service.dockerfile or context.service.root or ".")
        return Skip(place, "no-manifest", "no file declares the dependencies of this service")
    manifest = found[0] if found else (editable or list(manifests))[0]
    neighbour = found[1] if found else None
    if manifest.compiled:
        source = manifest.compiled_from
        if source is None:
            hashed = any(entry.hashed for entry in manifest.dependencies)
            code = "hashed-requirements" if hashed else "manifest-not-editable"
            return Skip(Place(manifest.path), code, "compiled from a file that is not here")
        origin = read_manifest(context.files, source)
        if isinstance(origin, Problem):
            return Skip(Place(source, origin.line), "manifest-unreadable", origin.message)
        manifest = origin
        neighbour = next((one for one in origin.dependencies if one.name == name), None)
    return _checked(manifest, neighbour)


def _checked(
    manifest: Manifest, neighbour: Dependency | None
) -> tuple[Manifest, Dependency | None] | Skip:
    place = Place(manifest.path)
    if manifest.kind not in EDITABLE:
        return Skip(place, "manifest-not-editable", f"{manifest.kind} files are not edited")
    if any(entry.hashed for entry in manifest.dependencies):
        return Skip(place, "hashed-requirements", "every line carries hashes, and no .in file does")
    if manifest.problems:
        problem = manifest.problems[0]
        place = Place(manifest.path, problem.line)
        return Skip(place, "manifest-unreadable", problem.message)
    return manifest, neighbour


def _added(
    manifest: Manifest,
    content: bytes,
    requirements: Sequence[Requirement],
    neighbour: Dependency | None,
) -> bytes | Skip:
    """Return the manifest with ``requirements``, one after the other."""
    from mega_optimizer.codemods.manifests import insertion

    place = Place(manifest.path)
    for requirement in requirements:
        edited = insertion(manifest, content, requirement, neighbour)
        if edited is None:
            reason = f"no list of dependencies in it could be extended by {requirement}"
            return Skip(place, "manifest-not-editable", reason)
        content = edited
    return content


def _difference(path: str, before: bytes, after: bytes) -> Edit:
    """Return the one edit between two versions of a file, from its first to its last change."""
    shorter = min(len(before), len(after))
    start = next((at for at in range(shorter) if before[at] != after[at]), shorter)
    same = 0
    while same < shorter - start and before[-1 - same] == after[-1 - same]:
        same += 1
    return Edit(path, start, len(before) - same, after[start : len(after) - same])
