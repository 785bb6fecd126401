"""The Python packages that an image installs, as parts of it."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from mega_optimizer.measure.evidence import Figure, Part, unknown, unknown_part
from mega_optimizer.measure.wheels import platform_of, wheel_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.measure.wheels import Platform
    from mega_optimizer.repository.dependencies.model import Dependencies, LockedPackage

_UNPACKED = "No source says how large a wheel is once it is unpacked and compiled"


def package_parts(
    image: str | None, dependencies: Dependencies, resolved: Mapping[str, LockedPackage] | None
) -> tuple[Part, ...]:
    """Return one part for each package that an image based on ``image`` installs.

    The compressed size is that of the wheel that pip would choose there; the bytecode that pip
    compiles comes on top of it.
    """
    platform = platform_of(image) if image else None
    if platform is None:
        why = "The base image does not say which Python and C library the wheels are for"
        return (unknown_part("Python packages", why),)
    return tuple(_parts(platform, dependencies, resolved))


def _parts(
    platform: Platform, dependencies: Dependencies, resolved: Mapping[str, LockedPackage] | None
) -> Iterator[Part]:
    chosen: Mapping[str, tuple[LockedPackage, ...]]
    if resolved is not None:
        chosen = {name: (package,) for name, package in resolved.items()}
        source = "wheel sizes of the resolution"
    else:
        chosen = dependencies.locked
        locks = {manifest.lock for manifest in dependencies.manifests if manifest.lock}
        names = ", ".join(sorted(map(posixpath.basename, locks))) or "the requirements"
        source = f"wheel sizes in {names}"
    for name, versions in sorted(chosen.items()):
        fitting = [package for package in versions if _is_installed(package, platform)]
        if fitting:
            yield _part(name, fitting, platform, source)
    for name in sorted(_declared(dependencies, platform) - set(chosen)):
        yield unknown_part(f"package {name}", "No lock or resolution says which version")
    if resolved is None and not _is_complete(dependencies):
        yield unknown_part("packages that these draw in", "No lock or resolution names them")


def _part(name: str, packages: list[LockedPackage], platform: Platform, source: str) -> Part:
    on_disk = unknown("bytes on disk", _UNPACKED)
    if len(packages) > 1:
        compressed = unknown("bytes compressed", "The lock allows several versions")
    elif wheel := wheel_for(packages[0], platform):
        compressed = Figure(wheel[1], "bytes compressed", source=source)
    elif packages[0].wheel_bytes:
        compressed = unknown("bytes compressed", "No wheel fits: it is built from source")
    else:
        compressed = unknown("bytes compressed", "No lock file gives its wheel sizes")
    return Part(f"package {name}", compressed, on_disk)


def _is_installed(package: LockedPackage, platform: Platform) -> bool:
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName

    if package.marker is None:
        return True
    try:
        return package.marker.evaluate(_environment(platform))
    except (UndefinedComparison, UndefinedEnvironmentName):
        return True


def _declared(dependencies: Dependencies, platform: Platform) -> set[str]:
    return {
        entry.name
        for manifest in dependencies.manifests
        for entry in manifest.dependencies
        if not entry.group
        and (entry.marker is None or entry.marker.evaluate(_environment(platform)))
    }


def _is_complete(dependencies: Dependencies) -> bool:
    """Whether lock files name all that is installed, not only what the manifests declare."""
    return all(
        manifest.lock is not None or manifest.compiled
        for manifest in dependencies.manifests
        if manifest.dependencies
    )


def _environment(platform: Platform) -> dict[str, str]:
    version = f"3.{platform.minor}"
    return {
        "extra": "",
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": "linux",
    }
