"""The files of a repository with the questions that linking them asks, each answered once."""

from __future__ import annotations

import posixpath
from functools import cached_property
from typing import TYPE_CHECKING

from mega_optimizer.repository.dependencies.read import manifest_kind
from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.index import is_example, is_generated, is_vendored
from mega_optimizer.repository.python.roles import is_migration, is_test

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.repository.files import Files

_FOR_DEVELOPERS = ("dev", "test", "lint", "doc", "type", "constraint", "build", "ci")


class Tree:
    """A snapshot's files, its folders, its manifests and its Python code."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def __contains__(self, path: object) -> bool:
        return path in self.files

    def content(self, path: str) -> bytes | None:
        """Return the bytes of ``path``; None where there are none to be had."""
        try:
            return self.files.read(path)
        except UnreadableFile:
            return None

    def holding(self, *literals: bytes) -> frozenset[str]:
        """Return the Python files in which one of ``literals`` occurs."""
        return frozenset().union(*map(self.files.holding, literals))

    @cached_property
    def folders(self) -> frozenset[str]:
        """All folders that hold files, at any depth; ``""`` is not among them."""
        found: set[str] = set()
        for path in self.files.paths:
            folder = posixpath.dirname(path)
            while folder and folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return frozenset(found)

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """The Python files that people of this repository wrote and rewrite, tests included."""
        return tuple(
            path
            for path in self.files.paths
            if path.endswith(".py")
            and not is_vendored(path)
            and not is_generated(path)
            and not is_migration(path)
        )

    @cached_property
    def manifests(self) -> Mapping[str, tuple[str, ...]]:
        """The manifests of what services run with, by folder."""
        found: dict[str, tuple[str, ...]] = {}
        for path in self.files.paths:
            if manifest_kind(path) is None or is_vendored(path) or _is_for_developers(path):
                continue
            content = self.content(path)
            if content is not None and manifest_kind(path, content) is not None:
                folder = posixpath.dirname(path)
                if posixpath.basename(folder) == "requirements":
                    folder = posixpath.dirname(folder)
                found[folder] = (*found.get(folder, ()), path)
        return {folder: _without_inputs(paths) for folder, paths in found.items()}

    @cached_property
    def projects(self) -> frozenset[str]:
        """The folders that are Python projects of their own, with a pyproject.toml."""
        return frozenset(
            folder
            for folder, paths in self.manifests.items()
            if any(path.endswith("pyproject.toml") for path in paths)
        )

    def has_code(self, folder: str) -> bool:
        """Whether ``folder`` holds Python code or a manifest, at any depth."""
        inside = f"{folder}/" if folder else ""
        return any(path.startswith(inside) for path in self.modules) or any(
            path.startswith(inside) for paths in self.manifests.values() for path in paths
        )

    def nearest_manifests(self, folder: str) -> tuple[str, tuple[str, ...]] | None:
        """Return the nearest folder from ``folder`` upwards that has manifests, with them."""
        while folder not in self.manifests:
            if not folder:
                return None
            folder = posixpath.dirname(folder)
        return folder, self.manifests[folder]


def is_product(path: str, root: str = "") -> bool:
    """Whether the Python file ``path`` of a service at ``root`` is code that the service runs."""
    inside = path[len(root) + 1 :] if root else path
    return not is_test(inside) and not is_example(inside)


def _is_for_developers(path: str) -> bool:
    """Whether a requirements file, by its name, is not for what runs in production."""
    name = posixpath.basename(path)
    if name in ("pyproject.toml", "setup.cfg", "Pipfile") or name.endswith((".yml", ".yaml")):
        return is_test(path) or is_example(path)
    words = name.lower().replace("_", "-").replace(".", "-").split("-")
    return any(word.startswith(_FOR_DEVELOPERS) for word in words) or is_test(path)


def _without_inputs(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out the ``.in`` files whose compiled ``.txt`` stands beside them."""
    return tuple(
        path for path in paths if not (path.endswith(".in") and path[:-3] + ".txt" in paths)
    )
