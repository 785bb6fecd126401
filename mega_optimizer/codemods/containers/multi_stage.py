"""Install Python packages in a builder stage, and ship them on the slim image.

https://docs.docker.com/build/building/multi-stage/ and
https://docs.docker.com/build/building/best-practices/
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.environments import (
    MANAGERS,
    environment_of,
    interpreter_obstacle,
    overlay_obstacle,
    tools_of,
)
from mega_optimizer.codemods.containers.image_recipe import is_started, read_recipe
from mega_optimizer.codemods.containers.install_sources import sources_of
from mega_optimizer.codemods.containers.installed_manifests import empty_manifest
from mega_optimizer.codemods.containers.python_images import python_image
from mega_optimizer.codemods.containers.python_packages import packages_of
from mega_optimizer.codemods.containers.recipe_obstacles import recipe_obstacle
from mega_optimizer.codemods.containers.run_split import installed_packages
from mega_optimizer.codemods.containers.runners import leaves_managers, runner_obstacle
from mega_optimizer.codemods.containers.runtime_needs import runtime_needs
from mega_optimizer.codemods.containers.stage_split import split
from mega_optimizer.codemods.containers.undeclared_imports import undeclared_import
from mega_optimizer.codemods.finding import Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import shipping_stage
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.environments import Environment
    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run
    from mega_optimizer.codemods.containers.python_images import PythonImage
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Stage

# They bring packages of their own.
_BRINGING = frozenset({"poetry", "pipenv"})
_INSTALLS = re.compile(rb"\bpip[\d.]*\b|\buv\b|\bpoetry\b|\bpipenv\b|\bpdm\b|\bconda\b")


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
    if recipe.compilers or leaves_managers(recipe):
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
    environment = environment_of(recipe)
    if isinstance(environment, Skip):
        return environment
    obstacle = recipe_obstacle(recipe, environment) or _manager_obstacle(
        context, recipe, image, environment
    )
    if obstacle:
        return obstacle
    if not is_started(context, recipe.stage):
        reason = "nothing says what it runs: other images may be built on it"
        return Skip(place, "no-command", reason)
    empty = empty_manifest(context, recipe)
    if empty is not None:
        return empty
    sources = sources_of(context, recipe)
    if isinstance(sources, Skip):
        return sources
    packages = packages_of(context, recipe)
    installed = installed_packages(recipe)
    needed = runtime_needs(context, recipe, packages, installed, was_full=not image.slim)
    if isinstance(needed, Skip):
        return needed
    if needed and not image.can_install_packages:
        reason = f"{image.written} stands on a Debian release that may have left the mirrors"
        return Skip(place, "old-release", reason)
    needless = _needless(recipe) if image.slim else "the full image"
    message = f"Only installing needs {needless}: do it in a builder, ship {image.runtime}"
    return Fix(place, message, split(recipe, image, environment, sources, needed))


def _manager_obstacle(
    context: Context, recipe: Recipe, image: PythonImage, environment: Environment
) -> Skip | None:
    """Return why the program may not do without the project manager that installs it."""
    if not leaves_managers(recipe):
        return None
    return (
        interpreter_obstacle(context, recipe, image)
        or overlay_obstacle(context, recipe, environment)
        or runner_obstacle(context, recipe)
        or (undeclared_import(context, recipe) if tools_of(recipe) & _BRINGING else None)
    )


def _needless(recipe: Recipe) -> str:
    managers = sorted(tool.removesuffix("-sync") for tool in tools_of(recipe) & MANAGERS)
    return ", ".join((*recipe.compilers, *managers))
