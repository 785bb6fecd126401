"""What it takes to run a program, or a shell text, on the slim image."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.service_commands import started_programs
from mega_optimizer.codemods.containers.system_packages import PROGRAMS, TOOLCHAIN
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.shell import parse_shell
from mega_optimizer.repository.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.repository.place import Place

# A Debian package that is needed, or why a need cannot be met.
Need = str | Skip

_INSTALLERS = frozenset({"pip", "pip3", "uv", "uvx", "poetry", "pipenv", "pipx", "conda"})
# Programs for people who work in the container, with whatever else is in it.
_INTERACTIVE = frozenset({"ipython", "jupyter", "jupyter-lab", "jupyter-notebook", "jupyterhub"})
_RESETS_PATH = frozenset(
    {"cron", "crond", "sudo", "su", "runuser", "login", "sshd", "systemctl", "service"}
)
_OWN_PYTHON = re.compile(r"/usr/(local/)?bin/(python|pip)")
# Shell texts in shell texts in shell texts: nobody goes deeper.
_DEEPEST = 3


def program_needs(name: str, place: Place, *, was_full: bool) -> Iterator[Need]:
    """Yield what running the program ``name`` needs; ``was_full``: the image was a full one."""
    program = posixpath.basename(name)
    if program in _INSTALLERS:
        yield Skip(place, "installs-at-run-time", f"{program} is used while the service runs")
    if program in _INTERACTIVE:
        yield Skip(place, "development-image", f"{program} is for people who may want more")
    if program in _RESETS_PATH:
        yield Skip(place, "path-reset", f"{program} may start programs with another PATH")
    if _OWN_PYTHON.match(name):
        yield Skip(place, "interpreter-path", f"{name} is not the Python of the packages")
    if program in TOOLCHAIN:
        yield Skip(place, "runtime-compiler", f"{program} is run by the service")
    if program in PROGRAMS and was_full:
        yield PROGRAMS[program]


def script_needs(text: str, place: Place, *, was_full: bool, depth: int = 0) -> Iterator[Need]:
    """Yield what the programs need that a shell would run for ``text``."""
    for command in parse_shell(Source(text.encode("utf-8", "surrogateescape"), None)):
        for started in started_programs(command):
            yield from program_needs(started, place, was_full=was_full)
        for word in command.words[1:] if depth < _DEEPEST else ():
            if " " in word.text.strip():
                yield from script_needs(word.text, place, was_full=was_full, depth=depth + 1)
