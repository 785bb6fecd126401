"""pyproject.toml and Pipfile: PEP 621, PEP 735, Poetry, PDM, uv and Pipenv."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from mega_optimizer.repository.dependencies.model import Dependency, Manifest
from mega_optimizer.repository.dependencies.poetry import (
    origin_of,
    poetry_specifier,
    table_dependencies,
)
from mega_optimizer.repository.dependencies.requirements import pep508
from mega_optimizer.repository.dependencies.toml import Path, load_toml, toml_spans
from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from mega_optimizer.repository.dependencies.model import ManifestKind
    from mega_optimizer.repository.dependencies.toml import Span

MAXIMUM_BYTES = 1024 * 1024


@by_content(256)
def read_pyproject(path: str, content: bytes) -> Manifest | Problem:
    """Return what a pyproject.toml declares, in whichever of its dialects."""
    document = _load(path, content)
    return (
        document if isinstance(document, Problem) else _Reader(path, content, document).pyproject()
    )


@by_content(64)
def read_pipfile(path: str, content: bytes) -> Manifest | Problem:
    """Return what a Pipfile declares; ``dev-packages`` are the group ``dev``."""
    document = _load(path, content)
    return document if isinstance(document, Problem) else _Reader(path, content, document).pipfile()


def pyproject_kind(document: dict[str, Any]) -> ManifestKind | None:
    """Return who reads the dependencies of a pyproject.toml; None where it declares none."""
    project, tool = _table(document, "project"), _table(document, "tool")
    poetry = _table(tool, "poetry")
    if "dependencies" in poetry and "dependencies" not in project:
        return "poetry"
    if project or "dependency-groups" in document:
        return "pdm" if "pdm" in tool else "pep621"
    return "poetry" if poetry else None


def _load(path: str, content: bytes) -> dict[str, Any] | Problem:
    if len(content) > MAXIMUM_BYTES:
        return Problem(path, "too-large", f"larger than {MAXIMUM_BYTES} bytes")
    return load_toml(path, content)


def _table(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        value = document.get(key)
        if not isinstance(value, dict):
            return {}
        document = value
    return document


def _tables(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


class _Reader:
    """Collects what one document declares."""

    def __init__(self, path: str, content: bytes, document: dict[str, Any]) -> None:
        self.path = path
        self.content = content
        self.document = document
        self.spans: dict[Path, Span] = toml_spans(content)
        self.dependencies: list[Dependency] = []
        self.problems: list[Problem] = []

    def place(self, keys: Path) -> Place:
        span = self.spans.get(keys)
        offset = span.start if span else 0
        return Place(self.path, self.content.count(b"\n", 0, offset) + 1)

    def problem(self, keys: Path, text: object) -> None:
        message = f"not a requirement: {str(text)[:80]!r}"
        self.problems.append(Problem(self.path, "bad-requirement", message, self.place(keys).line))

    def manifest(
        self,
        kind: ManifestKind,
        requires_python: SpecifierSet | None,
        *,
        own_index: bool,
        includes: tuple[str, ...] = (),
    ) -> Manifest:
        return Manifest(
            self.path,
            kind,
            tuple(self.dependencies),
            includes=includes,
            own_index=own_index,
            requires_python=requires_python,
            problems=tuple(self.problems),
        )

    def pyproject(self) -> Manifest | Problem:
        kind = pyproject_kind(self.document)
        if kind is None:
            return Problem(self.path, "no-dependencies", "declares no dependencies")
        project, tool = _table(self.document, "project"), _table(self.document, "tool")
        sources = _table(tool, "uv", "sources")
        self.strings(("project", "dependencies"), project.get("dependencies"), "", sources)
        for prefix, table in (
            (("project", "optional-dependencies"), _table(project, "optional-dependencies")),
            (("dependency-groups",), _table(self.document, "dependency-groups")),
            (("tool", "pdm", "dev-dependencies"), _table(tool, "pdm", "dev-dependencies")),
        ):
            for group, entries in table.items():
                self.strings((*prefix, group), entries, group, sources)
        uv_dev = _table(tool, "uv").get("dev-dependencies")
        self.strings(("tool", "uv", "dev-dependencies"), uv_dev, "dev", sources)
        if kind == "poetry":
            self.poetry(_table(tool, "poetry"))
        return self.manifest(
            kind,
            self.python(project.get("requires-python"), tool),
            own_index=self.has_own_index(tool),
            includes=self.dynamic_files(project, tool),
        )

    def strings(self, keys: Path, entries: object, group: str, sources: dict[str, Any]) -> None:
        from dataclasses import replace

        from packaging.utils import canonicalize_name

        if not isinstance(entries, list):
            return
        named: dict[str, Any] = {
            canonicalize_name(name): source for name, source in sources.items()
        }
        for index, text in enumerate(entries):
            if isinstance(text, dict):  # {include-group = "…"} of PEP 735
                continue
            place = self.place((*keys, index))
            dependency = pep508(text, place, group=group) if isinstance(text, str) else None
            if dependency is None:
                self.problem((*keys, index), text)
                continue
            source = named.get(dependency.name)
            entry = next(iter(_tables(source)), None) if isinstance(source, list) else source
            if isinstance(entry, dict) and (origin := origin_of(entry)) != "index":
                dependency = replace(dependency, origin=origin)
            self.dependencies.append(dependency)

    def poetry(self, poetry: dict[str, Any]) -> None:
        root: Path = ("tool", "poetry")
        tables: list[tuple[Path, dict[str, Any], str]] = [
            ((*root, "dependencies"), _table(poetry, "dependencies"), ""),
            ((*root, "dev-dependencies"), _table(poetry, "dev-dependencies"), "dev"),
        ]
        for group, entry in _table(poetry, "group").items():
            if isinstance(entry, dict):
                keys = (*root, "group", group, "dependencies")
                tables.append((keys, _table(entry, "dependencies"), group))
        for keys, table, group in tables:
            self.table(keys, table, group)

    def table(self, keys: Path, table: dict[str, Any], group: str) -> None:
        def place_of(name: str) -> Place:
            return self.place((*keys, name))

        for found in table_dependencies(table, place_of, group):
            if isinstance(found, str):
                self.problem((*keys, found), f"{found} = {table[found]!r}")
            else:
                self.dependencies.append(found)

    def python(self, requires: object, tool: dict[str, Any]) -> SpecifierSet | None:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        if isinstance(requires, str):
            try:
                return SpecifierSet(requires)
            except InvalidSpecifier:
                return None
        python = _table(tool, "poetry", "dependencies").get("python")
        return poetry_specifier(python) if isinstance(python, str) else None

    def has_own_index(self, tool: dict[str, Any]) -> bool:
        uv = _table(tool, "uv")
        indexes = _tables(uv.get("index")) + _tables(_table(tool, "pdm").get("source"))
        sources = _tables(_table(tool, "poetry").get("source"))
        return (
            any(key in uv for key in ("index-url", "extra-index-url", "find-links", "no-index"))
            or any(index.get("explicit") is not True for index in indexes)
            or any(source.get("priority") != "explicit" for source in sources)
        )

    def dynamic_files(self, project: dict[str, Any], tool: dict[str, Any]) -> tuple[str, ...]:
        """Return the requirements files that setuptools or hatch read the dependencies from."""
        dynamic = project.get("dynamic")
        if not isinstance(dynamic, list) or "dependencies" not in dynamic:
            return ()
        files = _table(tool, "setuptools", "dynamic", "dependencies").get("file")
        files = files or _table(tool, "hatch", "metadata", "hooks", "requirements_txt").get("files")
        names = [files] if isinstance(files, str) else files if isinstance(files, list) else []
        folder = posixpath.dirname(self.path)
        return tuple(posixpath.join(folder, name) for name in names if isinstance(name, str))

    def pipfile(self) -> Manifest:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        self.table(("packages",), _table(self.document, "packages"), "")
        self.table(("dev-packages",), _table(self.document, "dev-packages"), "dev")
        version = _table(self.document, "requires").get("python_version")
        try:
            python = SpecifierSet(f"=={version}.*") if isinstance(version, str) else None
        except InvalidSpecifier:
            python = None
        sources = _tables(self.document.get("source"))
        own_index = any(source.get("name") != "pypi" for source in sources)
        return self.manifest("pipfile", python, own_index=own_index)
