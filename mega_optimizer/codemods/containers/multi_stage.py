"""Install Python packages in a builder stage, and ship them on the slim image.

https://docs.docker.com/build/building/multi-stage/ and
https://docs.docker.com/build/building/best-practices/
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import (
    Transfer,
    in_context,
    read_recipe,
)
from mega_optimizer.codemods.containers.python_images import python_image
from mega_optimizer.codemods.containers.recipe_obstacles import recipe_obstacle
from mega_optimizer.codemods.containers.run_split import installed_packages
from mega_optimizer.codemods.containers.runtime_needs import runtime_needs
from mega_optimizer.codemods.containers.stage_split import Sources, split
from mega_optimizer.codemods.finding import Fix, Outcome, Skip
from mega_optimizer.repository.dependencies.model import Manifest
from mega_optimizer.repository.dependencies.read import read_manifest
from mega_optimizer.repository.dockerfile import shipping_stage
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.build_steps import Install
    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run
    from mega_optimizer.codemods.containers.python_images import PythonImage
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Instruction, Stage

_INSTALLS = re.compile(rb"\bpip[\d.]*\b|\buv\b|\bpoetry\b|\bpdm\b|\bconda\b")
_UNSAFE_LINES = re.compile(rb"^[ \t]*(-e|--editable|--no-binary)\b", re.MULTILINE)
_LOCAL_LINKS = re.compile(rb"^[ \t]*(?:-f|--find-links)[ =]*(?!https?:)\S", re.MULTILINE)


def find(context: Context) -> Iterator[Outcome]:
    """Yield the fix that makes a builder and a runtime stage of the only stage, or why not."""
    path = context.service.dockerfile
    content = context.read(path) if path else b""
    if path is None or not isinstance(content, bytes) or not _INSTALLS.search(content):
        return
    dockerfile = context.dockerfile(path)
    if isinstance(dockerfile, Problem):
        yield Skip(Place(path, dockerfile.line), dockerfile.code, dockerfile.message)
        return
    stage = shipping_stage(dockerfile, context.service.stage)
    if stage is None:
        return
    recipe = read_recipe(context, dockerfile, stage, content)
    image = python_image(stage)
    if not _wins(recipe, image):
        return
    yield _outcome(context, dockerfile, stage, recipe, image)


def _wins(recipe: Recipe, image: PythonImage | tuple[str, str]) -> bool:
    """Whether the image holds what only installing needs: a full base image, or compilers."""
    installs = any(
        {"install", "unknown"} & set(run.kinds) and _INSTALLS.search(_text(recipe, run))
        for run in recipe.runs
    )
    if not installs:
        return False
    if recipe.compilers:
        return True
    if isinstance(image, tuple):
        return image[0] != "alpine-base" and "slim" not in recipe.stage.base
    return not image.slim


def _text(recipe: Recipe, run: Run) -> bytes:
    return recipe.content[run.instruction.start : run.instruction.end]


def _outcome(
    context: Context,
    dockerfile: Dockerfile,
    stage: Stage,
    recipe: Recipe,
    image: PythonImage | tuple[str, str],
) -> Outcome:
    place = Place(recipe.path, stage.origin.line)
    if len(dockerfile.stages) > 1:
        reason = "it has several stages, made by hand"
        return Skip(place, "already-multi-stage", reason)
    if isinstance(image, tuple):
        return Skip(place, *image)
    if not image.is_recent:
        reason = (
            f"{image.written} is from before 2022: its pip and its slim image are too different"
        )
        return Skip(place, "python-too-old", reason)
    obstacle = recipe_obstacle(recipe)
    if obstacle:
        return obstacle
    if not _is_started(context, recipe):
        reason = "nothing says what it runs: other images may be built on it"
        return Skip(place, "no-command", reason)
    sources = _sources(context, recipe)
    if isinstance(sources, Skip):
        return sources
    packages = _packages(context, recipe)
    installed = installed_packages(recipe)
    needed = runtime_needs(context, recipe, packages, installed, was_full=not image.slim)
    if isinstance(needed, Skip):
        return needed
    if needed and not image.can_install_packages:
        reason = f"{image.written} stands on a Debian release that may have left the mirrors"
        return Skip(place, "old-release", reason)
    needless = ", ".join(recipe.compilers) if image.slim else "the full image"
    message = f"Only installing needs {needless}: do it in a builder, ship {image.runtime}"
    return Fix(place, message, split(recipe, image, sources, needed))


def _is_started(context: Context, recipe: Recipe) -> bool:
    return bool(context.service.launch) or any(
        instruction.keyword in ("CMD", "ENTRYPOINT") for instruction in recipe.stage.instructions
    )


def _packages(context: Context, recipe: Recipe) -> dict[str, frozenset[str]]:
    """Return the Python packages that the service depends on, with their extras."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, frozenset[str]] = {}
    for manifest in context.dependencies.manifests:
        for dependency in manifest.dependencies:
            known = found.get(dependency.name, frozenset())
            found[dependency.name] = known | dependency.extras
    for name in context.dependencies.locked:
        found.setdefault(name, frozenset())
    for _, _, install in recipe.installs():
        for text in install.requirements if not isinstance(install, str) else ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            key = canonicalize_name(requirement.name)
            found[key] = found.get(key, frozenset()) | requirement.extras
    return found


