"""What the commands of a RUN do: install packages, prepare files, or something unknown."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.containers.installs import parse_install, tool_of
from mega_optimizer.repository.installers import (
    installs_apt,
    pip_subcommand,
    pip_words,
    removes_pip_cache,
)
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.repository.dockerfile import Instruction
    from mega_optimizer.repository.shell import Command

Kind = Literal[
    "neutral",
    "folder",
    "apt-update",
    "apt-upgrade",
    "apt-install",
    "apt-remove",
    "apt-clean",
    "install",
    "tool",
    "upgrade-pip",
    "environment",
    "inspect",
    "uncache",
    "accounts",
    "files",
    "fetch",
    "project",
    "unknown",
]
# The side of the image that a command belongs to; the others belong to both or to none.
BUILDING = frozenset({"install", "tool", "upgrade-pip", "uncache", "environment"})
APT = frozenset({"apt-update", "apt-upgrade", "apt-install", "apt-remove", "apt-clean"})
RUNNING = frozenset({"accounts", "files", "fetch", "project", "inspect"})

_NEUTRAL = frozenset({"", "set", "export", "true", ":", "test", "[", "exit", "unset", "umask"})
_ACCOUNTS = frozenset(
    {
        "addgroup", "adduser", "chgrp", "chmod", "chown", "groupadd", "groupmod", "mkdir",
        "useradd", "usermod",
    }
)  # fmt: skip
# What the slim image has: coreutils, findutils, grep, sed, mawk, tar, gzip, the shell itself; and
# what configures packages that the image names itself.
_FILES = frozenset(
    {
        "chpasswd", "dpkg-reconfigure", "ldconfig", "locale-gen", "localedef",
        "update-ca-certificates", "update-locale",
        "awk", "basename", "cat", "cmp", "cp", "cut", "date", "dirname", "du", "echo", "grep",
        "groups", "gunzip", "gzip", "head", "id", "install", "ln", "ls", "md5sum", "mktemp", "mv",
        "printf", "pwd", "readlink", "realpath", "rm", "rmdir", "sed", "seq", "sha256sum", "sleep",
        "sort", "stat", "tail", "tar", "tee", "touch", "tr", "uname", "uniq", "wc", "whoami",
    }
)  # fmt: skip
# Programs that Python packages bring, and that only work on files of the project.
_PROJECT_PROGRAMS = frozenset({"alembic", "django-admin", "flask", "pybabel"})
# A script of the project that is run by its own name: the interpreter is in its first line.
_PROJECT_SCRIPT = re.compile(
    r"(?:\./|/app/|/code/|/src/|/srv/)(?!(?:setup|configure)\.py)[\w/-]+\.py"
)
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_NOT_PROJECT_MODULES = frozenset(
    {"build", "ensurepip", "pip", "pipx", "poetry", "pipenv", "uv", "venv", "virtualenv", "conda"}
)
_OTHER_INSTALLERS = frozenset(
    {"conda", "mamba", "micromamba", "pdm", "pipenv", "pipx", "poetry", "rye", "hatch"}
)
# The scripts that set up poetry, uv and Rust, which compiles packages, and what reads them.
_SET_UP = re.compile(r"https://(?:install\.python-poetry\.org|astral\.sh/uv|sh\.rustup\.rs)\b")
# A program that what runs is started or checked with: no installer of packages calls it.
_WRITES_PROGRAM = re.compile(
    r"(?:^|\s)(?:-[a-zA-Z]*[oO] ?|--output[ =]|--output-document=)"
    r"/(?:usr/)?(?:local/)?s?bin/[\w.-]+(?=\s|$)"
)
_SENDS = re.compile(r"(?:^|\s)(?:-[a-zA-Z]*[dFTK]\b|--data|--form|--upload|--config|--post)")
_READ_SCRIPTS = frozenset({"sh", "bash", "python", "python3"})
# What installs packages, and is of no use to what runs.
_TOOLS = frozenset(
    {
        "pip",
        "pipenv",
        "poetry",
        "poetry-core",
        "poetry-dynamic-versioning",
        "poetry-plugin-export",
        "uv",
    }
)
_SEPARATOR = re.compile(
    rb"[ \t]*(?:(?:&&|;)[ \t]*)?(?:[A-Za-z_]\w*=(?:\"[^\"]*\"|'[^']*'|[^\s;&|\"'<>]*)[ \t]+)*"
)
_ASSIGNMENTS = re.compile(
    rb"(?:[A-Za-z_]\w*=(?:\"[^\"]*\"|'[^']*'|[^\s;&|\"'<>]*)(?:[ \t]|\\\r?\n)+)*$"
)
_BETWEEN_LINES = re.compile(rb"[\\`][ \t]*\r?\n(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A command of a RUN with its byte range, assignments in front of it included."""

    command: Command
    kind: Kind
    start: int
    end: int


