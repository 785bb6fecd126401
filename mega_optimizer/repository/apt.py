"""What an apt command does: fetch package lists, read them, or remove them."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from mega_optimizer.repository.dockerfile import Instruction
    from mega_optimizer.repository.service import Word
    from mega_optimizer.repository.shell import Command

LISTS = "/var/lib/apt/lists"
# apt-get(8), options that take their value in the next word.
_VALUES = frozenset(
    {
        *("-o", "--option", "-c", "--config-file", "-t", "--target-release", "--default-release"),
        *("-a", "--host-architecture"),
    }
)
_READS_LISTS = frozenset(
    {
        *("install", "reinstall", "satisfy", "upgrade", "dist-upgrade", "full-upgrade"),
        *("build-dep", "download", "source", "changelog", "policy", "show", "search"),
    }
)
_NO_RECOMMENDS = re.compile(r"APT::Install-Recommends=[\"']?(?:0|false|no|off)\b", re.IGNORECASE)


def apt_words(command: Command) -> tuple[Word, ...] | None:
    """Return the words after ``apt`` or ``apt-get``, also behind ``sudo``; None for another."""
    words, _ = unwrapped(command.words)
    if not words or posixpath.basename(words[0].text) not in ("apt", "apt-get"):
        return None
    return words[1:]


def apt_verb(command: Command) -> Word | None:
    """Return the word that says what apt is to do (``install``, ``update`` …)."""
    takes_value = False
    for word in apt_words(command) or ():
        if takes_value:
            takes_value = False
        elif word.text in _VALUES:
            takes_value = True
        elif not word.text.startswith("-"):
            return word
    return None


def _does(command: Command, *verbs: str) -> bool:
    verb = apt_verb(command)
    return verb is not None and verb.text in verbs


def is_apt_update(command: Command) -> bool:
    """Whether ``command`` fetches the package lists."""
    return _does(command, "update")


def is_apt_install(command: Command) -> bool:
    """Whether ``command`` installs Debian packages with apt."""
    return _does(command, "install")


def reads_apt_lists(command: Command) -> bool:
    """Whether ``command`` fails, or finds nothing, where the package lists are missing."""
    words, _ = unwrapped(command.words)
    if words and posixpath.basename(words[0].text) in ("apt-cache", "aptitude", "apt-file"):
        return True
    return _does(command, *_READS_LISTS)


def removes_apt_lists(command: Command) -> bool:
    """Whether ``command`` empties ``/var/lib/apt/lists``.

    ``apt-get distclean`` does since apt 2.7.8 (Debian 13).
    """
    if _does(command, "distclean", "dist-clean"):
        return True
    words, _ = unwrapped(command.words)
    if not words or posixpath.basename(words[0].text) not in ("rm", "find"):
        return False
    return any(_covers_lists(word.text) for word in words[1:])


def _covers_lists(path: str) -> bool:
    if path.startswith("/var/lib/{"):
        return "apt" in path
    return path.rstrip("/*") in ("/var/lib/apt", LISTS, "/var/lib")


def forgoes_recommends(command: Command) -> bool:
    """Whether an apt command says itself that recommended packages are not wanted."""
    return any(
        word.text == "--no-install-recommends" or _NO_RECOMMENDS.search(word.text)
        for word in apt_words(command) or ()
    )


def packages_of(command: Command) -> tuple[Word, ...]:
    """Return the words of ``apt-get install`` that name packages."""
    found: list[Word] = []
    verb = apt_verb(command)
    takes_value = False
    for word in apt_words(command) or ():
        if takes_value:
            takes_value = False
        elif word.text in _VALUES:
            takes_value = True
        elif not word.text.startswith("-") and verb is not None and word.start > verb.start:
            found.append(word)
    return tuple(found)


def keeps_lists_elsewhere(instruction: Instruction) -> bool:
    """Whether a cache or tmpfs mount holds the package lists during this RUN."""
    for flag in instruction.flags:
        options = dict(part.partition("=")[::2] for part in flag.value.split(","))
        if flag.name == "mount" and options.get("type") in ("cache", "tmpfs"):
            target = options.get("target") or options.get("dst") or options.get("destination")
            if _covers_lists((target or "").strip("\"'")):
                return True
    return False
