"""Keep pip's download cache out of the image: ``pip install --no-cache-dir``.

https://pip.pypa.io/en/stable/topics/caching/ and
https://github.com/hadolint/hadolint/wiki/DL3042
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import (
    copies,
    environment_at,
    shell_at,
    shipping_stage,
    stage_ships,
)
from mega_optimizer.repository.dockerfile.stages import before, lineage, stage_named
from mega_optimizer.repository.installers import (
    keeps_pip_cache,
    names_pip_cache,
    pip_subcommand,
    removes_pip_cache,
)
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.shell import commands, parse_argument, shell_argument
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Instruction, Stage
    from mega_optimizer.repository.shell import Command

_FLAG = "--no-cache-dir"
# What the file must hold to be looked at: nothing that `uv pip install` alone would bring.
_PIP_INSTALL = re.compile(rb"(?<!uv )\bpip")
_OTHER_CACHE = re.compile(r"^/var/|/\.cache/(?!pip(/|$))[^$]")
_ONLY_HERE_DOCUMENT = re.compile(rb"""\s*<<-?(['"]?)\w+\1\s*(?:\n|\Z)""")
# What runs as it stands, though perhaps not, or more than once: an added flag changes neither.
_PLAIN = frozenset({"", "group", "condition", "loop"})


def find(context: Context) -> Iterator[Outcome]:
    """Add ``--no-cache-dir`` to each ``pip install`` whose cache would end up in the image."""
    path = context.service.dockerfile
    content = context.read(path) if path else b""
    if path is None or not isinstance(content, bytes) or not _PIP_INSTALL.search(content):
        return
    dockerfile = context.dockerfile(path)
    if isinstance(dockerfile, Problem):
        yield Skip(Place(path, dockerfile.line), dockerfile.code, dockerfile.message)
        return
    shipping = shipping_stage(dockerfile, context.service.stage)
    if shipping is None:
        reason = f"the Dockerfile has no stage called {context.service.stage}"
        yield Skip(Place(path), "unknown-stage", reason)
        return
    for stage in dockerfile.stages:
        in_image = stage_ships(dockerfile, stage, context.service.stage) or hands_over_home(
            dockerfile, stage, shipping
        )
        for instruction in stage.instructions:
            if instruction.keyword == "RUN":
                yield from _look_at(context, content, dockerfile, stage, instruction, in_image)


def _look_at(
    context: Context,
    content: bytes,
    dockerfile: Dockerfile,
    stage: Stage,
    instruction: Instruction,
    in_image: bool,
) -> Iterator[Outcome]:
    """Yield the outcome of one RUN, if it installs with pip and keeps the cache."""
    place = Place(dockerfile.path, instruction.line, end_line=instruction.end_line)
    if instruction.opaque:
        if b"pip" in content[instruction.start : instruction.end]:
            yield Skip(place, "opaque-shell", "the parsers read this RUN differently")
        return
    if mounts_pip_cache(instruction):
        return
    environment = environment_at(dockerfile, stage, instruction)
    written = tuple(
        inner
        for command in commands(instruction, shell_at(dockerfile, stage, instruction))
        for inner in (command, *_in_string(command, content))
    )
    keeping = [
        command
        for position, command in enumerate(written)
        if keeps_pip_cache(command, environment)
        and not brings_flag(command, environment)
        and not any(map(removes_pip_cache, written[position + 1 :]))
    ]
    plainly = _PLAIN | {"heredoc"} if runs_here_document(instruction) else _PLAIN
    edits = [
        edit
        for command in keeping
        if command.inside in plainly and (edit := _edit(dockerfile.path, command))
    ]
    if not keeping:
        return
    if configured_without_cache(context, dockerfile, stage, instruction):
        return
    if not in_image:
        yield Skip(place, "stage-not-shipped", "this stage is not part of the image that ships")
        return
    if "PIP_CACHE_DIR" in environment or any(map(names_pip_cache, keeping)):
        yield Skip(place, "own-cache-dir", "pip is told where to keep its cache")
        return
    if len(edits) < len(keeping):
        yield Skip(
            place,
            "opaque-shell",
            "pip install stands in a function, a substitution or another program's input",
        )
    if edits:
        yield Fix(
            place,
            "pip leaves what it downloaded in this layer; --no-cache-dir keeps it out",
            tuple(edits),
        )


def _edit(path: str, command: Command) -> Edit | None:
    subcommand = pip_subcommand(command)
    if subcommand is None or subcommand.end < 0:
        return None
    addition = f', "{_FLAG}"' if command.exec_form else f" {_FLAG}"
    return Edit(path, subcommand.end, subcommand.end, addition.encode())


def mounts_pip_cache(instruction: Instruction) -> bool:
    """Whether a cache or tmpfs mount may hold pip's cache during this RUN.

    It is believed of all but the caches of other programs: below /var, and ``.cache/uv`` and such.
    """
    for flag in instruction.flags:
        options = dict(part.partition("=")[::2] for part in flag.value.split(","))
        if flag.name != "mount" or options.get("type") not in ("cache", "tmpfs"):
            continue
        target = options.get("target") or options.get("dst") or options.get("destination") or ""
        if not _OTHER_CACHE.search(target.strip("\"'")):
            return True
    return False


def brings_flag(command: Command, environment: Mapping[str, str | None]) -> bool:
    """Whether a variable among the words stands for options that disable the cache."""
    return any(
        f"${name}" in word.text or f"${{{name}" in word.text
        for name, value in environment.items()
        if value and "--no-cache" in value
        for word in command.words
    )


def configured_without_cache(
    context: Context, dockerfile: Dockerfile, stage: Stage, instruction: Instruction
) -> bool:
    """Whether pip's configuration, as far as it is written here, disables the cache."""
    shown = [*before(dockerfile, stage, instruction), instruction]
    for other in shown:
        if other.keyword == "RUN":
            if _mentions_no_cache(other) and any(map(_configures_no_cache, commands(other))):
                return True
            continue
        copy = copies(other)
        for source in copy.sources if copy and copy.from_stage is None else ():
            if posixpath.basename(source) not in ("pip.conf", "pip.ini"):
                continue
            configuration = context.read(
                posixpath.normpath(posixpath.join(context.service.root, source.lstrip("/")))
            )
            if isinstance(configuration, bytes) and b"no-cache-dir" in configuration:
                return True
    return False


def _mentions_no_cache(run: Instruction) -> bool:
    """Whether it is worth parsing ``run`` once more."""
    return any("no-cache" in text or "NO_CACHE" in text for text in run.values) or bool(
        run.heredocs
    )


def _configures_no_cache(command: Command) -> bool:
    subcommand = pip_subcommand(command)
    if subcommand is not None and subcommand.text == "config":
        return any("no-cache-dir" in text for text in command.texts)
    return command.program == "export" and any(
        text.startswith("PIP_NO_CACHE_DIR=") for text in command.texts
    )


def _in_string(command: Command, content: bytes) -> tuple[Command, ...]:
    """Return the commands in the text that ``sh -c`` is given."""
    words, _ = unwrapped(command.words)
    argument = shell_argument(words) if command.inside in _PLAIN else None
    return parse_argument(argument, content, json=command.exec_form) if argument else ()


def runs_here_document(instruction: Instruction) -> bool:
    """Whether the shell reads a here-document as its script, not a program as its input.

    https://docs.docker.com/reference/dockerfile/#here-documents
    """
    text = instruction.shell.text if instruction.shell else b""
    return _ONLY_HERE_DOCUMENT.match(text) is not None


def hands_over_home(dockerfile: Dockerfile, stage: Stage, shipping: Stage) -> bool:
    """Whether the image copies a whole home, or everything, out of ``stage``."""
    for part in lineage(dockerfile, shipping):
        for instruction in part.instructions:
            copy = copies(instruction)
            if copy is None or copy.from_stage is None:
                continue
            origin = stage_named(dockerfile, copy.from_stage)
            if origin is None or stage not in lineage(dockerfile, origin):
                continue
            if any(_may_be_home(source) for source in copy.sources):
                return True
    return False


def _may_be_home(path: str) -> bool:
    """Whether ``path`` is ``/``, ``/root``, ``/home`` or a folder right below ``/home``."""
    parts = [part for part in path.split("/") if part]
    return parts in ([], ["root"], ["home"]) or (len(parts) == 2 and parts[0] == "home")
