"""What about a stage, or the service, forbids to build it on Alpine: musl, BusyBox, apk, ash."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import APT
from mega_optimizer.codemods.containers.service_commands import started_scripts
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.image_recipe import Recipe, Run
    from mega_optimizer.codemods.context import Context

# BusyBox has these, with the options that images use; it has no useradd, and another adduser.
_SAME_IN_BUSYBOX = frozenset(
    {
        "basename", "cat", "chgrp", "chmod", "chown", "cp", "cut", "date", "dirname", "echo",
        "find", "grep", "gunzip", "gzip", "head", "id", "ln", "ls", "mkdir", "mv", "printf", "pwd",
        "rm", "rmdir", "sed", "sleep", "sort", "tail", "tar", "tee", "touch", "tr", "uname",
        "uniq", "wc",
    }
)  # fmt: skip
_KNOWN = frozenset(
    {
        "environment", "folder", "inspect", "install", "neutral", "project", "tool", "uncache",
        "upgrade-pip",
    }
)  # fmt: skip
_BASH = re.compile(r"\bbash\b|\[\[ |\bsource ")
_LOCALE = re.compile(rb"\blocale\.setlocale\b|\bstrcoll\b|\bstrxfrm\b")
_LOCALE_VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "LANGUAGE")
_PLAIN_LOCALES = ("C", "C.UTF-8", "POSIX")


def alpine_obstacle(context: Context, recipe: Recipe) -> Skip | None:
    """Return the first reason why ``recipe`` may not build or run on Alpine."""
    return next(_obstacles(context, recipe), None)


def _obstacles(context: Context, recipe: Recipe) -> Iterator[Skip]:
    for instruction in recipe.stage.instructions:
        place = Place(recipe.path, instruction.line, end_line=instruction.end_line)
        if instruction.keyword == "SHELL":
            yield Skip(place, "needs-bash", "SHELL names a shell that Alpine may not have")
        elif instruction.keyword == "ENV":
            values = dict(zip(instruction.values[::2], instruction.values[1::2], strict=False))
            for name in _LOCALE_VARIABLES:
                if values.get(name, "C").strip("\"'") not in _PLAIN_LOCALES:
                    yield Skip(place, "needs-locales", f"musl knows no {name}={values[name]}")
    for run in recipe.runs:
        yield from _steps(recipe, run)
    for started in started_scripts(context, recipe):
        found = _BASH.search(started.text)
        if found or started.text.startswith("#!/bin/bash"):
            yield Skip(started.place, "needs-bash", "it needs bash, which Alpine has not")
    for path in context.service.modules:
        content = context.read(path)
        found_locale = _LOCALE.search(content) if isinstance(content, bytes) else None
        if found_locale and isinstance(content, bytes):
            line = content.count(b"\n", 0, found_locale.start()) + 1
            yield Skip(
                Place(path, line), "needs-locales", "musl has no locales to sort or format by"
            )


def _steps(recipe: Recipe, run: Run) -> Iterator[Skip]:
    place = Place(recipe.path, run.instruction.line, end_line=run.instruction.end_line)
    for command, kind in zip(run.commands, run.kinds, strict=True):
        words, _ = unwrapped(command.words)
        program = posixpath.basename(words[0].text) if words else ""
        if kind in APT:
            yield Skip(place, "needs-apt", "it installs packages of Debian")
        elif kind not in _KNOWN and program not in _SAME_IN_BUSYBOX:
            yield Skip(place, "debian-tools", f"{program} is another program on Alpine, or none")
