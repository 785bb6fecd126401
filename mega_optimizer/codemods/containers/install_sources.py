"""Which files of the build context an installing command reads, and what brings them."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import in_context
from mega_optimizer.codemods.containers.manager_projects import reads_project
from mega_optimizer.codemods.containers.stage_split import Sources
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dependencies.model import Manifest
from mega_optimizer.repository.dependencies.read import read_manifest
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run, Transfer
    from mega_optimizer.codemods.containers.installs import Install
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction

_UNSAFE_LINES = re.compile(rb"^[ \t]*(-e|--editable|--no-binary)\b", re.MULTILINE)
_LOCAL_LINKS = re.compile(rb"^[ \t]*(?:-f|--find-links)[ =]*(?!https?:)\S", re.MULTILINE)


def sources_of(context: Context, recipe: Recipe) -> tuple[Sources, ...] | Skip:
    """Return what the builder takes from the build context, or why that is not known."""
    wanted: dict[int, dict[str, str]] = {}
    whole: set[int] = set()
    instructions = {each.start: each for each in recipe.stage.instructions}
    for run, _, install in recipe.installs():
        if isinstance(install, str):
            continue
        found = install_sources(context, recipe, run, install)
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
        else Sources(instructions[start], copy_lines(recipe, instructions[start], wanted[start]))
        for start in sorted({*whole, *wanted})
    )


def install_sources(
    context: Context, recipe: Recipe, run: Run, install: Install
) -> list[tuple[Transfer, str | None]] | Skip:
    """Return the transfers that one install needs: (transfer, path in the image, None for all)."""
    place = Place(recipe.path, run.instruction.line, end_line=run.instruction.end_line)
    folder = recipe.folder_at(run.instruction)
    earlier = [each for each in recipe.transfers if each.instruction.start < run.instruction.start]
    if run.depends_on_files:
        return _everything(context, place, install, earlier)
    bound = any(flag.name == "mount" and "bind" in flag.value for flag in run.instruction.flags)
    found: list[tuple[Transfer, str | None]] = []
    waiting: list[str] = []
    projects = install.projects
    if install.tool in ("uv-sync", "poetry", "pipenv"):
        reads = _reads_project(context, recipe, run, install, earlier)
        if isinstance(reads, Skip):
            return reads
        projects = (".",) if reads else ()
    for name in (*install.files, *projects):
        written = recipe.expanded(name, run.instruction)
        if written is None:
            return Skip(place, "manifest-unknown", f"{name} depends on an argument")
        path = posixpath.normpath(posixpath.join(folder, written))
        if name in projects:
            covering = [each for each in earlier if _covers(each, path)]
            if not covering and not bound:
                return Skip(place, "manifest-not-found", f"nothing copies {path} into the image")
            found += [(each, None) for each in covering]
        elif "://" in written:
            return Skip(place, "manifest-unknown", f"{written} is not in the repository")
        else:
            waiting.append(path)
    beside = _beside(context, install, earlier, folder)
    waiting += beside
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
        inner = () if path in beside else _included(context, place, source)
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


def _everything(
    context: Context, place: Place, install: Install, earlier: list[Transfer]
) -> list[tuple[Transfer, str | None]] | Skip:
    """Return all that is there by then, of an install that looks for files itself.

    None of the manifests that it may find asks for anything that is not copied along.
    """
    names = {posixpath.basename(name) for name in install.files}
    if any("$" in name for name in names) or install.projects or install.tool != "pip":
        return Skip(place, "opaque-shell", "what it installs depends on which files are there")
    for path in context.files.paths:
        if posixpath.basename(path) not in names:
            continue
        inner = _included(context, place, path)
        if isinstance(inner, Skip):
            return inner
    return [(each, None) for each in earlier]


def _beside(context: Context, install: Install, earlier: list[Transfer], folder: str) -> list[str]:
    """Return what is read where it exists: locks, and the settings of ``uv pip``."""
    names = install.optional if install.tool != "uv" else ("uv.toml", "pyproject.toml")
    found = []
    for path in (posixpath.join(folder, name) for name in names):
        transfer = next((each for each in reversed(earlier) if _has(context, each, path)), None)
        if transfer is None:
            continue
        content = context.read(in_context(context, transfer.source_of(path) or ""))
        is_silent = install.tool == "uv" and path.endswith("pyproject.toml")
        if not is_silent or (isinstance(content, bytes) and b"[tool.uv" in content):
            found.append(path)
    return found


def _reads_project(
    context: Context, recipe: Recipe, run: Run, install: Install, earlier: list[Transfer]
) -> bool | Skip:
    """Return whether a project manager reads more than its manifest and its lock."""
    path = posixpath.join(recipe.folder_at(run.instruction), install.files[0])
    transfer = next((each for each in reversed(earlier) if _has(context, each, path)), None)
    source = transfer.source_of(path) if transfer else _mounted_source(recipe, run, path)
    if source is None:
        place = Place(recipe.path, run.instruction.line, end_line=run.instruction.end_line)
        return Skip(place, "manifest-not-found", f"{path} is no file of the repository")
    manifest = in_context(context, source)
    return reads_project(context, manifest, install)


def _mounted_source(recipe: Recipe, run: Run, path: str) -> str | None:
    """Return what of the build context a bind mount lays at ``path``, if any does."""
    for flag in run.instruction.flags:
        options = dict(part.partition("=")[::2] for part in flag.value.split(","))
        target = options.get("target") or options.get("dst") or options.get("destination")
        if flag.name != "mount" or options.get("type", "bind") != "bind" or "from" in options:
            continue
        folder = posixpath.join(recipe.folder_at(run.instruction), target or "")
        source = posixpath.normpath(options.get("source") or options.get("src") or ".")
        if posixpath.normpath(folder) == path:
            return source
        if path.startswith(posixpath.join(posixpath.normpath(folder), "")):
            return posixpath.normpath(posixpath.join(source, posixpath.relpath(path, folder)))
    return None


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


def copy_lines(
    recipe: Recipe, instruction: Instruction, wanted: dict[str, str], flags: str = ""
) -> tuple[str, ...]:
    """Return COPY lines that bring just the manifests of a COPY that brings more."""
    here = recipe.folder_at(instruction)
    by_folder: dict[str, list[str]] = {}
    for path, source in wanted.items():
        by_folder.setdefault(posixpath.dirname(path), []).append(source)
    lines = []
    for folder, sources in by_folder.items():
        here_name = "./" if len(sources) > 1 else "."  # hadolint DL3021
        target = (
            here_name if folder == here else posixpath.join(posixpath.relpath(folder, here), "")
        )
        if target.startswith("..") or (here == "/" and folder != here):
            target = posixpath.join(folder, "")
        lines.append(f"COPY {flags}{' '.join(sorted(sources))} {target}")
    return tuple(lines)
