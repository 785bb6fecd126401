"""Launch sites of shell scripts, Procfiles, supervisor configurations and manifests."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING

from mega_optimizer.repository.launch.script import Script, container_sites, sites_in
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.service import LaunchSite, LaunchSource, Word
from mega_optimizer.repository.shell import parse_argument, parse_shell
from mega_optimizer.repository.source import contiguous

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PROCESS = re.compile(rb"^([A-Za-z][\w-]*):[ \t]*(\S.*?)[ \t]*\r?$", re.MULTILINE)
_SECTION = re.compile(rb"^\[([^\]\r\n]+)\][ \t]*\r?$", re.MULTILINE)
_COMMAND = re.compile(rb"^command[ \t]*=[ \t]*(\S.*?)(?:[ \t]+;.*)?[ \t]*\r?$", re.MULTILINE)
_ENVIRONMENT = re.compile(rb"^environment[ \t]*=[ \t]*(\S.*?)[ \t]*\r?$", re.MULTILINE)
_SETTING = re.compile(rb"([A-Za-z_]\w*)=(?:\"([^\"]*)\"|'([^']*)'|([^,]*))")


def shell_launch(
    path: str,
    content: bytes,
    arguments: tuple[LaunchSite, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[LaunchSite, ...]:
    """Return the launch sites of a shell script; ``arguments`` are what its ``"$@"`` starts."""
    script = Script(Place(path), "shell", content, arguments=arguments)
    return tuple(sites_in(parse_shell(contiguous(content)), script, environment or {}))


def procfile_launch(path: str, content: bytes) -> tuple[LaunchSite, ...]:
    """Return the launch sites of a Procfile (``name: command`` per line), without ``release``."""
    script = Script(Place(path), "procfile", content)
    return tuple(
        site
        for process in _PROCESS.finditer(content)
        if process[1] != b"release"
        for site in sites_in(
            parse_shell(contiguous(content, process.start(2), process.end(2))), script, {}
        )
    )


def supervisor_launch(path: str, content: bytes) -> tuple[LaunchSite, ...]:
    """Return the launch sites of a supervisor configuration (``[program:…]`` sections)."""
    return tuple(_programs(path, content))


def _programs(path: str, content: bytes) -> Iterator[LaunchSite]:
    sections = list(_SECTION.finditer(content))
    for section, following in zip_longest(sections, sections[1:]):
        end = following.start() if following else len(content)
        if not section[1].startswith((b"program:", b"fcgi-program:")):
            continue
        command = _COMMAND.search(content, section.end(), end)
        if command is None:
            continue
        settings = _ENVIRONMENT.search(content, section.end(), end)
        environment = {
            match[1].decode(): (match[2] or match[3] or match[4] or b"").decode("utf-8", "replace")
            for match in _SETTING.finditer(settings[1] if settings else b"")
        }
        script = Script(Place(path), "supervisor", content)
        source = contiguous(content, command.start(1), command.end(1))
        yield from sites_in(parse_shell(source), script, environment)


def words_launch(
    command: str | Sequence[str],
    place: Place,
    source: LaunchSource,
    ranges: Sequence[tuple[int, int]] | None = None,
    *,
    content: bytes | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[LaunchSite, ...]:
    """Return the launch sites of a command of a compose or Kubernetes manifest.

    A string is split into words as a shell would do it, without a shell running it (Compose
    specification); a list is taken word by word. ``ranges`` gives the byte range of each text (of
    the one string) in the file, whose bytes are ``content``; without them positions are -1.
    """
    script = Script(place, source, content)
    settings = dict(environment or {})
    texts = [command] if isinstance(command, str) else list(command)
    where = list(ranges) if ranges is not None and len(ranges) == len(texts) else []
    words = tuple(
        Word(text, *(where[index] if where else (-1, -1))) for index, text in enumerate(texts)
    )
    if isinstance(command, str):
        parsed = parse_argument(words[0], content, json=False)
        if len(parsed) != 1 or parsed[0].inside:
            return tuple(sites_in(parsed, script, settings))
        words = parsed[0].words
        settings |= parsed[0].assignments
    return tuple(container_sites(words, script, settings))
