"""Build and ship on the Alpine variant of the official Python image, where all has musl wheels.

https://hub.docker.com/_/python ("Image Variants", which names the caveats) and PEP 656
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.alpine_obstacles import alpine_obstacle
from mega_optimizer.codemods.containers.image_recipe import (
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
from mega_optimizer.codemods.containers.smaller_base import NO_MUSL_WHEELS
from mega_optimizer.codemods.containers.wheels import target_of, wheel_obstacle
from mega_optimizer.codemods.finding import Edit, Edits, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import shipping_stage
from mega_optimizer.repository.dockerfile.stages import lineage
from mega_optimizer.repository.image import contributing_stages
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Stage

# The slim image has no types of files either.
_NEITHER_HAS = frozenset({"media-types"})


def find(context: Context) -> Iterator[Outcome]:
    """Yield the fix that puts the image on Alpine, or what stands against it."""
    path = context.service.dockerfile
    content = context.read(path) if path else b""
    if path is None or not isinstance(content, bytes) or b"python" not in content:
        return
    dockerfile = context.dockerfile(path)
    shipping = (
        shipping_stage(dockerfile, context.service.stage)
        if not isinstance(dockerfile, Problem)
        else None
    )
    if isinstance(dockerfile, Problem) or shipping is None:
        return
    base = lineage(dockerfile, shipping)[0]
    image = python_image(base)
    if isinstance(image, PythonImage) and _alpine(image) is not None:
        yield _outcome(context, dockerfile, shipping, base, content)


def _alpine(image: PythonImage) -> str | None:
    """Return ``image``, as written, in its Alpine variant; None where that is not plain."""
    written = f"-{image.release}" if image.release else ""
    plain = image.runtime.removesuffix(written)
    if image.minor is None or not plain.endswith("-slim") or "$" in plain:
        return None
    return f"{plain.removesuffix('-slim')}-alpine"


def _outcome(
    context: Context, dockerfile: Dockerfile, shipping: Stage, base: Stage, content: bytes
) -> Outcome:
    place = Place(dockerfile.path, base.origin.line)
    parts = contributing_stages(dockerfile, shipping)
    recipes = {
        stage.index: read_recipe(context, dockerfile, flattened(dockerfile, stage), content)
        for stage in parts
    }
    recipe = recipes[shipping.index]
    if not is_started(context, recipe.stage):
        reason = "nothing says what it runs: other images may be built on it"
        return Skip(place, "no-command", reason)
    packages = packages_of(context, *recipes.values())
    compiled = sorted(NO_MUSL_WHEELS & packages.keys())
    if compiled:
        reason = f"{compiled[0]} has no wheel for musl, the C library of Alpine"
        return Skip(place, "no-wheel", reason)
    roots = {stage.index: lineage(dockerfile, stage)[0] for stage in parts}
    changed: dict[int, tuple[Stage, str]] = {}
    for stage in parts:
        root = roots[stage.index]
        image = python_image(root)
        if not isinstance(image, PythonImage):
            if "python" in (root.image or "python") and "alpine" not in (root.image or ""):
                where = Place(dockerfile.path, root.origin.line)
                return Skip(where, "other-base", f"{root.base} has no plain partner on Alpine")
            continue
        partner = _alpine(image)
        obstacle = (
            slim_obstacle(context, recipes[stage.index])
            or alpine_obstacle(context, recipes[stage.index])
            or unknown_manifest(context, recipes[stage.index])
        )
        if obstacle:
            return obstacle
        if partner is None:
            where = Place(dockerfile.path, root.origin.line)
            return Skip(where, "other-base", f"{root.base} has no plain partner on Alpine")
        changed[root.index] = (root, partner)
    needed = runtime_needs(
        context, recipe, packages, named_packages(recipe), was_full=True, moved=False
    )
    if isinstance(needed, Skip):
        return needed
    others = [name for name in needed if name not in _NEITHER_HAS]
    if others:
        return Skip(place, "needs-apt", f"it needs {others[0]} of Debian")
    own = python_image(base)
    assert isinstance(own, PythonImage)
    assert own.minor is not None
    inline = sorted({text for each in recipes.values() for text in inline_requirements(each)})
    ask = partial(_edits, context, recipe, tuple(changed.values()), inline, own.minor, place)
    shown = changed[base.index][1]
    message = f"All packages are shown to have wheels for {shown}: it is smaller than slim"
    return Fix(place, message, ask)


def _edits(
    context: Context,
    recipe: Recipe,
    changed: tuple[tuple[Stage, str], ...],
    inline: list[str],
    minor: int,
    place: Place,
) -> Edits | Skip:
    """Return the edits of the FROM lines, if the lock or the index shows that all has wheels."""
    obstacle = wheel_obstacle(context, inline, target_of(context, minor, "musl"), place)
    if obstacle:
        return obstacle
    edits = []
    for stage, partner in changed:
        start = stage.origin.arguments_start
        edits.append(Edit(recipe.path, start, start + len(stage.base.encode()), partner.encode()))
    return tuple(edits)
