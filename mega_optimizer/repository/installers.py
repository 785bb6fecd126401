"""What a command installs, and what it leaves behind."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.repository.service import Word
    from mega_optimizer.repository.shell import Command

_PIP = re.compile(r"pip(\d+(\.\d+)?)?")
_PYTHON = re.compile(r"(python|pypy)(\d+(\.\d+)?)?")
# General options of pip that take their value in the next word (pip 26, `pip --help`).
_PIP_VALUES = frozenset(
    {
        "--cache-dir",
        "--cert",
        "--client-cert",
        "--exists-action",
        "--keyring-provider",
        "--log",
        "--log-file",
        "--proxy",
        "--python",
        "--resume-retries",
        "--retries",
        "--timeout",
        "--trusted-host",
        "--use-deprecated",
        "--use-feature",
    }
)


def pip_words(command: Command) -> tuple[Word, ...] | None:
    """Return the words after ``pip``, however it is called, else None."""
    words, _ = unwrapped(command.words)
    if not words:
        return None
    program = posixpath.basename(words[0].text)
    if _PIP.fullmatch(program):
        return words[1:]
    if _PYTHON.fullmatch(program):
        for position, word in enumerate(words[1:-1], start=1):
            if not word.text.startswith("-"):
                return None
            if word.text.endswith("m") and not word.text.startswith("--"):
                return words[position + 2 :] if words[position + 1].text == "pip" else None
    return None


def pip_subcommand(command: Command) -> Word | None:
    """Return the word that says what pip is to do (``install``, ``cache`` …)."""
    words = pip_words(command) or ()
    position = 0
    while position < len(words):
        text = words[position].text
        if not text.startswith("-"):
            return words[position]
        position += 2 if text in _PIP_VALUES else 1
    return None


def is_pip_install(command: Command) -> bool:
    """Whether ``command`` is ``pip install``; ``uv pip install`` is not."""
    subcommand = pip_subcommand(command)
    return subcommand is not None and subcommand.text == "install"


def is_uv_pip_install(command: Command) -> bool:
    """Whether ``command`` is ``uv pip install`` or ``uv sync``."""
    words, _ = unwrapped(command.words)
    texts = [word.text for word in words if not word.text.startswith("-")]
    if not texts or posixpath.basename(texts[0]) != "uv":
        return False
    return texts[1:3] == ["pip", "install"] or texts[1:2] == ["sync"]


def installs_apt(command: Command) -> bool:
    """Whether ``command`` installs Debian packages."""
    words, _ = unwrapped(command.words)
    texts = [word.text for word in words if not word.text.startswith("-")]
    if not texts or posixpath.basename(texts[0]) not in ("apt", "apt-get", "aptitude"):
        return False
    return "install" in texts[1:]


def runs_python(command: Command) -> bool:
    """Whether ``command`` uses a Python interpreter or installs Python packages."""
    words, _ = unwrapped(command.words)
    program = posixpath.basename(words[0].text) if words else ""
    return (
        pip_words(command) is not None
        or is_uv_pip_install(command)
        or bool(_PYTHON.fullmatch(program))
        or program in ("poetry", "pipenv", "pdm")
    )


def disables_pip_cache(command: Command) -> bool:
    """Whether a pip command says itself that nothing is to be cached.

    pip accepts the option cut short (``--no-cache``), as optparse does.
    """
    return any(word.text.startswith("--no-cache") for word in pip_words(command) or ())


def names_pip_cache(command: Command) -> bool:
    """Whether a pip command says where the cache is to be."""
    return any(word.text.split("=")[0] == "--cache-dir" for word in pip_words(command) or ())


def environment_disables_pip_cache(environment: Mapping[str, str | None]) -> bool:
    """Whether ``PIP_NO_CACHE_DIR`` is set to anything.

    pip 26 (``cmdoptions._handle_no_cache_dir``): every valid value disables the cache, ``false``
    and ``0`` too; an empty one counts as not set. An unknown value (None) is taken as set.
    """
    return environment.get("PIP_NO_CACHE_DIR", "") != ""


def keeps_pip_cache(command: Command, environment: Mapping[str, str | None]) -> bool:
    """Whether a ``pip install`` leaves what it downloaded in pip's cache."""
    _, own = unwrapped(command.words)
    in_force = {**environment, **command.assignments, **own}
    return (
        is_pip_install(command)
        and not disables_pip_cache(command)
        and not environment_disables_pip_cache(in_force)
    )


def removes_pip_cache(command: Command) -> bool:
    """Whether ``command`` empties pip's cache: ``rm -rf ~/.cache``, ``pip cache purge`` …."""
    subcommand = pip_subcommand(command)
    if subcommand is not None:
        return subcommand.text == "cache" and {"purge", "remove"} & set(command.texts) != set()
    words, _ = unwrapped(command.words)
    if not words or posixpath.basename(words[0].text) not in ("rm", "find"):
        return False
    return any(_covers_cache(word.text) for word in words[1:])


def _covers_cache(path: str) -> bool:
    """Whether removing ``path`` removes a home's ``.cache`` or pip's part of it."""
    if ".cache" in path.split("/") or path.startswith("/root/.c"):
        return True
    return path.rstrip("/*") in ("/root", "~", "$HOME", "${HOME}") or path.startswith("/root/.[")
