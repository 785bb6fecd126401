"""Which services a file belongs to: it changes only if every one of them qualifies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.repository.dependencies.read import manifests_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.service import Repository


def owners_of(repository: Repository, files: Files) -> Mapping[str, tuple[str, ...]]:
    """Return path → names of the services that it belongs to.

    A service owns its Python files, its dependency manifests with all that these include or are
    compiled from, its Dockerfile, and the ``.dockerignore`` of its build context.
    """
    owners: dict[str, list[str]] = {}
    for service in repository.services:
        paths = {*service.modules, *service.manifests}
        for manifest in manifests_of(files, service):
            paths |= {manifest.path, manifest.compiled_from or manifest.path}
        if service.dockerfile:
            paths |= {service.dockerfile, f"{service.root}/.dockerignore".lstrip("/")}
        for path in paths:
            owners.setdefault(path, []).append(service.name)
    return {path: tuple(names) for path, names in owners.items()}
