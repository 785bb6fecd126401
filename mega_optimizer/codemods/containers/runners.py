"""``uv run``, ``poetry run`` and ``pipenv run``: what starts a program in the environment.

In an image whose PATH leads to the environment the program is found without them, and without
what they do first. https://docs.astral.sh/uv/concepts/projects/run/
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.environments import MANAGERS, tools_of
from mega_optimizer.codemods.containers.manager_projects import script_names
from mega_optimizer.codemods.containers.python_packages import packages_of
from mega_optimizer.codemods.containers.service_commands import started_scripts
from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.repository.dockerfile import shell_at
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.shell import commands, parse_shell
from mega_optimizer.repository.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction
    from mega_optimizer.repository.service import Word
    from mega_optimizer.repository.shell import Command

_MANAGER = re.compile(rb"\b(?:uv|poetry|pipenv)\b")
_RUNNERS = frozenset({"uv", "poetry", "pipenv"})
_WRAPPERS = frozenset({"exec", "tini", "dumb-init", "--", "-g", "-s", "time", "nohup"})
# Options of `uv run` that say what to do before, not what to run.
_BEFORE = frozenset(
    {
        "--all-extras", "--frozen", "--locked", "--no-cache", "--no-dev", "--no-editable",
        "--no-progress", "--no-project", "--no-sync", "--quiet", "-q",
    }
)  # fmt: skip
_PYTHON = ("python", "python3")


def leaves_managers(recipe: Recipe) -> bool:
    """Whether the image has a project manager that only installing needs."""
    return bool(tools_of(recipe) & MANAGERS)


def runner_obstacle(context: Context, recipe: Recipe) -> Skip | None:
    """Return where the manager is needed at run time, other than in words that can go."""
    if not leaves_managers(recipe):
        return None
    for instruction in recipe.stage.instructions:
        text = recipe.content[instruction.start : instruction.end]
        if instruction.keyword == "HEALTHCHECK" and _MANAGER.search(text):
            place = Place(recipe.path, instruction.line, end_line=instruction.end_line)
            return Skip(place, "installer-at-run-time", "the health check runs it")
        for command in _commands(recipe, instruction):
            place = Place(recipe.path, instruction.line, end_line=instruction.end_line)
            if instruction.keyword == "RUN" and instruction.start <= recipe.last_install:
                continue
            reason = _run_obstacle(context, recipe, command)
            if reason:
                return Skip(place, "installer-at-run-time", reason)
    for started in started_scripts(context, recipe):
        if started.place.path == recipe.path:
            continue
        for command in parse_shell(Source(started.text.encode("utf-8", "surrogateescape"), None)):
            if _runner(command) is not None or command.program in _RUNNERS:
                reason = f"{command.program} is run there"
                return Skip(started.place, "installer-at-run-time", reason)
    return None


def runner_edits(recipe: Recipe, instruction: Instruction) -> Iterator[Edit]:
    """Yield the edits that take ``uv run`` and its like out of ``instruction``."""
    for command in _commands(recipe, instruction):
        found = _runner(command)
        if found is None:
            continue
        first, program = found
        text = b""
        if program.text.endswith(".py"):
            text = b'"python", ' if command.exec_form else b"python "
        yield Edit(recipe.path, first.start, program.start, text)


def _commands(recipe: Recipe, instruction: Instruction) -> tuple[Command, ...]:
    if instruction.keyword not in ("CMD", "ENTRYPOINT", "RUN"):
        return ()
    return commands(instruction, shell_at(recipe.dockerfile, recipe.stage, instruction))


def _runner(command: Command) -> tuple[Word, Word] | None:
    """Return the first word of ``uv run …`` and that of the program; None where there is none."""
    words = list(command.words)
    position = 0
    while position < len(words) and posixpath.basename(words[position].text) in _WRAPPERS:
        position += 1
    start = position
    if len(words) < start + 3 or posixpath.basename(words[start].text) not in _RUNNERS:
        return None
    if words[start + 1].text != "run":
        return None
    position = start + 2
    while position < len(words) and words[position].text in _BEFORE | {"--"}:
        position += 1
    if position >= len(words) or words[position].text.startswith("-"):
        return None
    return words[start], words[position]


def _run_obstacle(context: Context, recipe: Recipe, command: Command) -> str:
    """Return why ``command`` would not work without the manager, ``""`` where it would."""
    texts = command.texts
    found = _runner(command)
    if found is None:
        names = [posixpath.basename(text) for text in texts]
        used = next((name for name in names if name in _RUNNERS), None)
        inner = " ".join(text for text in texts if " " in text.strip())
        hidden = next((name for name in _RUNNERS if f"{name} run" in inner), None)
        return f"{used or hidden} is run" if used or hidden else ""
    first, program = found
    if first.start < 0 or program.start < 0:
        return "its words cannot be found in the file"
    return _program_obstacle(context, recipe, program.text)


def _program_obstacle(context: Context, recipe: Recipe, program: str) -> str:
    """Return why the environment may lack ``program``."""
    from packaging.utils import canonicalize_name

    if program in _PYTHON or program.endswith(".py") or "/" in program:
        return ""
    scripts = script_names(context)
    if program in scripts:
        installed = any(
            install.with_project
            for _, _, install in recipe.installs()
            if not isinstance(install, str)
        )
        return "" if installed else f"{program} is a script of the project, which is not installed"
    names = {canonicalize_name(program), *_PROVIDERS.get(program, ())}
    if names & packages_of(context, recipe).keys():
        return ""
    return f"it is not known which package brings {program}"


# Programs whose package has another name.
_PROVIDERS = {
    "fastapi": ("fastapi-cli", "fastapi"),
    "django-admin": ("django",),
    "gunicorn": ("gunicorn",),
    "newrelic-admin": ("newrelic",),
    "opentelemetry-instrument": ("opentelemetry-instrumentation",),
    "ddtrace-run": ("ddtrace",),
}
