"""What about a stage forbids to build it on the slim image as it is."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import is_other_installer
from mega_optimizer.codemods.containers.image_recipe import (
    apt_packages,
    in_context,
    named_packages,
)
from mega_optimizer.codemods.containers.installs import Install, parse_install
from mega_optimizer.codemods.containers.system_packages import PROGRAMS, package_name
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.dockerfile import copies
from mega_optimizer.repository.dockerfile.stages import root_image, stage_named
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction
    from mega_optimizer.repository.shell import Command

# Their set-up links manual pages. https://bugs.debian.org/863199
FAILS_ON_SLIM = re.compile(r"openjdk-|default-j|ca-certificates-java")
_DEVELOPMENT_NAME = re.compile(
    r"(?i)(?:^|[._/-])(?:dev|devel|development|devcontainer|local|tests?|testing|ci|debug)"
    r"(?=[._/-]|dockerfile|$)"
)
_SYSTEM_FOLDER = re.compile(r"^/(?:usr/)?(?:local/)?(?:s?bin|lib(?:exec|32|64)?)(?:/|$)")
_PYTHON_FOLDER = re.compile(r"/(?:site|dist)-packages|/lib/python3|/usr/local/bin/?$")
_EXTENSIONS = re.compile(rb"ext_modules|\bExtension\(|cythonize|cffi_modules|RustExtension|CMake")
_PURE_BACKENDS = (
    *("setuptools", "hatchling", "poetry.", "flit_core", "flit.", "uv_build"),
    *("pdm.backend", "pdm.pep517"),
)
_VERSION_FROM_GIT = re.compile(
    rb"setuptools[-_]scm|hatch[-_]vcs|versioningit|versioneer|[-_]dynamic[-_]versioning|flit[-_]scm"
    rb"|dunamai|\bpbr\b|setuptools[-_]git",
    re.IGNORECASE,
)
_BACKEND = re.compile(rb"^[ \t]*build-backend[ \t]*=[ \t]*[\"']([\w.:-]+)", re.MULTILINE)


def is_development_image(path: str) -> bool:
    """Whether the name of a Dockerfile says that people work in the image."""
    return _DEVELOPMENT_NAME.search(path) is not None


def slim_obstacle(context: Context, recipe: Recipe) -> Skip | None:
    """Return the first reason why ``recipe`` may not build on slim as on the full image."""
    return next(_obstacles(context, recipe), None)


def _obstacles(context: Context, recipe: Recipe) -> Iterator[Skip]:
    if is_development_image(recipe.path):
        reason = "its name says that people work in this image: they may want the tools"
        yield Skip(Place(recipe.path), "development-image", reason)
    for instruction in recipe.stage.instructions:
        if instruction.opaque:
            reason = "the parsers read this instruction differently"
            yield _skip(recipe, instruction, "opaque-shell", reason)
        elif instruction.keyword == "ONBUILD":
            reason = "what ONBUILD runs in other images may need the full one"
            yield _skip(recipe, instruction, "onbuild", reason)
        else:
            yield from _copied(recipe, instruction)
    named = named_packages(recipe)
    for run in recipe.runs:
        yield from _steps(recipe, run, named)
        for command in run.of_kind("install"):
            yield from _install(context, recipe, run, command, named)


def _skip(recipe: Recipe, instruction: Instruction, code: str, reason: str) -> Skip:
    place = Place(recipe.path, instruction.line, end_line=instruction.end_line)
    return Skip(place, code, reason)


def _copied(recipe: Recipe, instruction: Instruction) -> Iterator[Skip]:
    """Yield a skip for programs and libraries of another image, which link to its libraries."""
    copy = copies(instruction)
    if copy is None or copy.from_stage is None:
        return
    origin = stage_named(recipe.dockerfile, copy.from_stage)
    image = (root_image(recipe.dockerfile, origin) if origin else copy.from_stage) or ""
    for source in copy.sources:
        name = posixpath.basename(source)
        if name in ("uv", "uvx") or not _SYSTEM_FOLDER.match(source):
            continue
        if "python" in image and _PYTHON_FOLDER.search(source):
            continue
        reason = f"{source} of another image may link to libraries that slim lacks"
        yield _skip(recipe, instruction, "foreign-binaries", reason)


def _steps(recipe: Recipe, run: Run, named: frozenset[str]) -> Iterator[Skip]:
    if not run.commands:
        reason = "it is not known what this RUN does"
        yield _skip(recipe, run.instruction, "opaque-shell", reason)
    for command in run.of_kind("unknown", "fetch"):
        words, _ = unwrapped(command.words)
        program = posixpath.basename(words[0].text) if words else ""
        # What the stage installs by name is there on the slim image too.
        if program in PROGRAMS and PROGRAMS[program] in named and not _feeds_a_shell(run):
            continue
        code = "installer" if is_other_installer(command) else "unknown-build-step"
        text = " ".join(word.text for word in (words or command.words)[:2])
        reason = f"it is not known which programs of the full image {text} needs"
        yield _skip(recipe, run.instruction, code, reason)
    for command in run.of_kind("apt-install"):
        for word in apt_packages(command):
            if FAILS_ON_SLIM.match(package_name(word.text)):
                reason = f"{word.text} may not install on slim, which has no manual pages"
                yield _skip(recipe, run.instruction, "package-on-slim", reason)


def _feeds_a_shell(run: Run) -> bool:
    return any(command.joined == "|" for command in run.commands)


def _install(
    context: Context, recipe: Recipe, run: Run, command: Command, named: frozenset[str]
) -> Iterator[Skip]:
    install = parse_install(command, in_place=True)
    if isinstance(install, str):
        reason = f"{install or 'an option'} may make the installer compile"
        yield _skip(recipe, run.instruction, "installer-option", reason)
        return
    for requirement in install.requirements:
        if "git+" in requirement and "git" not in named:
            yield _skip(recipe, run.instruction, "needs-git", f"{requirement} needs git")
        elif "://" in requirement and ".whl" not in requirement:
            reason = f"{requirement} may have to be compiled"
            yield _skip(recipe, run.instruction, "not-from-an-index", reason)
    for folder in _project_folders(recipe, run, install):
        code_and_reason = _project_obstacle(context, folder)
        if code_and_reason:
            yield _skip(recipe, run.instruction, *code_and_reason)


def _project_folders(recipe: Recipe, run: Run, install: Install) -> Iterator[str | None]:
    """Yield the folders of the build context whose projects are installed; None for unknown."""
    named = [each for each in install.projects if not each.endswith(".whl")]
    if install.with_project:
        named.append(".")
    here = recipe.folder_at(run.instruction)
    earlier = [each for each in recipe.transfers if each.instruction.start < run.instruction.start]
    for name in named:
        written = recipe.expanded(name, run.instruction)
        path = posixpath.normpath(posixpath.join(here, written or "?"))
        sources = [
            source
            for each in reversed(earlier)
            if (source := each.source_of(path)) is not None and each.is_folder
        ]
        by_file = [
            posixpath.dirname(source)
            for each in reversed(earlier)
            if (source := each.source_of(posixpath.join(path, "pyproject.toml"))) is not None
        ]
        yield next(iter([*sources, *by_file]), None)


def _project_obstacle(context: Context, folder: str | None) -> tuple[str, str] | None:
    """Return (code, reason) where building the project in ``folder`` may take a compiler or git."""
    if folder is None:
        return "manifest-not-found", "the project that it installs is no folder of the repository"
    for name in ("pyproject.toml", "setup.py", "setup.cfg"):
        path = in_context(context, posixpath.join(folder, name))
        content = context.read(path) if path in context.files else b""
        if not isinstance(content, bytes):
            continue
        if _EXTENSIONS.search(content):
            return "compiles-extensions", f"{path} has extension modules, which are compiled"
        if _VERSION_FROM_GIT.search(content):
            return "reads-git", f"{path} takes its version from git, which slim lacks"
        backend = _BACKEND.search(content)
        if backend and not backend[1].decode().startswith(_PURE_BACKENDS):
            return "compiles-extensions", f"{backend[1].decode()} may compile"
    return None
