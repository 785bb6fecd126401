"""Keep compilers and headers out of the image, where all that they compile is done by then.

Three shapes: a stage that both a builder and the image stand on, a stage that only copies what
others built, and one RUN that installs compilers, uses them, and leaves them behind. An image of
one stage with more RUN instructions is divided by containers/multi-stage.
https://docs.docker.com/build/building/best-practices/#create-reusable-stages
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import kind_of
from mega_optimizer.codemods.containers.image_recipe import (
    apt_packages,
    flattened,
    is_started,
    read_recipe,
)
from mega_optimizer.codemods.containers.instruction_text import block_start, line_after
from mega_optimizer.codemods.containers.python_images import PythonImage, python_image
from mega_optimizer.codemods.containers.python_packages import packages_of
from mega_optimizer.codemods.containers.run_split import installed_packages, side_of
from mega_optimizer.codemods.containers.runtime_needs import runtime_needs
from mega_optimizer.codemods.containers.slim_obstacles import is_development_image
from mega_optimizer.codemods.containers.stage_split import appended_packages, with_appended
from mega_optimizer.codemods.containers.system_edits import install_first, package_edit
from mega_optimizer.codemods.containers.system_packages import (
    is_for_building,
    package_name,
    runtime_partners,
)
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import shipping_stage
from mega_optimizer.repository.dockerfile.stages import lineage
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.repository.dockerfile import Dockerfile, Stage


def find(context: Context) -> Iterator[Outcome]:
    """Yield the fix that leaves compilers out of the image, or why they stay."""
    path = context.service.dockerfile
    content = context.read(path) if path else b""
    if path is None or not isinstance(content, bytes) or b"apt" not in content:
        return
    dockerfile = context.dockerfile(path)
    if isinstance(dockerfile, Problem):
        yield Skip(Place(path, dockerfile.line), dockerfile.code, dockerfile.message)
        return
    shipping = shipping_stage(dockerfile, context.service.stage)
    image = python_image(lineage(dockerfile, shipping)[0]) if shipping else ("", "")
    # The full image has compilers anyway.
    if shipping is None or not isinstance(image, PythonImage) or not image.slim:
        return
    recipe = read_recipe(context, dockerfile, flattened(dockerfile, shipping), content)
    bringing = [run for run in recipe.runs if _build_words(run)]
    if bringing and not any("apt-remove" in run.kinds for run in recipe.runs):
        yield _outcome(context, dockerfile, shipping, recipe, bringing)


def _build_words(run: Run) -> tuple[str, ...]:
    """Return the packages, as worded, that ``run`` installs and that only a build needs."""
    return tuple(
        word.text
        for command in run.of_kind("apt-install")
        for word in apt_packages(command)
        if is_for_building(package_name(word.text))
    )


def _outcome(
    context: Context,
    dockerfile: Dockerfile,
    shipping: Stage,
    recipe: Recipe,
    bringing: list[Run],
) -> Outcome:
    first = bringing[0].instruction
    place = Place(recipe.path, first.line, end_line=first.end_line)
    obstacle = _obstacle(context, recipe, bringing, place)
    if obstacle:
        return obstacle
    names = tuple(dict.fromkeys(word for run in bringing for word in _build_words(run)))
    # What stays installed, and the libraries of the headers that go.
    packages = packages_of(context, recipe, *_other_recipes(context, dockerfile, recipe))
    needed = runtime_needs(
        context, recipe, packages, installed_packages(recipe), was_full=False, moved=False
    )
    if isinstance(needed, Skip):
        return needed
    installs = [run for run in recipe.runs if "install" in run.kinds]
    shown = ", ".join(names)
    if not installs:
        edits = _without_compilers(dockerfile, shipping, recipe, bringing, needed)
        message = f"Only the stages that compile need {shown}: leave them out of the image"
        return edits if isinstance(edits, Skip) else Fix(place, message, edits)
    if len(bringing) > 1 or installs != bringing or bringing[0].pieces is None:
        reason = f"{shown} are needed where the packages are installed, in this stage"
        return Skip(place, "compiled-in-the-image", reason)
    message = f"Only this RUN needs {shown}: remove them where they were used"
    return Fix(place, message, _purge(recipe, bringing[0], needed))


def _other_recipes(context: Context, dockerfile: Dockerfile, recipe: Recipe) -> list[Recipe]:
    return [
        read_recipe(context, dockerfile, flattened(dockerfile, stage), recipe.content)
        for stage in dockerfile.stages
    ]


def _obstacle(context: Context, recipe: Recipe, bringing: list[Run], place: Place) -> Skip | None:
    if is_development_image(recipe.path):
        reason = "its name says that people work in this image: they may want the compilers"
        return Skip(Place(recipe.path), "development-image", reason)
    if not is_started(context, recipe.stage):
        reason = "nothing says what it runs: other images may be built on it"
        return Skip(place, "no-command", reason)
    for instruction in recipe.stage.instructions:
        if instruction.opaque or instruction.keyword == "ONBUILD":
            where = Place(recipe.path, instruction.line, end_line=instruction.end_line)
            return Skip(where, "opaque-shell", "it is not known what this instruction needs")
    for run in recipe.runs:
        where = Place(recipe.path, run.instruction.line, end_line=run.instruction.end_line)
        if not run.commands or run.instruction.heredocs:
            return Skip(where, "opaque-shell", "this RUN is not a plain list of shell commands")
        if "unknown" in run.kinds and run.instruction.end > bringing[0].instruction.start:
            command = run.commands[run.kinds.index("unknown")]
            text = " ".join(command.texts[:2])
            return Skip(where, "unknown-build-step", f"it is not known whether {text} compiles")
    for run in bringing:
        if run.pieces is None:
            reason = "it installs packages in a way that cannot be taken apart"
            return Skip(place, "opaque-shell", reason)
        for word in _build_words(run):
            if runtime_partners(package_name(word)) is None:
                reason = f"what was compiled with {word} may need a library that is not known"
                return Skip(place, "unknown-shared-library", reason)
    return None


def _without_compilers(
    dockerfile: Dockerfile,
    shipping: Stage,
    recipe: Recipe,
    bringing: list[Run],
    needed: tuple[str, ...],
) -> Edits | Skip:
    """Return the edits that leave compilers to the stages that are no part of the image."""
    appended = appended_packages(recipe, needed)
    edits: list[Edit] = []
    for run in bringing:
        kept = side_of(recipe, run, "running")
        if kept is None:
            start = block_start(recipe.content, run.instruction, recipe.stage.origin.end)
            edits.append(
                Edit(recipe.path, start, line_after(recipe.content, run.instruction.end), b"")
            )
        else:
            edits += kept
    edits = with_appended(edits, appended)
    if needed and appended is None:
        edits.append(package_edit(recipe, lineage(dockerfile, shipping)[0], needed))
    chain = lineage(dockerfile, shipping)
    for stage in dockerfile.stages:
        parent = dockerfile.stages[stage.parent] if stage.parent is not None else None
        if stage in chain or parent not in chain:
            continue
        # It gets what the stages below it, down to the one it stands on, have installed so far.
        words = _words_below(bringing, lineage(dockerfile, stage)[:-1])
        if words and _user_of(dockerfile, parent) not in ("root", "0"):
            reason = f"{stage.name or stage.base} would install compilers as another user"
            return Skip(Place(recipe.path, stage.origin.line), "installs-as-user", reason)
        if words:
            edits.append(install_first(recipe, stage, words))
    return tuple(edits)


def _words_below(bringing: list[Run], parts: tuple[Stage, ...]) -> tuple[str, ...]:
    starts = {instruction.start for part in parts for instruction in part.instructions}
    found = (
        word for run in bringing if run.instruction.start in starts for word in _build_words(run)
    )
    return tuple(dict.fromkeys(found))


def _user_of(dockerfile: Dockerfile, stage: Stage) -> str:
    users = [
        instruction.values[0].partition(":")[0]
        for part in lineage(dockerfile, stage)
        for instruction in part.instructions
        if instruction.keyword == "USER" and instruction.values
    ]
    return users[-1] if users else "root"


def _purge(recipe: Recipe, run: Run, needed: tuple[str, ...]) -> Edits:
    """Return the edits that remove the compilers in the RUN that uses them.

    Libraries of the headers are named, so that apt does not take them along as no longer needed.
    """
    assert run.pieces is not None
    words = [package_name(word) for word in _build_words(run)]
    named = {
        package_name(word.text) for piece in run.pieces for word in apt_packages(piece.command)
    }
    partners = (name for word in words for name in runtime_partners(word) or ())
    wanted = [name for name in dict.fromkeys((*partners, *needed)) if name not in named]
    newline = recipe.dockerfile.newline
    last = [piece for piece in run.pieces if kind_of(piece.command) == "install"][-1]
    removal = f" \\{newline}    && apt-get purge -y --auto-remove {' '.join(dict.fromkeys(words))}"
    edits = [Edit(recipe.path, last.end, last.end, removal.encode())]
    if wanted:
        apt = next(piece for piece in run.pieces if piece.kind == "apt-install")
        end = apt_packages(apt.command)[-1].end
        edits.append(Edit(recipe.path, end, end, f" {' '.join(wanted)}".encode()))
    return tuple(edits)
