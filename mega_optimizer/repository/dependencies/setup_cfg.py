"""setup.cfg: ``install_requires`` and ``extras_require`` of setuptools' declarative metadata."""

from __future__ import annotations

import configparser
import posixpath
from typing import TYPE_CHECKING

from mega_optimizer.repository.dependencies.model import Dependency, Manifest
from mega_optimizer.repository.dependencies.requirements import TEMPLATE, pep508
from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

MAXIMUM_BYTES = 1024 * 1024


@by_content(64)
def read_setup_cfg(path: str, content: bytes) -> Manifest | Problem:
    """Return what a setup.cfg declares; Problem ``no-dependencies`` where that is nothing."""
    parser = parse_config(path, content)
    if isinstance(parser, Problem):
        return parser
    required = parser.get("options", "install_requires", fallback=None)
    if required is None:
        return Problem(path, "no-dependencies", "declares no dependencies")
    dependencies: list[Dependency] = []
    problems: list[Problem] = []
    groups = [("", required)]
    if parser.has_section("options.extras_require"):
        groups += parser.items("options.extras_require")
    for group, entries in groups:
        for text in _entries(entries):
            place = Place(path, _line(content, text))
            dependency = pep508(text, place, group=group)
            if dependency is not None:
                dependencies.append(dependency)
            else:
                code = "templated" if TEMPLATE.search(text) else "bad-requirement"
                message = f"not a requirement: {text[:80]!r}"
                problems.append(Problem(path, code, message, place.line))
    return Manifest(
        path,
        "setup.cfg",
        tuple(dependencies),
        includes=_files(path, required),
        requires_python=_python(parser.get("options", "python_requires", fallback=None)),
        problems=tuple(problems),
    )


def parse_config(path: str, content: bytes) -> configparser.RawConfigParser | Problem:
    """Return the parsed file, or why it cannot be read."""
    if len(content) > MAXIMUM_BYTES:
        return Problem(path, "too-large", f"larger than {MAXIMUM_BYTES} bytes")
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(content.decode("utf-8-sig"))
    except (configparser.Error, UnicodeDecodeError) as error:
        return Problem(path, "syntax-error", f"not a valid setup.cfg: {str(error)[:120]}")
    return parser


def _entries(value: str) -> list[str]:
    if value.strip().startswith("file:"):
        return []
    lines = [line.split(" #")[0].strip() for line in value.splitlines()]
    pieces = lines if len(lines) > 1 else value.split(";") if " ;" not in value else [value]
    return [piece.strip() for piece in pieces if piece.strip() and not piece.startswith("#")]


def _files(path: str, value: str) -> tuple[str, ...]:
    if not value.strip().startswith("file:"):
        return ()
    names = value.strip().removeprefix("file:").replace("\n", ",").split(",")
    folder = posixpath.dirname(path)
    return tuple(posixpath.join(folder, name.strip()) for name in names if name.strip())


def _line(content: bytes, text: str) -> int:
    return content.count(b"\n", 0, max(content.find(text.encode()), 0)) + 1


def _python(text: str | None) -> SpecifierSet | None:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return SpecifierSet(text) if text else None
    except InvalidSpecifier:
        return None
