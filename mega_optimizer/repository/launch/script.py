"""Find the launch sites among the commands of a script, or in the words of a container."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from mega_optimizer.repository.launch.command import Launch, parse_command, serves
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.service import LaunchSite, LaunchSource, Word
from mega_optimizer.repository.shell import Command, is_shell, parse_argument, shell_argument
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ALL_ARGUMENTS = frozenset({"$@", "$*", "${@}", "${*}"})


@dataclass(frozen=True, slots=True)
class Script:
    """Where commands are written.

    ``content`` is the file, where positions in it are known; ``json`` says that words are JSON
    strings. ``arguments`` are the sites that ``"$@"`` starts.
    """

    place: Place
    source: LaunchSource
    content: bytes | None = None
    json: bool = False
    arguments: tuple[LaunchSite, ...] = ()


def sites_in(
    commands: Sequence[Command], script: Script, environment: Mapping[str, str]
) -> Iterator[LaunchSite]:
    """Yield the launch sites among the commands of a script.

    A command in control flow is there, but whether it runs is not known: its server is None.
    ``python x.py`` counts where the script ends with it; before, it prepares something.
    """
    exported = dict(environment)
    for position, command in enumerate(commands):
        if command.words and command.words[0].text == "export":
            pairs = (word.text.partition("=") for word in command.words[1:])
            exported |= {name: value for name, equals, value in pairs if equals}
            continue
        inner, own = unwrapped(command.words)
        settings = {**exported, **command.assignments, **own}
        plain = command.inside in ("", "group")
        last = position == len(commands) - 1 or command.program == "exec"
        if inner and inner[0].text in _ALL_ARGUMENTS:
            if plain:
                for site in script.arguments:
                    yield replace(
                        site, environment=MappingProxyType({**settings, **site.environment})
                    )
            continue
        argument = shell_argument(inner)
        if argument is not None:
            nested = parse_argument(argument, script.content, json=False)
            yield from sites_in(nested, script, settings)
            continue
        launch = parse_command(command.words)
        if launch is None or not serves(launch) or (launch.server == "python" and not last):
            continue
        text = " ".join(command.texts)
        if plain:
            yield site_of(launch, script, text, settings)
        else:
            yield LaunchSite(_place(script, launch.words), script.source, text)


def container_sites(
    words: tuple[Word, ...], script: Script, environment: Mapping[str, str]
) -> Iterator[LaunchSite]:
    """Yield what a container that is started with ``words`` runs, one site at least.

    A text given to ``sh -c`` is read; where control flow hides what it starts, the server is None.
    """
    inner, own = unwrapped(words)
    if not inner:
        return
    text = " ".join(word.text for word in words)
    settings = {**environment, **own}
    argument = shell_argument(inner)
    if argument is not None:
        parsed = parse_argument(argument, script.content, json=script.json)
        yield from script_sites(parsed, script, settings, text)
        return
    launch = parse_command(words)
    if launch is not None and not is_shell(inner[0].text):
        yield site_of(launch, script, text, settings)
    else:
        yield LaunchSite(_place(script, words), script.source, text)


def script_sites(
    commands: Sequence[Command], script: Script, environment: Mapping[str, str], text: str
) -> Iterator[LaunchSite]:
    """Yield the sites of a script that a container starts, one site at least.

    A script of one command is that command, whatever its program.
    """
    found = list(sites_in(commands, script, environment))
    if not found and len(commands) == 1 and not commands[0].inside:
        launch = parse_command(commands[0].words)
        if launch is not None:
            settings = {**environment, **commands[0].assignments}
            found = [site_of(launch, script, text, settings)]
    yield from found or [LaunchSite(script.place, script.source, text)]


def site_of(
    launch: Launch, script: Script, command: str, environment: Mapping[str, str]
) -> LaunchSite:
    """Return the site of ``launch``, at its first word where that has a position."""
    return LaunchSite(
        _place(script, launch.words),
        script.source,
        command,
        launch.server,
        launch.application,
        launch.words,
        MappingProxyType({**environment, **launch.environment}),
    )


def _place(script: Script, words: tuple[Word, ...]) -> Place:
    if script.content is None or not words or words[0].start < 0:
        return script.place
    return Place(script.place.path, script.content.count(b"\n", 0, words[0].start) + 1)
