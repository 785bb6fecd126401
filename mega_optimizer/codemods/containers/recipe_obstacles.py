"""What about a recipe forbids to split it: each reason with its skip code."""

from __future__ import annotations

import posixpath
import re
from itertools import pairwise
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import BUILDING, is_other_installer
from mega_optimizer.codemods.containers.image_recipe import (
    apt_packages,
    mentions,
    named_packages,
)
from mega_optimizer.codemods.containers.pip_configuration import (
    configures_installer,
    variable_naming_code,
)
from mega_optimizer.codemods.containers.system_packages import (
    is_for_building,
    is_system_python,
    package_name,
    runtime_partners,
)
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dockerfile import copies
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.environments import Environment
    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run
    from mega_optimizer.repository.dockerfile import Instruction
    from mega_optimizer.repository.shell import Command

_DEVELOPMENT_NAME = re.compile(
    r"(?i)(?:^|[._/-])(?:dev|devel|development|devcontainer|local|tests?|testing|ci|debug)"
    r"(?=[._/-]|dockerfile|$)"
)
_INTERPRETER_PATH = re.compile(
    rb"/usr/(?:local/)?bin/(?:python|pip)[\w.]*|/usr/local/lib\b|/usr/local/?(?=[\s\"',:]|$)"
    rb"|(?:site|dist)-packages"
)
_OWN_ENVIRONMENT = re.compile(
    rb"/opt/venv\b|-m +venv\b|\bvirtualenv\b|\buv +venv\b|\.venv\b|/venv/|\.local/|\bPYENV_ROOT\b"
)
_MAKING = re.compile(rb"-m *venv\b|\buv +venv\b|\bvirtualenv\b")
_ENVIRONMENT_NAMES = frozenset(
    {
        "PIP_CONFIG_FILE", "PIP_NO_BINARY", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "PIP_ROOT",
        "PIP_TARGET", "PIP_USER", "PYTHONHOME", "PYTHONUSERBASE", "UV_NO_BINARY",
        "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_TARGET", "VIRTUAL_ENV",
    }
)  # fmt: skip
# What a removal names by a pattern: development packages alone.
_HEADERS = re.compile(r"[\w.+*-]*-dev")
# Their set-up links manual pages. https://bugs.debian.org/863199
_FAILS_ON_SLIM = re.compile(r"openjdk-|default-j|ca-certificates-java")
# Programs that start others with a PATH of their own.
_RESETS_PATH = re.compile(
    rb"(?<![-.])\b(?:crond?|sudo|su|runuser|login|sshd|systemctl|start-stop-daemon)\b(?![./:=-])"
    rb"|\b(?:ba|z)?sh\",? *\"?-\w*l|\benv +-i\b|/etc/profile"
)


def recipe_obstacle(recipe: Recipe, environment: Environment) -> Skip | None:
    """Return the first reason not to split ``recipe``, None where there is none."""
    return next(_obstacles(recipe, environment), None)


def _obstacles(recipe: Recipe, environment: Environment) -> Iterator[Skip]:
    yield from _shape(recipe, environment)
    for run in recipe.runs:
        yield from _unknown_steps(recipe, run, environment)
    yield from _environment(recipe, environment)
    yield from _order(recipe)
    for run in recipe.runs:
        yield from _system_packages(recipe, run)
        yield from _unclear_chain(recipe, run)
    yield from _installer_options(recipe)


def _skip(recipe: Recipe, instruction: Instruction, code: str, reason: str) -> Skip:
    place = Place(recipe.path, instruction.line, end_line=instruction.end_line)
    return Skip(place, code, reason)


def _shape(recipe: Recipe, environment: Environment) -> Iterator[Skip]:
    if _DEVELOPMENT_NAME.search(recipe.path):
        reason = "its name says that people work in this image: they may want the compilers"
        yield Skip(Place(recipe.path), "development-image", reason)
    for instruction in recipe.stage.instructions:
        volumes = instruction.values if instruction.keyword == "VOLUME" else ()
        above = ("", *_folders_above(environment.path))
        if any(path.rstrip("/") in above for path in volumes):
            reason = "a volume lies over the folder of the environment"
            yield _skip(recipe, instruction, "own-environment", reason)
        if instruction.opaque:
            reason = "the parsers read this instruction differently"
            yield _skip(recipe, instruction, "opaque-shell", reason)
        elif instruction.keyword == "ONBUILD":
            reason = "what ONBUILD runs in other images may need the compilers"
            yield _skip(recipe, instruction, "onbuild", reason)
    for run in recipe.runs:
        if not run.commands or run.instruction.heredocs or recipe.dockerfile.escape != "\\":
            reason = "this RUN is not a plain list of shell commands"
            yield _skip(recipe, run.instruction, "opaque-shell", reason)


