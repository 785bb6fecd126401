"""What a command that installs Python packages names: files, projects and requirements."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from mega_optimizer.repository.installers import pip_subcommand, pip_words
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.repository.service import Word
    from mega_optimizer.repository.shell import Command

Tool = Literal["pip", "uv", "uv-sync", "poetry", "pipenv"]

# pip's options (pip 26, `pip install --help`) that mean the same in a virtual environment.
_PLAIN_OPTIONS = frozenset(
    {
        "--break-system-packages", "--compile", "--debug", "--disable-pip-version-check",
        "--force-reinstall", "--ignore-installed", "--isolated", "--no-cache", "--no-cache-dir",
        "--no-deps", "--no-input", "--no-python-version-warning", "--no-warn-script-location",
        "--pre", "--prefer-binary", "--quiet", "--require-hashes", "--upgrade", "--use-pep517",
        "--verbose", "-I", "-U", "-q", "-qq", "-qqq", "-v", "-vv", "-vvv", "--no-dependencies",
        "--system", "--no-progress",
    }
)  # fmt: skip
_VALUE_OPTIONS = frozenset(
    {
        "--default-timeout", "--exists-action", "--extra-index-url", "--index-strategy",
        "--index-url", "--only-binary", "--progress-bar", "--retries", "--root-user-action",
        "--timeout", "--trusted-host", "--upgrade-strategy", "--use-deprecated", "--use-feature",
        "--find-links", "-f", "-i",
    }
)  # fmt: skip
_FILE_OPTIONS: Mapping[str, str] = MappingProxyType(
    {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
)
# Where packages go: harmless for who leaves them there.
_TARGET_OPTIONS = frozenset({"--target", "-t", "--prefix", "--root", "--python", "-p"})
_TARGET_FLAGS = frozenset({"--user", "--force"})
# Options of project managers that change what is installed, or say how (poetry 2.2, uv 0.9,
# pipenv 2025: the help of `install` and `sync`); the second set takes a value.
_MANAGER_OPTIONS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = MappingProxyType(
    {
        "poetry": (
            frozenset(
                {
                    "--all-extras", "--all-groups", "--compile", "--no-ansi", "--no-cache",
                    "--no-dev", "--no-directory", "--no-interaction", "--no-root", "--quiet",
                    "--sync", "--verbose", "-n", "-q", "-v", "-vv", "-vvv",
                }
            ),
            frozenset({"--extras", "--only", "--with", "--without", "-E"}),
        ),
        "uv-sync": (
            frozenset(
                {
                    "--all-extras", "--all-groups", "--compile-bytecode", "--frozen", "--inexact",
                    "--locked", "--no-cache", "--no-default-groups", "--no-dev", "--no-editable",
                    "--no-install-project", "--no-install-workspace", "--no-progress", "--quiet",
                    "--verbose", "-n", "-q", "-v",
                }
            ),
            frozenset(
                {"--extra", "--group", "--link-mode", "--no-group", "--only-group", "--package"}
            ),
        ),
        "pipenv": (
            frozenset(
                {
                    "--clear", "--deploy", "--dev", "--ignore-pipfile", "--quiet", "--system",
                    "--verbose", "-d",
                }
            ),
            frozenset({"--categories"}),
        ),
    }
)  # fmt: skip
_MANIFESTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "poetry": (("pyproject.toml",), ("poetry.lock", "poetry.toml")),
        "uv-sync": (("pyproject.toml",), ("uv.lock", "uv.toml", ".python-version")),
        "pipenv": (("Pipfile",), ("Pipfile.lock",)),
    }
)
_URL = re.compile(r"(?:[\w.+-]+\s*@\s*)?(?:git\+|hg\+|svn\+)?(?:https?|ssh|ftp)://")


@dataclass(frozen=True, slots=True)
class Install:
    """What one installing command names, as it words it.

    ``files`` are requirements, constraints and manifests, ``optional`` what is read where it
    exists, ``projects`` local folders and wheels, ``requirements`` what comes from an index or a
    URL. ``with_project`` says that the project of the manifest is installed too, if it is one.
    """

    files: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    tool: Tool = "pip"
    optional: tuple[str, ...] = ()
    with_project: bool = False

    @property
    def uses_uv(self) -> bool:
        """Whether uv installs."""
        return self.tool.startswith("uv")


def tool_of(command: Command) -> Tool | None:
    """Return what installs Python packages by ``command``; None where it installs none."""
    subcommand = pip_subcommand(command)
    if subcommand is not None:
        return "pip" if subcommand.text == "install" else None
    texts = [word.text for word in unwrapped(command.words)[0]]
    verb = next((text for text in texts[1:] if not text.startswith("-")), "")
    match posixpath.basename(texts[0]) if texts else "":
        case "uv" if texts[1:3] == ["pip", "install"]:
            return "uv"
        case "uv" if verb == "sync":
            return "uv-sync"
        case "poetry" if verb in ("install", "sync"):
            return "poetry"
        case "pipenv" if verb in ("install", "sync"):
            return "pipenv"
    return None


def install_words(command: Command) -> tuple[Word, ...]:
    """Return the words behind ``install`` of ``pip install`` or ``uv pip install``."""
    subcommand = pip_subcommand(command)
    if subcommand is not None:
        words = pip_words(command) or ()
        return words[words.index(subcommand) + 1 :]
    words, _ = unwrapped(command.words)
    return words[3:]


def parse_install(command: Command, *, in_place: bool = False) -> Install | str:
    """Return what ``command`` installs, or the word that may mean something else elsewhere.

    ``in_place``: the packages stay where the command puts them, so options may say where.
    """
    tool = tool_of(command)
    if tool in ("poetry", "pipenv", "uv-sync"):
        return _parse_manager(tool, [word.text for word in unwrapped(command.words)[0]])
    return _parse_pip(command, tool or "pip", in_place)


def _parse_manager(tool: Tool, words: list[str]) -> Install | str:
    """Return what a project manager installs: what its manifest and its lock say."""
    flags, valued = _MANAGER_OPTIONS[tool]
    options = []
    position = 1
    while position < len(words):
        text = words[position]
        option, equals, _ = text.partition("=")
        position += 2 if option in valued and not equals else 1
        if option in flags or option in valued:
            options.append(option)
        elif text not in ("install", "sync"):
            return text
    if tool == "pipenv" and "--system" not in options:
        return "pipenv without --system"
    files, optional = _MANIFESTS[tool]
    leaves_out = {"--no-root", "--no-install-project", "--no-install-workspace"}
    with_project = tool != "pipenv" and leaves_out.isdisjoint(options)
    return Install(files, (), (), tool, optional, with_project)


def _parse_pip(command: Command, tool: Tool, in_place: bool) -> Install | str:
    words = [word.text for word in install_words(command)]
    found: dict[str, list[str]] = {"-r": [], "project": [], "name": []}
    position = 0
    while position < len(words):
        text = words[position]
        position += 1
        option, equals, value = text.partition("=")
        short = text[:2]
        if in_place and option in _TARGET_OPTIONS:
            position += 0 if equals else 1
        elif in_place and option in _TARGET_FLAGS:
            continue
        elif in_place and option in ("-e", "--editable"):
            folder = value if equals else "".join(words[position : position + 1])
            position += 0 if equals else 1
            found["name" if _URL.match(folder) else "project"].append(_without_extras(folder))
        elif text.startswith("--") or text in _PLAIN_OPTIONS or short in ("-r", "-c", "-i", "-f"):
            if not text.startswith("--") and len(text) > 2 and short in ("-r", "-c"):
                found["-r"].append(text[2:].removeprefix("="))
            elif option in _FILE_OPTIONS or option in _VALUE_OPTIONS:
                if not equals:
                    value = words[position] if position < len(words) else ""
                    position += 1
                if option in _FILE_OPTIONS:
                    found["-r"].append(value)
                if option in ("-f", "--find-links") and "://" not in value:
                    return option
            elif option not in _PLAIN_OPTIONS:
                return text
        elif text.startswith("-"):
            return text
        elif _URL.match(text):
            found["name"].append(text)
        elif "/" in text or text.startswith(".") or text.endswith((".whl", ".tar.gz", ".zip")):
            found["project"].append(_without_extras(text))
        else:
            found["name"].append(text)
    return Install(tuple(found["-r"]), tuple(found["project"]), tuple(found["name"]), tool)


def _without_extras(text: str) -> str:
    return re.sub(r"\[[\w, .-]*\]$", "", text)
