"""Where the packages of a recipe stand after the split, and who makes that environment.

pip, ``uv pip``, poetry and pipenv install into the environment that is active; uv's projects have
one of their own. https://docs.astral.sh/uv/concepts/projects/layout/#the-project-environment
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import ignore_patterns, in_context
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dockerfile import environment_at
from mega_optimizer.repository.dockerignore import ignored
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.containers.python_images import PythonImage
    from mega_optimizer.codemods.context import Context

VENV = "/opt/venv"
MANAGERS = frozenset({"uv-sync", "poetry", "pipenv"})


@dataclass(frozen=True, slots=True)
class Environment:
    """``path`` of the environment; ``own``: uv makes it where the project is.

    ``named`` says that it has to be made known by a variable, ``on_path`` that PATH leads to it
    already.
    """

    path: str = VENV
    own: bool = False
    named: bool = False
    on_path: bool = False


def tools_of(recipe: Recipe) -> frozenset[str]:
    """Return what installs the packages: ``pip``, ``uv``, ``uv-sync``, ``poetry``, ``pipenv``."""
    return frozenset(
        install.tool for _, _, install in recipe.installs() if not isinstance(install, str)
    )


def environment_of(recipe: Recipe) -> Environment | Skip:
    """Return where the packages are to stand; a skip where two environments would be needed."""
    tools = tools_of(recipe)
    if "uv-sync" not in tools:
        return Environment(named=bool(tools & {"uv", "poetry", "pipenv"}))
    runs = [run for run in recipe.runs if "install" in run.kinds]
    place = Place(recipe.path, runs[0].instruction.line, end_line=runs[0].instruction.end_line)
    if tools != {"uv-sync"}:
        return Skip(place, "own-environment", "uv's project and other packages stand apart")
    paths = set()
    for run in runs:
        known = environment_at(recipe.dockerfile, recipe.stage, run.instruction)
        folder = recipe.folder_at(run.instruction)
        paths.add(posixpath.join(folder, known.get("UV_PROJECT_ENVIRONMENT", ".venv") or "?"))
    path = paths.pop()
    if paths or "?" in path or path.startswith(("/usr", "/bin", "/lib")) or path == "/":
        return Skip(place, "own-environment", f"uv installs into {path}")
    return Environment(path, own=True, on_path=_is_on_path(recipe, path))


def _is_on_path(recipe: Recipe, path: str) -> bool:
    return any(
        name == "PATH" and path in _expanded(recipe, value)
        for instruction in recipe.stage.instructions
        if instruction.keyword == "ENV"
        for name, value in list(pairwise(instruction.values))[::2]
    )


def _expanded(recipe: Recipe, value: str) -> str:
    known = environment_at(recipe.dockerfile, recipe.stage)
    for name, text in known.items():
        if text and name != "PATH":
            value = value.replace(f"${{{name}}}", text).replace(f"${name}", text)
    return value


def overlay_obstacle(context: Context, recipe: Recipe, environment: Environment) -> Skip | None:
    """Return where a copy of the code could lay an environment of the context over the other.

    The environment comes before all code in the image; uv, called after, would have mended it.
    """
    for each in recipe.transfers if environment.own else ():
        source = each.source_of(environment.path) if each.is_folder else None
        if source is None or each.instruction.start > recipe.last_install:
            continue
        if not ignored(ignore_patterns(context, recipe), f"{source}/bin/python"):
            place = Place(recipe.path, each.instruction.line)
            reason = f"it may bring a {source} of the context, which is not ignored"
            return Skip(place, "environment-in-context", reason)
    return None


def interpreter_obstacle(context: Context, recipe: Recipe, image: PythonImage) -> Skip | None:
    """Return why uv may not use the Python of the image, but fetch one of its own."""
    if "uv-sync" not in tools_of(recipe):
        return None
    place = Place(recipe.path, recipe.stage.origin.line)
    if image.minor is None:
        return Skip(place, "version-not-pinned", f"{image.written} moves to other versions")
    version = f"3.{image.minor}"
    wanted = context.dependencies.requires_python
    if wanted is not None and not wanted.contains(f"{version}.{image.patch or 99}"):
        reason = f"the project needs Python {wanted}: uv brings one of its own"
        return Skip(place, "managed-python", reason)
    path = in_context(context, ".python-version")
    content = context.read(path) if path in context.files else b""
    pinned = content.decode("utf-8", "replace").strip() if isinstance(content, bytes) else ""
    exact = f"{version}.{image.patch}"
    if re.match(r"[\w.-]", pinned) and pinned.removeprefix("cpython-") not in (version, exact):
        reason = f"{path} asks for Python {pinned}: uv brings one of its own"
        return Skip(Place(path), "managed-python", reason)
    return None
