"""Scan a target: from its files to its services, and what of it could not be understood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.repository.index import DiskFiles, scan_files
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.service import Repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.service import Service


def scan(files: Files, repository_name: str) -> Repository:
    """Return the services among ``files``. Reads nothing else, and gives the same every time.

    ``repository_name`` names the service at the root where nothing else does.
    """
    # The parsers are loaded when a scan is run, and not by who imports this module.
    from mega_optimizer.repository.services import link_services
    from mega_optimizer.repository.traits import with_traits
    from mega_optimizer.repository.tree import Tree

    tree = Tree(files)
    # The name of a folder need not be UTF-8, that of a service goes into reports.
    name = repository_name.encode("utf-8", "replace").decode()
    services, problems = link_services(tree, name)
    problems += _unreadable_manifests(files, services)
    return Repository(
        services=with_traits(tree, services),
        problems=tuple(sorted(problems, key=lambda problem: (problem.path, problem.line))),
    )


def _unreadable_manifests(files: Files, services: Iterable[Service]) -> Iterator[Problem]:
    from mega_optimizer.repository.dependencies.read import read_manifest

    for path in sorted({path for service in services for path in service.manifests}):
        manifest = read_manifest(files, path)
        if isinstance(manifest, Problem):
            yield manifest


def open_repository(root: Path, exclude: Sequence[str] = ()) -> tuple[DiskFiles, Repository]:
    """List the files below ``root`` and scan them; the problems of both are in the Repository.

    Raises :class:`~mega_optimizer.repository.git_index.UnreadableRepository`.
    """
    files = scan_files(root, exclude)
    repository = scan(files, files.guard.root.name)
    problems = sorted(
        (*files.problems, *repository.problems), key=lambda problem: (problem.path, problem.line)
    )
    return files, Repository(repository.services, tuple(problems))
