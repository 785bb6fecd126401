"""Which services a file belongs to: it changes only if every one of them qualifies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.repository.service import Repository


def owners_of(repository: Repository) -> Mapping[str, tuple[str, ...]]:
    """Return path → names of the services that it belongs to.

    A service owns its Python files, its dependency manifests, its Dockerfile, and the
    ``.dockerignore`` of its build context.
    """
    owners: dict[str, list[str]] = {}
    for service in repository.services:
        paths = {*service.modules, *service.manifests}
        if service.dockerfile:
            paths |= {service.dockerfile, f"{service.root}/.dockerignore".lstrip("/")}
        for path in paths:
            owners.setdefault(path, []).append(service.name)
    return {path: tuple(names) for path, names in owners.items()}