def kind_of(command: Command) -> Kind:
    """Return what ``command`` does, ``unknown`` where that is not certain."""
    words, _ = unwrapped(command.words)
    if not command.words:
        return "neutral"
    if not words:
        return "unknown"
    program = posixpath.basename(words[0].text)
    texts = [word.text for word in words]
    if texts[0].startswith("["):
        return "neutral"
    if program == "cd":
        return "folder"
    if program in ("apt", "apt-get"):
        return _apt_kind(command, texts)
    if program == "rm" and _removes_apt_rests(texts[1:]):
        return "apt-clean"
    if removes_pip_cache(command):
        return "uncache"
    if pip_words(command) is not None:
        return _pip_kind(command)
    if _makes_environment(program, texts):
        return "environment"
    if program in ("uv", "poetry", "pipenv"):
        return _manager_kind(command, texts)
    if program in _NEUTRAL:
        return "neutral"
    if program in _ACCOUNTS:
        return "accounts"
    if program in _FILES or (program == "find" and not {"-exec", "-execdir", "-ok"} & set(texts)):
        return "files"
    if program in ("curl", "wget") and _fetches_a_program(texts):
        return "fetch"
    if program in _PROJECT_PROGRAMS or _PROJECT_SCRIPT.fullmatch(texts[0]):
        return "project"
    if _PYTHON.fullmatch(program) and "/" not in texts[0]:
        return "project" if _runs_project_code(texts[1:]) else "unknown"
    return "unknown"


def _fetches_a_program(texts: list[str]) -> bool:
    """Whether one address is written to one file, among the programs of the system."""
    addresses = [text for text in texts[1:] if "://" in text]
    joined = " ".join(texts[1:])
    written = _WRITES_PROGRAM.search(joined)
    return len(addresses) == 1 and written is not None and not _SENDS.search(joined)


def _makes_environment(program: str, texts: list[str]) -> bool:
    """Whether a virtual environment is made, or entered."""
    if program in (".", "source"):
        return len(texts) == 2 and texts[1].endswith("/bin/activate")
    if _PYTHON.fullmatch(program):
        joined = "".join(texts[1:3])
        return joined.startswith(("-mvenv", "-mvirtualenv"))
    return program == "virtualenv" or (program == "uv" and texts[1:2] == ["venv"])


def _manager_kind(command: Command, texts: list[str]) -> Kind:
    """Return what uv, poetry or pipenv does."""
    if tool_of(command) is not None:
        return "install"
    verb = next((text for text in texts[1:] if not text.startswith("-")), "")
    if verb == "cache":
        return "uncache"
    if (texts[0], verb) == ("poetry", "config") or verb in ("", "self"):
        return "tool"
    return "unknown"


def kinds_of(found: Sequence[Command]) -> tuple[Kind, ...]:
    """Return what each of the commands of a RUN does; a pipe may make one thing of two."""
    kinds = list(map(kind_of, found))
    for position, (command, following) in enumerate(pairwise(found)):
        fetches = command.program in ("curl", "wget") and _SET_UP.search(" ".join(command.texts))
        runs = following.joined == "|" and following.program in _READ_SCRIPTS
        if fetches and runs:
            kinds[position] = kinds[position + 1] = "tool"
    return tuple(kinds)


