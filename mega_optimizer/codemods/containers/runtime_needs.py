"""What a service needs of its image at run time that the runtime stage would lack.

Looked at are the commands that start and check the service (Dockerfile, compose, Kubernetes, the
scripts that they name), its own Python modules, and the packages that it depends on.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.code_needs import PACKAGE_PATHS, code_needs
from mega_optimizer.codemods.containers.git_readers import git_readers
from mega_optimizer.codemods.containers.image_recipe import shipped_files, ships_history
from mega_optimizer.codemods.containers.program_needs import script_needs
from mega_optimizer.codemods.containers.runtime_libraries import (
    CALLED_PROGRAMS,
    COMPILERS_AT_RUN_TIME,
    OWN_INTERPRETERS,
    SERVE_FILES,
    UNKNOWN_LIBRARIES,
    libraries_of,
)
from mega_optimizer.codemods.containers.service_commands import mounted_paths, started_scripts
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.containers.program_needs import Need
    from mega_optimizer.codemods.containers.service_commands import Started
    from mega_optimizer.codemods.context import Context

# What only matters where packages come to stand somewhere else.
_ABOUT_THE_PLACE = frozenset({"interpreter-path", "own-environment", "path-reset"})
_UWSGI_FILES = (".ini", ".conf", ".cfg", ".yaml", ".yml", ".xml", ".json")
# https://uwsgi-docs.readthedocs.io/en/latest/Options.html ("Python", "plugins")
_UWSGI_PLACES = re.compile(
    rb"(?m)(?:^[ \t]*[\"'<]?|\s--?|\bUWSGI_)"
    rb"((?:home|virtualenv|venv|pyhome|pythonpath|python-path|pp|plugins?|binary-path)\b"
    rb"[\"']?[ \t]*[=:> ][^\n]*|(?:HOME|VIRTUALENV|VENV|PYHOME|PYTHONPATH|PP|PLUGINS?)\b[^\n]*)"
)
_MISLEADING = ("PATH", "PYTHONHOME", "VIRTUAL_ENV")


def runtime_needs(
    context: Context,
    recipe: Recipe,
    packages: Mapping[str, frozenset[str]],
    installed: frozenset[str],
    *,
    was_full: bool,
    moved: bool = True,
) -> tuple[str, ...] | Skip:
    """Return the Debian packages to install in the runtime stage, or why they are not known.

    ``packages`` are the Python packages with their extras, ``installed`` the Debian packages that
    the runtime stage installs anyway; ``was_full`` says that the image was a full one, ``moved``
    that the Python packages come to stand somewhere else.
    """
    needed: dict[str, None] = {}
    for need in _needs(context, recipe, packages, installed, was_full):
        if isinstance(need, str):
            needed[need] = None
        elif moved or need.code not in _ABOUT_THE_PLACE:
            return need
    return tuple(name for name in needed if name not in installed)


def _needs(
    context: Context,
    recipe: Recipe,
    packages: Mapping[str, frozenset[str]],
    installed: frozenset[str],
    was_full: bool,
) -> Iterator[Need]:
    yield from _deployment_obstacles(context)
    for started in started_scripts(context, recipe):
        yield from _started_needs(recipe, started, was_full)
    yield from code_needs(context, recipe, was_full=was_full)
    if was_full and "git" not in installed and ships_history(context, recipe):
        for reader in git_readers(context, (recipe.dockerfile,)):
            reason = "it may ask git for the commit, and go on without an answer"
            yield Skip(reader, "reads-git", reason)
    if "uwsgi" in packages:
        yield from _uwsgi_obstacles(context, recipe)
    place = Place(recipe.path, recipe.stage.origin.line)
    yield from _package_obstacles(packages, place, was_full)
    yield from _package_needs(context, recipe, packages, was_full)


def _deployment_obstacles(context: Context) -> Iterator[Skip]:
    for place, path in mounted_paths(context):
        hides = posixpath.normpath(path) in ("/", "/opt") or path.startswith("/opt/venv")
        if hides or PACKAGE_PATHS.search(path.encode("utf-8", "surrogateescape")):
            yield Skip(place, "own-environment", f"{path} is mounted from outside")
    for deployment in context.service.deployments:
        for name in _MISLEADING:
            if name in deployment.environment:
                yield Skip(deployment.place, "path-reset", f"it sets {name}")


def _started_needs(recipe: Recipe, started: Started, was_full: bool) -> Iterator[Need]:
    found = PACKAGE_PATHS.search(started.text.encode("utf-8", "surrogateescape"))
    if found and not _is_copied(recipe, found[0].decode()):
        reason = f"{found[0].decode()} is not where the packages are"
        yield Skip(started.place, "interpreter-path", reason)
    yield from script_needs(started.text, started.place, was_full=was_full)


def _is_copied(recipe: Recipe, path: str) -> bool:
    return any(
        transfer.destination == path
        or (transfer.into and path.startswith(f"{transfer.destination}/"))
        for transfer in recipe.transfers
    )


def _uwsgi_obstacles(context: Context, recipe: Recipe) -> Iterator[Skip]:
    """Yield a skip for each setting of uWSGI that says where Python or its packages are.

    Without one it uses the environment in which it is installed.
    """
    texts = [
        (started.place, started.text.encode("utf-8", "surrogateescape"))
        for started in started_scripts(context, recipe)
    ]
    texts.append((Place(recipe.path, recipe.stage.origin.line), recipe.content))
    for path in sorted(shipped_files(context, recipe)):
        content = context.read(path) if path.endswith(_UWSGI_FILES) else b""
        if isinstance(content, bytes) and b"uwsgi" in content:
            texts.append((Place(path), content))
    for place, text in texts:
        found = _UWSGI_PLACES.search(text)
        if found:
            told = found[1].decode("utf-8", "replace").strip()
            yield Skip(place, "own-interpreter", f"uWSGI is told where Python is: {told}")


def _package_obstacles(
    packages: Mapping[str, frozenset[str]], place: Place, was_full: bool
) -> Iterator[Skip]:
    for name in sorted(COMPILERS_AT_RUN_TIME & packages.keys()):
        yield Skip(place, "runtime-compiler", f"{name} compiles while the program runs")
    for name in sorted(OWN_INTERPRETERS & packages.keys()):
        yield Skip(place, "own-interpreter", f"{name} embeds Python and finds packages its own way")
    for name in sorted(UNKNOWN_LIBRARIES & packages.keys()) if was_full else ():
        reason = f"the system libraries of {name} are not known"
        yield Skip(place, "unknown-shared-library", reason)


def _package_needs(
    context: Context, recipe: Recipe, packages: Mapping[str, frozenset[str]], was_full: bool
) -> Iterator[str]:
    libraries = libraries_of(packages)
    if not was_full:
        # Of what the tables know, a slim image has only what its compilers draw in.
        yield from (name for name in libraries if name == "libgomp1")
        return
    yield from libraries
    for name, programs in CALLED_PROGRAMS.items():
        if name in packages:
            yield from programs
    if SERVE_FILES & packages.keys():
        yield "media-types"
    root = context.service.root
    if "flask" in packages and any(
        "static/" in path[len(root) :] for path in shipped_files(context, recipe)
    ):
        yield "media-types"
