"""The dependency model: declarations, locks, and the versions that they allow."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.markers import Marker
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    from mega_optimizer.repository.place import Place, Problem

ManifestKind = Literal[
    "requirements", "pep621", "poetry", "pdm", "pipfile", "setup.cfg", "conda", "dockerfile"
]


@dataclass(frozen=True, slots=True)
class Dependency:
    """One declared requirement, as a manifest words it.

    ``name`` is normalised (PEP 503). ``origin`` is ``index`` for what a package index serves by
    name; ``url``, ``vcs`` and ``path`` have no version that can be known here. ``group`` is ``""``
    for what the service runs with, else the name of the extra or group (``dev``, ``test``).
    """

    name: str
    specifier: SpecifierSet
    place: Place
    extras: frozenset[str] = frozenset()
    marker: Marker | None = None
    origin: Literal["index", "url", "vcs", "path"] = "index"
    group: str = ""
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """One file that declares dependencies.

    ``compiled_from`` is the ``.in`` file that a compiled requirements file was made from, where
    that exists; ``lock`` the lock file that pins it; ``includes`` what it draws in by ``-r``,
    ``constraints`` by ``-c``, ``folders`` the local projects that it installs. ``own_index`` says
    that it names a package index of its own. ``problems`` are the lines that could not be read.
    """

    path: str
    kind: ManifestKind
    dependencies: tuple[Dependency, ...] = ()
    compiled: bool = False
    compiled_from: str | None = None
    lock: str | None = None
    includes: tuple[str, ...] = ()
    own_index: bool = False
    constraints: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    requires_python: SpecifierSet | None = None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """A package that a lock file pins.

    ``wheel_bytes`` maps wheel file names to sizes in bytes, as far as the lock has sizes;
    ``wheels`` are the names of all wheels, ``lists_wheels`` says whether the lock names files.
    """

    name: str
    version: Version
    wheel_bytes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    marker: Marker | None = None
    place: Place | None = None
    wheels: frozenset[str] = frozenset()
    lists_wheels: bool = False


@dataclass(frozen=True, slots=True)
class Dependencies:
    """All dependencies of one service, from all manifests it installs.

    ``locked`` holds every version of a package that the lock files allow (several where markers
    fork the lock). ``requires_python`` is the declared range of interpreters, where there is one.
    ``constraints`` bound what may be installed (``-c``) without installing it.
    """

    manifests: tuple[Manifest, ...] = ()
    locked: Mapping[str, tuple[LockedPackage, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    requires_python: SpecifierSet | None = None
    problems: tuple[Problem, ...] = ()
    constraints: tuple[Dependency, ...] = ()

    def declared(self, name: str) -> tuple[Dependency, ...]:
        """Return the run-time declarations of ``name`` (normalised), without other groups."""
        return tuple(
            dependency
            for manifest in self.manifests
            for dependency in manifest.dependencies
            if dependency.name == name and not dependency.group
        )

    def __contains__(self, name: object) -> bool:
        """Whether the service installs ``name`` (normalised): declared, or pinned by its lock."""
        return isinstance(name, str) and (bool(self.declared(name)) or name in self.locked)
