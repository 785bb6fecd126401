"""How modules of a service import each other: the dotted name to write, and who reaches whom."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.import_lines import When
    from mega_optimizer.codemods.program import Program


def import_path(context: Context, importer: str, target: str) -> str | None:
    """Return the module name by which ``importer`` can import the module at ``target``.

    It is relative where the importer imports its own package so. None where nothing shows from
    which folder absolute names start.
    """
    program = context.program
    relative = 0
    absolute: list[str] = []
    for dotted, path in _own_imports(program, importer):
        if dotted.startswith("."):
            relative += 1
        elif (root := source_root(path, dotted)) is not None:
            absolute.append(root)
    if relative > len(absolute):
        return _relative(importer, target)
    for folder in chain(absolute, _roots_elsewhere(context, importer)):
        name = dotted_below(target, folder)
        if name and program.module(name, importer) == target:
            return name
    return None


def reaches(program: Program, start: str, goal: str, when: When = "ever") -> bool:
    """Whether ``start`` imports the module at ``goal``, directly or through others.

    ``maybe`` counts what is imported while the modules themselves are, ``always`` only what is
    so without a condition or ``try``.
    """
    seen = {start}
    waiting = [start]
    while waiting:
        current = waiting.pop()
        if current == goal:
            return True
        if when == "ever":
            found = program.imports(current)
        else:
            found = tuple(path for _, path in _own_imports(program, current, when))
        for path in found:
            if path not in seen:
                seen.add(path)
                waiting.append(path)
    return False


def _own_imports(program: Program, path: str, when: When = "ever") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, path) of the service's modules that the module at ``path`` imports."""
    for each in program.imported(path):
        if when == "ever" or each.when == "always" or (when == each.when == "maybe"):
            yield each.dotted, each.path


def source_root(path: str, dotted: str) -> str | None:
    """Return the folder from which ``dotted`` leads to ``path``, with its final slash."""
    stem = path.removesuffix(".py").removesuffix("/__init__")
    tail = dotted.replace(".", "/")
    if stem == tail:
        return ""
    return stem.removesuffix(tail) if stem.endswith(f"/{tail}") else None


def dotted_below(path: str, root: str) -> str | None:
    """Return the dotted name of the module at ``path`` from the folder ``root``, else None."""
    if not path.startswith(root):
        return None
    stem = path.removeprefix(root).removesuffix(".py").removesuffix("/__init__")
    parts = stem.split("/")
    return ".".join(parts) if all(part.isidentifier() for part in parts) else None


def _relative(importer: str, target: str) -> str | None:
    here = importer.split("/")[:-1]
    there = target.removesuffix(".py").removesuffix("/__init__").split("/")
    shared = 0
    while shared < min(len(here), len(there)) and here[shared] == there[shared]:
        shared += 1
    rest = there[shared:]
    return "." * (len(here) - shared + 1) + ".".join(rest) if rest else None


def _roots_elsewhere(context: Context, importer: str) -> Iterator[str]:
    """Yield the folders from which the service is started, and its other modules import."""
    for site in context.service.launch:
        dotted = (site.application or "").partition(":")[0]
        named = dotted.replace(".", "_").isidentifier()
        path = context.program.module(dotted, importer) if named else None
        root = source_root(path, dotted) if path is not None else None
        if root is not None:
            yield root
    for other in (*context.program.product, *context.program.tests):
        for dotted, path in _own_imports(context.program, other):
            if not dotted.startswith(".") and (root := source_root(path, dotted)) is not None:
                yield root