def _sources(context: Context, recipe: Recipe) -> tuple[Sources, ...] | Skip:
    """Return what the builder takes from the build context, or why that is not known."""
    wanted: dict[int, dict[str, str]] = {}
    whole: set[int] = set()
    instructions = {each.start: each for each in recipe.stage.instructions}
    for run, _, install in recipe.installs():
        if isinstance(install, str):
            continue
        found = _install_sources(context, recipe, run, install)
        if isinstance(found, Skip):
            return found
        for transfer, path in found:
            start = transfer.instruction.start
            if path is None or not transfer.is_folder:
                whole.add(start)
            else:
                wanted.setdefault(start, {})[path] = transfer.source_of(path) or ""
    return tuple(
        Sources(instructions[start])
        if start in whole
        else Sources(instructions[start], _lines(recipe, instructions[start], wanted[start]))
        for start in sorted({*whole, *wanted})
    )


def _install_sources(
    context: Context, recipe: Recipe, run: Run, install: Install
) -> list[tuple[Transfer, str | None]] | Skip:
    """Return the transfers that one install needs: (transfer, path in the image, None for all)."""
    place = Place(recipe.path, run.instruction.line, end_line=run.instruction.end_line)
    folder = recipe.folder_at(run.instruction)
    earlier = [each for each in recipe.transfers if each.instruction.start < run.instruction.start]
    bound = any(flag.name == "mount" and "bind" in flag.value for flag in run.instruction.flags)
    found: list[tuple[Transfer, str | None]] = []
    waiting: list[str] = []
    for name in (*install.files, *install.projects):
        written = recipe.expanded(name, run.instruction)
        if written is None:
            return Skip(place, "manifest-unknown", f"{name} depends on an argument")
        path = posixpath.normpath(posixpath.join(folder, written))
        if name in install.projects:
            covering = [each for each in earlier if _covers(each, path)]
            if not covering and not bound:
                return Skip(place, "manifest-not-found", f"nothing copies {path} into the image")
            found += [(each, None) for each in covering]
        elif "://" in written:
            return Skip(place, "manifest-unknown", f"{written} is not in the repository")
        else:
            waiting.append(path)
    seen: set[str] = set()
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        transfer = next((each for each in reversed(earlier) if _has(context, each, path)), None)
        if transfer is None:
            if bound:
                continue
            return Skip(place, "manifest-not-found", f"{path} is no file of the repository")
        source = in_context(context, transfer.source_of(path) or "")
        inner = _included(context, place, source)
        if isinstance(inner, Skip):
            return inner
        found.append((transfer, path))
        base = posixpath.dirname(source)
        waiting += [
            posixpath.normpath(
                posixpath.join(posixpath.dirname(path), posixpath.relpath(other, base or "."))
            )
            for other in inner
        ]
    return found


def _covers(transfer: Transfer, path: str) -> bool:
    """Whether ``transfer`` brings ``path``, something below it, or a folder that holds it."""
    target = posixpath.join(transfer.destination, "")
    project = posixpath.join(path, "")
    return target.startswith(project) or project.startswith(target)


def _has(context: Context, transfer: Transfer, path: str) -> bool:
    source = transfer.source_of(path)
    return source is not None and in_context(context, source) in context.files


def _included(context: Context, place: Place, source: str) -> tuple[str, ...] | Skip:
    """Return what a requirements file draws in, or what of it cannot be taken along."""
    content = context.read(source)
    if isinstance(content, Problem):
        return Skip(place, content.code, f"{source}: {content.message}")
    unsafe = _UNSAFE_LINES.search(content)
    if unsafe:
        code = "installer-option" if b"no-binary" in unsafe[1] else "editable-install"
        return Skip(place, code, f"{source} asks for {unsafe[1].decode()}")
    manifest = read_manifest(context.files, source)
    if isinstance(manifest, Problem):
        return Skip(place, manifest.code, f"{source}: {manifest.message}")
    if isinstance(manifest, Manifest) and (manifest.folders or _LOCAL_LINKS.search(content)):
        return Skip(place, "local-path", f"{source} names packages by their folder")
    return (*manifest.includes, *manifest.constraints)


def _lines(recipe: Recipe, instruction: Instruction, wanted: dict[str, str]) -> tuple[str, ...]:
    """Return COPY lines that bring just the manifests of a COPY that brings more."""
    here = recipe.folder_at(instruction)
    by_folder: dict[str, list[str]] = {}
    for path, source in wanted.items():
        by_folder.setdefault(posixpath.dirname(path), []).append(source)
    lines = []
    for folder, sources in by_folder.items():
        target = "." if folder == here else posixpath.join(posixpath.relpath(folder, here), "")
        if target.startswith("..") or (here == "/" and target != "."):
            target = posixpath.join(folder, "")
        lines.append(f"COPY {' '.join(sorted(sources))} {target}")
    return tuple(lines)
