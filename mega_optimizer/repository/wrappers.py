"""Look through programs that only start another: ``exec``, ``env``, ``uv run``, ``tini --`` …."""

from __future__ import annotations

import posixpath
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.repository.service import Word

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)

# The words that name a wrapper, and those of its options that take a value in the next word.
_WRAPPERS: Mapping[tuple[str, ...], frozenset[str]] = MappingProxyType(
    {
        ("exec",): frozenset({"-a"}),
        ("command",): frozenset(),
        ("time",): frozenset({"-f", "-o"}),
        ("nice",): frozenset({"-n"}),
        ("nohup",): frozenset(),
        ("env",): frozenset({"-u", "-C", "--unset", "--chdir"}),
        ("sudo",): frozenset({"-u", "-g", "--user", "--group"}),
        ("tini",): frozenset({"-p", "-e"}),
        ("docker-init",): frozenset(),
        ("dumb-init",): frozenset({"-r", "--rewrite"}),
        ("catatonit",): frozenset(),
        ("uv", "run"): frozenset(
            {
                "--directory",
                "--env-file",
                "--extra",
                "--group",
                "--no-group",
                "--only-group",
                "--package",
                "--project",
                "--python",
                "--with",
                "--with-editable",
                "--with-requirements",
                "-p",
            }
        ),
        ("poetry", "run"): frozenset(),
        ("pipenv", "run"): frozenset(),
        ("pdm", "run"): frozenset({"-p", "--project"}),
        ("hatch", "run"): frozenset(),
        ("rye", "run"): frozenset(),
        ("conda", "run"): frozenset({"-n", "--name", "-p", "--prefix"}),
        ("newrelic-admin", "run-program"): frozenset(),
        ("opentelemetry-instrument",): frozenset(
            {"--traces_exporter", "--metrics_exporter", "--logs_exporter", "--service_name"}
        ),
        ("ddtrace-run",): frozenset(),
        ("doppler", "run"): frozenset({"-p", "-c", "--project", "--config"}),
        ("gosu",): frozenset(),
        ("su-exec",): frozenset(),
        ("setpriv",): frozenset(),
        ("xargs",): frozenset({"-a", "-d", "-I", "-L", "-n", "-P", "-s"}),
        ("watchmedo", "auto-restart"): frozenset({"-d", "--directory", "-p", "--pattern"}),
    }
)
# These take one operand, the user to become, before the program.
_WITH_OPERAND = frozenset({"gosu", "su-exec"})


def unwrapped(words: tuple[Word, ...]) -> tuple[tuple[Word, ...], Mapping[str, str]]:
    """Return the words of the program that runs in the end, and what ``env`` sets for it."""
    environment: dict[str, str] = {}
    while words:
        wrapper = _wrapper(words)
        if wrapper is None:
            break
        position = len(wrapper)
        while position < len(words):
            text = words[position].text
            match = _ASSIGNMENT.fullmatch(text)
            if text == "--":
                position += 1
                break
            if text.startswith("-"):
                position += 2 if text in _WRAPPERS[wrapper] else 1
            elif match and wrapper in (("env",), ("sudo",)):
                environment[match[1]] = match[2]
                position += 1
            else:
                break
        if wrapper[0] in _WITH_OPERAND:
            position += 1
        words = words[position:]
    return words, environment


def _wrapper(words: tuple[Word, ...]) -> tuple[str, ...] | None:
    program = posixpath.basename(words[0].text)
    if (program,) in _WRAPPERS:
        return (program,)
    if len(words) > 1 and (program, words[1].text) in _WRAPPERS:
        return (program, words[1].text)
    return None
