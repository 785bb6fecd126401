"""Ship on the slim variant of the official Python image, with the libraries that it lacks.

https://hub.docker.com/_/python ("Image Variants")
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import (
    Recipe,
    flattened,
    is_started,
    named_packages,
    read_recipe,
)
from mega_optimizer.codemods.containers.installed_manifests import (
    inline_requirements,
    unknown_manifest,
)
from mega_optimizer.codemods.containers.python_images import PythonImage, python_image
from mega_optimizer.codemods.containers.python_packages import packages_of
from mega_optimizer.codemods.containers.runtime_needs import runtime_needs
from mega_optimizer.codemods.containers.slim_obstacles import slim_obstacle
from mega_optimizer.codemods.containers.smaller_base import against_alpine
from mega_optimizer.codemods.containers.system_edits import package_edit
from mega_optimizer.codemods.containers.wheels import target_of, wheel_obstacle
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import shipping_stage
from mega_optimizer.repository.dockerfile.stages import lineage
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Stage

_PYTHON_BASE = re.compile(rb"(?i)^[ \t]*FROM\b.*\bpython\b", re.MULTILINE)
# They say that there is nothing here to make slim.
_NOTHING_TO_WIN = frozenset({"alpine-base", "other-base", "base-unknown"})


def find(context: Context) -> Iterator[Outcome]:
    """Yield the fix that ships the slim image, or why the full one stays."""
    path = context.service.dockerfile
    content = context.read(path) if path else b""
    if path is None or not isinstance(content, bytes) or not _PYTHON_BASE.search(content):
        return
    dockerfile = context.dockerfile(path)
    if isinstance(dockerfile, Problem):
        yield Skip(Place(path, dockerfile.line), dockerfile.code, dockerfile.message)
        return
    shipping = shipping_stage(dockerfile, context.service.stage)
    if shipping is None:
        return
    base = lineage(dockerfile, shipping)[0]
    image = python_image(base)
    if isinstance(image, tuple):
        code, reason = image
        if code not in _NOTHING_TO_WIN and "slim" not in base.base:
            yield Skip(Place(path, base.origin.line), code, reason)
        return
    if not image.slim:
        yield _outcome(context, dockerfile, base, shipping, image, content)


def _outcome(
    context: Context,
    dockerfile: Dockerfile,
    base: Stage,
    shipping: Stage,
    image: PythonImage,
    content: bytes,
) -> Outcome:
    place = Place(dockerfile.path, base.origin.line)
    if image.minor is None or (not image.is_recent and _needs_time_zones(context)):
        reason = f"{image.written} is from before 2022: its slim image has no time zones"
        return Skip(place, "python-too-old", reason)
    # All that stands on the image comes to stand on the slim one, stages for tests included.
    standing = [stage for stage in dockerfile.stages if base in lineage(dockerfile, stage)]
    recipes = [
        read_recipe(context, dockerfile, flattened(dockerfile, stage), content)
        for stage in standing
    ]
    if not is_started(context, recipes[standing.index(shipping)].stage):
        reason = "nothing says what it runs: other images may be built on it"
        return Skip(place, "no-command", reason)
    for recipe in recipes:
        obstacle = slim_obstacle(context, recipe) or unknown_manifest(context, recipe)
        if obstacle:
            return obstacle
    recipe = recipes[standing.index(shipping)]
    every = [
        read_recipe(context, dockerfile, flattened(dockerfile, stage), content)
        for stage in dockerfile.stages
    ]
    packages = packages_of(context, *every)
    needed = runtime_needs(
        context, recipe, packages, named_packages(recipe), was_full=True, moved=False
    )
    if isinstance(needed, Skip):
        return needed
    # An image from before 2022 without a release in its tag may stand on one that left the mirrors.
    if needed and not (image.can_install_packages and image.is_recent):
        reason = f"{image.written} stands on a Debian release that may have left the mirrors"
        return Skip(place, "old-release", reason)
    if any(map(_installs, recipes)):
        inline = sorted({text for each in recipes for text in inline_requirements(each)})
        target = target_of(context, image.minor, "glibc")
        obstacle = wheel_obstacle(context, inline, target, place)
        if obstacle:
            return obstacle
    start = base.origin.arguments_start
    edits = [Edit(recipe.path, start, start + len(base.base.encode()), image.runtime.encode())]
    if needed:
        edits.append(package_edit(recipe, base, needed))
    against = against_alpine(packages, recipe)
    message = f"{image.runtime} holds all that it needs{_with(needed)}; {against}"
    return Fix(place, message, tuple(edits))


def _needs_time_zones(context: Context) -> bool:
    """Whether the code asks the system for time zones, which slim images had not before 2022."""
    for path in context.service.modules:
        content = context.read(path)
        if isinstance(content, bytes) and re.search(
            rb"\bzoneinfo\b|\btzset\b|[\"']TZ[\"']", content
        ):
            return True
    dockerfile = context.read(context.service.dockerfile or "")
    return isinstance(dockerfile, bytes) and re.search(rb"\bTZ\b", dockerfile) is not None


def _with(needed: tuple[str, ...]) -> str:
    return f", with {', '.join(needed)}" if needed else ""


def _installs(recipe: Recipe) -> bool:
    return any("install" in run.kinds for run in recipe.runs)
