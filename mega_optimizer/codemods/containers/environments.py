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
from mega_optimizer.codemods.containers.installs import tool_of
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dockerfile import environment_at
from mega_optimizer.repository.dockerignore import ignored
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run
    from mega_optimizer.codemods.containers.python_images import PythonImage
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.shell import Command

VENV = "/opt/venv"
_ENTERING = (".", "source")
_SHARING = "--system-site-packages"
MANAGERS = frozenset({"uv-sync", "poetry", "pipenv"})


@dataclass(frozen=True, slots=True)
class Environment:
    """``path`` of the environment; ``own``: the build makes it itself, where it is to stay.

    ``named`` says that it has to be made known by a variable, ``on_path`` that what runs finds it
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
    makers = [command for run in recipe.runs for command in run.of_kind("environment")]
    if makers and "uv-sync" not in tools:
        return _made_environment(recipe)
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


def _made_environment(recipe: Recipe) -> Environment | Skip:
    """Return the one environment that the build makes and installs everything into."""
    paths: set[str] = set()
    for run in recipe.runs:
        place = Place(recipe.path, run.instruction.line, end_line=run.instruction.end_line)
        for command in run.of_kind("environment"):
            path = _environment_path(recipe, run, command)
            if path is None or _SHARING in command.texts:
                reason = f"it is not known which environment {' '.join(command.texts[:4])} makes"
                return Skip(place, "own-environment", reason)
            paths.add(path)
            does_more = "install" in run.kinds and {"project", "inspect"} & set(run.kinds)
            if command.program in _ENTERING and does_more:
                reason = "it enters an environment to install, and to do more"
                return Skip(place, "opaque-shell", reason)
    place = Place(recipe.path, recipe.stage.origin.line)
    path = paths.pop()
    if paths or path.startswith(("/usr", "/bin", "/lib")) or path == "/":
        return Skip(place, "own-environment", "the image makes several environments")
    for run in recipe.runs:
        for command in run.of_kind("install"):
            if not _leads_to(recipe, run, command, path):
                where = Place(recipe.path, run.instruction.line, end_line=run.instruction.end_line)
                reason = f"it is not certain that this installs into {path}"
                return Skip(where, "own-environment", reason)
    return Environment(path, own=True, on_path=True)


def _environment_path(recipe: Recipe, run: Run, command: Command) -> str | None:
    """Return the folder that ``python -m venv`` makes, or that ``activate`` stands in."""
    text = command.texts[-1]
    if command.program in _ENTERING:
        text = text.removesuffix("/bin/activate")
    elif text in ("venv", "-mvenv", "virtualenv") or text.startswith("-"):
        text = ".venv" if command.texts[:2] == ("uv", "venv") else "$"
    written = recipe.expanded(text, run.instruction)
    if not written or "$" in written:
        return None
    return posixpath.normpath(posixpath.join(recipe.folder_at(run.instruction), written))


def _leads_to(recipe: Recipe, run: Run, command: Command, path: str) -> bool:
    """Whether an installing command works in the environment at ``path``."""
    program = recipe.expanded(command.words[0].text, run.instruction) or ""
    if "/" in program:
        here = recipe.folder_at(run.instruction)
        return posixpath.normpath(posixpath.join(here, program)).startswith(f"{path}/bin/")
    entered = any(
        other.program in _ENTERING and _environment_path(recipe, run, other) == path
        for other in run.commands[: run.commands.index(command)]
    )
    known = environment_at(recipe.dockerfile, recipe.stage, run.instruction)
    if entered or (tool_of(command) != "pip" and known.get("VIRTUAL_ENV") == path):
        return True
    return tool_of(command) == "pip" and _is_on_path(recipe, path, run.instruction.start)


def _is_on_path(recipe: Recipe, path: str, before: int | None = None) -> bool:
    """Whether PATH leads to the environment, before anything else and before ``before``."""
    return any(
        name == "PATH" and _expanded(recipe, value).lstrip("\"'").startswith(f"{path}/bin:")
        for instruction in recipe.stage.instructions
        if instruction.keyword == "ENV" and (before is None or instruction.start < before)
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