def asks_for_a_file(command: Command) -> bool:
    """Whether it tests for a file: ``[ -f setup.py ]``, ``test -d wheels``."""
    text = " ".join(command.texts)
    return re.match(r"(?:\[\[? |test )(?:! )?-[defrsx] ", text) is not None


def is_other_installer(command: Command) -> bool:
    """Whether ``command`` is an installer of Python packages that is not pip or ``uv pip``."""
    words, _ = unwrapped(command.words)
    texts = [word.text for word in words]
    if not texts:
        return False
    program = posixpath.basename(texts[0])
    return program in _OTHER_INSTALLERS or (program == "uv" and texts[1:2] != ["pip"])


def _apt_kind(command: Command, texts: list[str]) -> Kind:
    if installs_apt(command):
        return "apt-install"
    verb = next((text for text in texts[1:] if not text.startswith("-")), "")
    if verb == "update":
        return "apt-update"
    if verb in ("upgrade", "dist-upgrade", "full-upgrade"):
        return "apt-upgrade"
    if verb in ("purge", "remove", "autoremove", "autopurge"):
        return "apt-remove"
    return "apt-clean" if verb in ("clean", "autoclean") else "unknown"


def _removes_apt_rests(texts: list[str]) -> bool:
    """Whether ``rm`` with these words removes lists and caches of apt, and temporary files."""
    paths = [text for text in texts if not text.startswith("-")]
    apt = ("/var/lib/apt", "/var/cache/apt", "/var/cache/debconf")
    rests = (*apt, "/tmp", "/var/tmp")
    return all(path.startswith(rests) for path in paths) and any(
        path.startswith(apt) for path in paths
    )


def _pip_kind(command: Command) -> Kind:
    subcommand = pip_subcommand(command)
    verb = subcommand.text if subcommand else ""
    if verb in ("check", "freeze", "list", "show", "--version"):
        return "inspect"
    if verb == "cache":
        return "uncache"
    if verb != "install":
        return "unknown"
    install = parse_install(command)
    if isinstance(install, str) or install.files or install.projects:
        return "install"
    names = {re.split(r"[<>=!~\[;]", name, maxsplit=1)[0] for name in install.requirements}
    if names == {"pip"}:
        return "upgrade-pip"
    if names <= _TOOLS:
        return "tool"
    return "install"


def _runs_project_code(arguments: list[str]) -> bool:
    """Whether ``python`` with these arguments runs a script, a module, or a text of the project."""
    for position, text in enumerate(arguments):
        if text == "-m":
            module = arguments[position + 1] if position + 1 < len(arguments) else ""
            return bool(module) and module.split(".")[0] not in _NOT_PROJECT_MODULES
        if text == "-c":
            return not re.search(r"subprocess|os\.system|\bpip\b", " ".join(arguments))
        if not text.startswith("-"):
            return posixpath.basename(text) != "setup.py" and "$" not in text
    return False


def pieces(
    content: bytes, instruction: Instruction, found: tuple[Command, ...]
) -> tuple[Piece, ...] | None:
    """Return the commands of a RUN with their ranges, if it is a plain chain of ``&&`` and ``;``.

    None where anything else stands between them: pipes, redirections, conditions.
    """
    if instruction.heredocs or instruction.exec_form is not None or not found:
        return None
    result = []
    position = instruction.arguments_start
    for command in found:
        if command.inside or not command.words or command.words[0].start < position:
            return None
        start, end = command.words[0].start, command.words[-1].end
        gap = _BETWEEN_LINES.sub(b" ", content[position:start])
        if not _SEPARATOR.fullmatch(gap):
            return None
        assignments = _ASSIGNMENTS.search(content, position, start)
        result.append(
            Piece(command, kind_of(command), assignments.start() if assignments else start, end)
        )
        position = end
    rest = _BETWEEN_LINES.sub(b" ", content[position : instruction.end])
    return tuple(result) if not rest.strip() else None