def _folders_above(path: str) -> Iterator[str]:
    while path not in ("", "/"):
        path = posixpath.dirname(path)
        yield path.rstrip("/")


def _unknown_steps(recipe: Recipe, run: Run, environment: Environment) -> Iterator[Skip]:
    text = recipe.content[run.instruction.start : run.instruction.end]
    if environment.own:
        folder = recipe.folder_at(run.instruction)
        relative = posixpath.relpath(environment.path, folder)
        for name in (environment.path, f"./{relative}", f" {relative}"):
            text = text.replace(name.encode(), b"")
        text = _MAKING.sub(b"", text)
    if _OWN_ENVIRONMENT.search(text):
        reason = "the image makes a virtual environment of its own"
        yield _skip(recipe, run.instruction, "own-environment", reason)
    for command in run.of_kind("unknown"):
        if is_other_installer(command):
            reason = f"{_name(command)} installs the packages"
            yield _skip(recipe, run.instruction, "installer", reason)
        reason = f"it is not known what {_name(command)} needs and leaves behind"
        yield _skip(recipe, run.instruction, "unknown-build-step", reason)
    for command in run.of_kind("fetch"):
        if command.program not in named_packages(recipe):
            reason = f"the slim image has no {command.program}"
            yield _skip(recipe, run.instruction, "unknown-build-step", reason)


def _name(command: Command) -> str:
    words, _ = unwrapped(command.words)
    return " ".join(word.text for word in (words or command.words)[:2])


def _environment(recipe: Recipe, environment: Environment) -> Iterator[Skip]:
    own = environment.path if environment.own else ""
    known = [own] if own else []
    if any("tool" in run.kinds and run.pieces is None for run in recipe.runs):
        # Where the set-up scripts of poetry and uv put them: in the builder only.
        known += ["/root/.local/bin", "$HOME/.local/bin", "${HOME}/.local/bin"]
    others = tuple(each for each in recipe.stage.instructions if each.keyword != "RUN")
    found = mentions(recipe, _OWN_ENVIRONMENT, without=known, among=others)
    if found:
        yield _skip(recipe, found[0], "own-environment", f"it uses {found[1]}")
    found = mentions(recipe, _INTERPRETER_PATH)
    if found:
        reason = f"{found[1]} names a place that the packages leave"
        yield _skip(recipe, found[0], "interpreter-path", reason)
    found = mentions(recipe, _RESETS_PATH)
    if found:
        reason = f"{found[1]} may start programs with another PATH"
        yield _skip(recipe, found[0], "path-reset", reason)
    named = variable_naming_code(recipe)
    if named:
        reason = f"{named[1]} names a file that comes with the code"
        yield _skip(recipe, named[0], "installer-configuration", reason)
    for instruction in recipe.stage.instructions:
        if instruction.keyword not in ("ENV", "ARG"):
            continue
        for name, value in _assignments(instruction):
            if name in _ENVIRONMENT_NAMES and not (own and value.strip("\"'") == own):
                reason = f"{name} says where packages are installed, or how"
                yield _skip(recipe, instruction, "own-environment", reason)
            if name == "PATH" and not re.search(r"\$\{?PATH\b", value):
                reason = "PATH is set anew"
                yield _skip(recipe, instruction, "path-reset", reason)
            if name == "UV_SYSTEM_PYTHON" and len(list(_assignments(instruction))) > 1:
                reason = "UV_SYSTEM_PYTHON is set together with other variables"
                yield _skip(recipe, instruction, "own-environment", reason)


def _assignments(instruction: Instruction) -> Iterator[tuple[str, str]]:
    if instruction.keyword == "ENV":
        yield from list(pairwise(instruction.values))[::2]
    else:
        for word in instruction.values:
            name, _, value = word.partition("=")
            yield name, value


