"""What the installs of a recipe ask for: requirements on the command line, and manifests."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import in_context
from mega_optimizer.codemods.containers.installs import parse_install
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dockerfile import copies
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.context import Context

# What `poetry export` and its like make a requirements file of.
_EXPORTED = frozenset({"pep621", "poetry", "pdm", "pipfile"})


def inline_requirements(recipe: Recipe) -> Iterator[str]:
    """Yield the requirements that commands name themselves, those of tools included."""
    for run in recipe.runs:
        for command in run.of_kind("install", "tool"):
            install = parse_install(command, in_place=True)
            if not isinstance(install, str):
                yield from (text for text in install.requirements if "://" not in text)


def unknown_manifest(context: Context, recipe: Recipe) -> Skip | None:
    """Return a skip where an install reads a file that is not among the service's manifests."""
    dependencies = context.dependencies
    known = {manifest.path for manifest in dependencies.manifests}
    known |= {entry.place.path for entry in dependencies.constraints}
    declares = any(each.kind in _EXPORTED for each in dependencies.manifests)
    for place, name, found in _read_files(context, recipe):
        if found is None and declares and _from_another_stage(recipe, name):
            continue
        if found not in known:
            return Skip(place, "manifest-not-found", f"it is not known what {name} asks for")
    return empty_manifest(context, recipe)


def empty_manifest(context: Context, recipe: Recipe) -> Skip | None:
    """Return a skip where an install reads a file without a requirement: users fill it in."""
    for place, name, found in _read_files(context, recipe):
        content = context.read(found) if found is not None else None
        if isinstance(content, bytes) and _lists_nothing(content):
            reason = f"{name} is empty here: who fills it in may need what the image has now"
            return Skip(place, "empty-manifest", reason)
    return None


def _lists_nothing(content: bytes) -> bool:
    return all(not line.strip() or line.lstrip().startswith(b"#") for line in content.splitlines())


def _read_files(context: Context, recipe: Recipe) -> Iterator[tuple[Place, str, str | None]]:
    """Yield each file that an install reads: the place, its name there, and in the repository."""
    for run in recipe.runs:
        for command in run.of_kind("install"):
            install = parse_install(command, in_place=True)
            for name in install.files if not isinstance(install, str) else ():
                found = _repository_file(context, recipe, run.instruction.start, name)
                yield Place(recipe.path, run.instruction.line), name, found


def _repository_file(context: Context, recipe: Recipe, start: int, name: str) -> str | None:
    instruction = next(each for each in recipe.stage.instructions if each.start == start)
    written = recipe.expanded(name, instruction)
    path = posixpath.normpath(posixpath.join(recipe.folder_at(instruction), written or "?"))
    for transfer in reversed(recipe.transfers):
        source = transfer.source_of(path)
        if source is not None and transfer.instruction.start < start:
            found = in_context(context, source)
            if found in context.files:
                return found
    return None


def _from_another_stage(recipe: Recipe, name: str) -> bool:
    """Whether another stage makes the file: ``poetry export``, ``uv export`` …."""
    wanted = posixpath.basename(name)
    return any(
        posixpath.basename(source) == wanted
        for instruction in recipe.stage.instructions
        if (copy := copies(instruction)) is not None and copy.from_stage is not None
        for source in copy.sources
    )
