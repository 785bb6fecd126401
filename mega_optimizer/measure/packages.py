"""The Python packages that an image installs, as parts of it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.measure.evidence import Figure, Part, unknown, unknown_part
from mega_optimizer.measure.unpacked import SOURCE, layer_bytes
from mega_optimizer.measure.wheels import platform_of, wheel_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.measure.wheels import Platform
    from mega_optimizer.repository.dependencies.model import Dependencies, LockedPackage


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """A package as a part of an image, and the size of the wheel that is downloaded for it."""

    part: Part
    wheel: Figure


def installed_packages(
    image: str | None,
    dependencies: Dependencies,
    resolved: Mapping[str, LockedPackage] | None,
    is_compiled: bool,
) -> tuple[InstalledPackage, ...]:
    """Return the packages that an image based on ``image`` installs.

    Their sizes come from those of the wheels that pip would choose there. ``is_compiled`` says
    whether the installer compiles bytecode.
    """
    platform = platform_of(image) if image else None
    if platform is None:
        why = "The base image does not say which Python and C library the wheels are for"
        return (_unknown("Python packages", why),)
    return tuple(_packages(platform, dependencies, resolved, is_compiled))


def _packages(
    platform: Platform,
    dependencies: Dependencies,
    resolved: Mapping[str, LockedPackage] | None,
    is_compiled: bool,
) -> Iterator[InstalledPackage]:
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
            yield _package(name, fitting, platform, source, is_compiled)
    for name in sorted(_declared(dependencies, platform) - set(chosen)):
        yield _unknown(f"package {name}", "No lock or resolution says which version")
    if resolved is None and not _is_complete(dependencies):
        yield _unknown("packages that these draw in", "No lock or resolution names them")


def _package(
    name: str,
    packages: list[LockedPackage],
    platform: Platform,
    source: str,
    is_compiled: bool,
) -> InstalledPackage:
    title = f"package {name}"
    if len(packages) > 1:
        return _unknown(title, "The lock allows several versions")
    wheel = wheel_for(packages[0], platform)
    if wheel is None and packages[0].wheel_bytes:
        return _unknown(title, "No wheel fits: it is built from source")
    if wheel is None:
        return _unknown(title, "No lock file gives its wheel sizes")
    compressed, on_disk = layer_bytes(*wheel, is_compiled)
    by = f"{source}, times {SOURCE}"
    part = Part(
        title,
        Figure(compressed, "bytes compressed", source=by),
        Figure(on_disk, "bytes on disk", source=by),
    )
    return InstalledPackage(part, Figure(wheel[1], "bytes compressed", source=source))


def _unknown(name: str, why: str) -> InstalledPackage:
    return InstalledPackage(unknown_part(name, why), unknown("bytes compressed", why))


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