def _order(recipe: Recipe) -> Iterator[Skip]:
    last = recipe.last_install
    for instruction in recipe.stage.instructions:
        if instruction.start >= last:
            break
        user = instruction.values[0].partition(":")[0] if instruction.keyword == "USER" else "root"
        if user not in ("root", "0"):
            reason = f"packages are installed after USER {user}, and may belong to that user"
            yield _skip(recipe, instruction, "installs-as-user", reason)
        copy = copies(instruction)
        if copy is not None and configures_installer(copy):
            reason = "it configures the installer"
            yield _skip(recipe, instruction, "installer-configuration", reason)
    for run in recipe.runs:
        before = run.instruction.start < last
        for command in run.of_kind("files", "project", "inspect"):
            if before or _precedes_install(run, command):
                reason = (
                    f"{_name(command)} runs before the packages are installed, perhaps for them"
                )
                yield _skip(recipe, run.instruction, "step-before-install", reason)


def _precedes_install(run: Run, command: Command) -> bool:
    position = run.commands.index(command)
    return "install" in run.kinds[position:]


def _system_packages(recipe: Recipe, run: Run) -> Iterator[Skip]:
    removing = tuple(run.of_kind("apt-remove"))
    for command in run.of_kind("apt-install", "apt-remove"):
        for word in apt_packages(command):
            package = package_name(word.text)
            if command in removing and _HEADERS.fullmatch(word.text):
                continue
            if re.search(r"[$/*]|\.deb$|(?<!\+)\+$|-$", word.text):
                reason = f"it is not known which package {word.text} is"
                yield _skip(recipe, run.instruction, "unknown-build-step", reason)
            elif is_system_python(package):
                reason = f"{package} is a second Python beside the image's own"
                yield _skip(recipe, run.instruction, "system-python", reason)
            elif _FAILS_ON_SLIM.match(package):
                reason = f"{package} may not install on the slim image, which has no manual pages"
                yield _skip(recipe, run.instruction, "package-on-slim", reason)
    for command in run.of_kind("apt-install"):
        for package in filter(is_for_building, _names(command)):
            if run.instruction.start > recipe.last_install:
                reason = f"{package} comes after the Python packages: something else may need it"
                yield _skip(recipe, run.instruction, "compiler-after-install", reason)
            elif runtime_partners(package) is None:
                reason = f"what was compiled with {package} may need a library that is not known"
                yield _skip(recipe, run.instruction, "unknown-shared-library", reason)
    for command in run.of_kind("apt-remove"):
        for package in _names(command):
            if not is_for_building(package) and not _HEADERS.fullmatch(package):
                reason = f"{package} is removed again"
                yield _skip(recipe, run.instruction, "unknown-build-step", reason)


def _names(command: Command) -> list[str]:
    return [package_name(word.text) for word in apt_packages(command)]


def _unclear_chain(recipe: Recipe, run: Run) -> Iterator[Skip]:
    """Yield a skip for what would have to be taken apart, and cannot be."""
    kinds = set(run.kinds)
    only_builds = kinds <= BUILDING | {"neutral"}
    commands = run.of_kind("apt-install", "apt-remove")
    packages = [package for command in commands for package in _names(command)]
    divides = (run.builds and not only_builds) or any(map(is_for_building, packages))
    if run.depends_on_files and not kinds <= {"install", "neutral"}:
        reason = "what it installs depends on which files are there"
        yield _skip(recipe, run.instruction, "opaque-shell", reason)
    if "folder" in kinds and run.builds:
        reason = "it changes the folder before it installs"
        yield _skip(recipe, run.instruction, "opaque-shell", reason)
    if divides and run.pieces is None:
        reason = "it installs packages and does more, in a way that cannot be taken apart"
        yield _skip(recipe, run.instruction, "opaque-shell", reason)


def _installer_options(recipe: Recipe) -> Iterator[Skip]:
    for run, _, install in recipe.installs():
        if not isinstance(install, str):
            continue
        if install.startswith(("-e", "--editable")):
            reason = "an editable install is a link to the code, not a copy of it"
            yield _skip(recipe, run.instruction, "editable-install", reason)
        reason = f"{install or 'an option'} may mean something else in a virtual environment"
        yield _skip(recipe, run.instruction, "installer-option", reason)
