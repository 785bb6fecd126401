"""Whether everything that an image installs comes as wheels for its C library and platforms.

Lock files that name their files prove it by themselves (uv.lock, poetry.lock); else the index is
asked, through uv. https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.containers.platforms import architectures
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.tags import Tag

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dependencies.model import LockedPackage

Library = Literal["glibc", "musl"]
# What uv is to resolve for: Debian 11 has glibc 2.31, Alpine 3.19 and later musl 1.2.
_PLATFORMS = {"glibc": "{}-manylinux_2_31", "musl": "{}-unknown-linux-musl"}
_OLDEST_GLIBC, _NEWEST_MUSL = 31, 2
# Locks name them without saying that they are never installed on Linux.
_NOT_ON_LINUX = ("pywin32", "pywinpty", "pyobjc", "appnope", "win32-setctime", "pyreadline")
# Never had a wheel, and nothing in them is compiled: their sdists hold Python alone, and require
# nothing else that would be (looked into in November 2026).
PURE_SDISTS = frozenset({"docopt", "jieba", "odfpy", "sgmllib3k", "uuid", "wget"})


@dataclass(frozen=True, slots=True)
class Target:
    """What the wheels must fit: ``X.Y`` of Python, the C library, the architectures."""

    python: str
    library: Library
    architectures: tuple[str, ...]


def target_of(context: Context, minor: int, library: Library) -> Target:
    """Return the target of an image with Python 3.``minor``."""
    return Target(f"3.{minor}", library, architectures(context))


def wheel_obstacle(
    context: Context, inline: Sequence[str], target: Target, place: Place
) -> Skip | None:
    """Return why not all is shown to come as wheels; None where it is.

    ``inline`` are requirements that commands name beside the manifests of the service.
    """
    dependencies = context.dependencies
    if dependencies.problems:
        problem = dependencies.problems[0]
        reason = f"{problem.path}: {problem.message}"
        return Skip(Place(problem.path, problem.line), "manifest-unreadable", reason)
    for manifest in dependencies.manifests:
        for entry in manifest.dependencies:
            if entry.origin != "index" and not entry.group:
                reason = f"{entry.name} comes from a {entry.origin}: it may have to be compiled"
                return Skip(entry.place, "not-from-an-index", reason)
    locked = _fitting_lock(context, inline)
    if locked is not None:
        lacking = [one for one in locked if not _has_wheel(one, target)]
        return _lacking(lacking[0].name, target, lacking[0].place or place) if lacking else None
    return _index_obstacle(context, inline, target, place)


def _fitting_lock(context: Context, inline: Sequence[str]) -> list[LockedPackage] | None:
    """Return all packages of the lock, if it names the files of everything that is installed."""
    dependencies = context.dependencies
    declared = {
        entry.name
        for manifest in dependencies.manifests
        for entry in manifest.dependencies
        if not entry.group
    }
    locked = [one for packages in dependencies.locked.values() for one in packages]
    complete = all(one.lists_wheels for one in locked) and declared <= dependencies.locked.keys()
    return locked if locked and complete and not inline else None


def _has_wheel(package: LockedPackage, target: Target) -> bool:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    if package.name in PURE_SDISTS or package.name.startswith(_NOT_ON_LINUX):
        return True
    if not _applies(package, target):
        return True
    found: set[Tag] = set()
    for name in package.wheels:
        try:
            found |= parse_wheel_filename(name)[3]
        except InvalidWheelFilename:
            continue
    return all(
        not found.isdisjoint(_tags(target.python, target.library, architecture))
        for architecture in target.architectures
    )


def _applies(package: LockedPackage, target: Target) -> bool:
    if package.marker is None:
        return True
    from packaging.markers import UndefinedEnvironmentName

    linux = {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "python_version": target.python,
        "python_full_version": f"{target.python}.0",
        "extra": "",
    }
    try:
        return any(
            package.marker.evaluate({**linux, "platform_machine": machine})
            for machine in target.architectures
        )
    except UndefinedEnvironmentName:
        return True


@cache
def _tags(python: str, library: Library, architecture: str) -> frozenset[Tag]:
    from packaging import tags

    if library == "glibc":
        platforms = [f"manylinux_2_{n}_{architecture}" for n in range(_OLDEST_GLIBC, 4, -1)]
        platforms += [f"manylinux{name}_{architecture}" for name in ("2014", "2010", "1")]
        platforms.append(f"linux_{architecture}")
    else:
        platforms = [f"musllinux_1_{n}_{architecture}" for n in range(_NEWEST_MUSL, -1, -1)]
    version = (3, int(python.removeprefix("3.")))
    name = f"cp3{version[1]}"
    return frozenset(
        (
            *tags.cpython_tags(version, [name], platforms),
            *tags.compatible_tags(version, name, platforms),
        )
    )


def _lacking(name: str, target: Target, place: Place) -> Skip:
    library = "musl, the C library of Alpine" if target.library == "musl" else "glibc"
    machines = " and ".join(target.architectures)
    reason = f"{name} has no wheel for Python {target.python} on {library} ({machines})"
    return Skip(place, "no-wheel", reason)


def _index_obstacle(
    context: Context, inline: Sequence[str], target: Target, place: Place
) -> Skip | None:
    own = next((each for each in context.dependencies.manifests if each.own_index), None)
    if own is not None:
        reason = f"{own.path} names a package index of its own, which is not asked"
        return Skip(Place(own.path), "own-index", reason)
    if context.index is None:
        reason = "no lock file names the wheels of its packages, and no index was asked"
        return Skip(place, "wheels-unknown", reason)
    for architecture in target.architectures:
        answer = _asked(context, inline, target, architecture)
        if isinstance(answer, Problem):
            return Skip(place, "wheels-unknown", f"the resolver says: {answer.message}")
        lacking = [name for name in answer[1] if name not in PURE_SDISTS]
        if lacking:
            return _lacking(lacking[0], target, place)
    return None


def _asked(
    context: Context, inline: Sequence[str], target: Target, architecture: str
) -> tuple[Mapping[str, LockedPackage], tuple[str, ...]] | Problem:
    """Return what the index has for one architecture.

    For musl, versions are those that glibc gets: else uv would go back to an old release that
    happens to have a wheel.
    """
    assert context.index is not None
    bounds = tuple(
        f"{name}=={packages[0].version}"
        for name, packages in context.dependencies.locked.items()
        if len(packages) == 1 and packages[0].marker is None
    )
    platform = _PLATFORMS["glibc"].format(architecture)
    ask = context.index.wheels
    answer = ask(
        context.dependencies, python=target.python, platform=platform, add=inline, bounds=bounds
    )
    if isinstance(answer, Problem) or target.library == "glibc" or answer[1]:
        return answer
    same = tuple(f"{name}=={one.version}" for name, one in answer[0].items())
    platform = _PLATFORMS["musl"].format(architecture)
    return ask(
        context.dependencies, python=target.python, platform=platform, add=inline, bounds=same
    )
