"""Settings: command line over .mega-optimize.yaml over [tool.mega-optimize] over defaults.

The configuration of a target chooses among rules; it can never name a command to run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from mega_optimizer.errors import ConfigurationError
from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.guard import Guard
from mega_optimizer.samples import Sample, samples_from

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

YAML_NAME = ".mega-optimize.yaml"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is asked to do, apart from what the command line alone may say.

    ``ignore_paths`` maps a glob to the rules (ids or categories, ``all``) that leave those files
    alone. ``rules`` maps a rule id to its parameters. ``samples`` are asked of services that are
    built and started.
    """

    level: str = "safe"
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    ignore_paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    sizes: str = "auto"
    offline: bool = False
    stale_locks: bool = False
    source: str = "defaults"

    def overridden(self, **given: object) -> Settings:
        """Return these settings with every value of ``given`` that is neither None nor empty."""
        return replace(self, **{key: value for key, value in given.items() if value})  # type: ignore[arg-type]


CHOICES = {
    "level": ("safe", "review"),
    "sizes": ("auto", "estimate", "off"),  # build runs the target: the command line alone asks it
}
KEYS = {
    each.name.replace("_", "-"): each.name for each in fields(Settings) if each.name != "source"
}


def read_settings(root: Path) -> Settings:
    """Return the settings that the files of ``root`` ask for.

    Raises :class:`ConfigurationError` with the file, the key and what it may be.
    """
    guard = Guard(root)
    if os.path.lexists(root / YAML_NAME):
        return settings_from(_yaml(_content(guard, YAML_NAME)), YAML_NAME)
    try:
        project = guard.read("pyproject.toml")
    except UnreadableFile:
        return Settings()  # the scan says why, where there is such a file
    if b"mega-optimize" not in project:
        return Settings()
    return settings_from(_toml(project), "pyproject.toml [tool.mega-optimize]")


def settings_from(given: object, source: str) -> Settings:
    """Check ``given`` (what a configuration file holds) and return it as settings."""
    if given is None:
        return Settings(source=source)
    if not isinstance(given, dict):
        raise ConfigurationError(f"{source}: settings are expected, each with a name and a value")
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in KEYS:
            near = get_close_matches(str(key), list(KEYS), n=1)
            meant = f"; did you mean {near[0]}?" if near else f" (known: {', '.join(KEYS)})"
            raise ConfigurationError(f"{source}: {_shown(key)} is not a setting{meant}")
        values[KEYS[key]] = _checked(KEYS[key], value, f"{source}: {key}")
    return Settings(**values, source=source)


def _checked(name: str, value: object, where: str) -> object:
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise ConfigurationError(f"{where} must be one of {', '.join(CHOICES[name])}")
        return value
    if name in ("offline", "stale_locks"):
        if not isinstance(value, bool):
            raise ConfigurationError(f"{where} must be true or false")
        return value
    if name in ("select", "ignore", "services", "exclude"):
        return _strings(value, where)
    if name == "samples":
        return samples_from(value, where)
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} must be a table")
    if name == "ignore_paths":
        return {str(glob): _strings(rules, f"{where}: {glob}") for glob, rules in value.items()}
    for rule, parameters in value.items():
        if not isinstance(parameters, dict):
            raise ConfigurationError(f"{where}: {rule} must be a table of parameters")
    return value


def _strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigurationError(f"{where} must be a list of strings")
    return tuple(value)


def _shown(key: object) -> str:
    """Return a key of the target's configuration as a few words that fit on a line."""
    text = key if isinstance(key, str) and key.isprintable() else repr(key)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _content(guard: Guard, name: str) -> bytes:
    try:
        return guard.read(name)
    except UnreadableFile as error:
        raise ConfigurationError(f"{name} cannot be read: {error.message}") from error


def _yaml(content: bytes) -> object:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from mega_optimizer.repository.place import Problem
    from mega_optimizer.repository.yaml import documents

    # The screen for nesting, aliases and size comes first: loading has none of its own.
    screened = documents(YAML_NAME, content)
    if isinstance(screened, Problem):
        where = f"{YAML_NAME}:{screened.line}"
        raise ConfigurationError(f"{where} is not valid YAML: {screened.message}")
    try:
        return YAML(typ="safe", pure=True).load(content)
    except (YAMLError, ValueError) as error:
        told = " ".join(str(error).split())
        raise ConfigurationError(f"{YAML_NAME} is not valid: {told[:200]}") from error


def _toml(content: bytes) -> object:
    import tomllib

    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"pyproject.toml is not valid TOML: {error}") from error
    tools = tables.get("tool")
    return tools.get("mega-optimize") if isinstance(tools, dict) else None
