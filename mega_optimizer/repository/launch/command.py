"""What a list of words starts: which server, and which application."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from mega_optimizer.repository.shell import shell_argument
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mega_optimizer.repository.service import Word

_PYTHON = re.compile(r"(?:python|pypy)(?:\d+(?:\.\d+)?)?")
_IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?")

# Options without a value, of servers whose application is a positional argument.
_FLAGS = frozenset(
    {
        "--access-log",
        "--call",
        "--capture-output",
        "--check-config",
        "--daemon",
        "--date-header",
        "--debug",
        "--expose-tracebacks",
        "--factory",
        "--initgroups",
        "--log",
        "--no-access-log",
        "--no-date-header",
        "--no-log",
        "--no-proxy-headers",
        "--no-reload",
        "--no-sendfile",
        "--no-server-header",
        "--no-server-name",
        "--no-use-colors",
        "--no-ws",
        "--preload",
        "--print-config",
        "--proxy-headers",
        "--proxy-protocol",
        "--reload",
        "--reuse-port",
        "--server-header",
        "--spew",
        "--use-colors",
        "-D",
        "-R",
    }
)
# Servers whose first operand is the application.
_SERVING = frozenset(
    {"arq", "daphne", "dramatiq", "granian", "gunicorn", "hypercorn", "uvicorn", "waitress-serve"}
)
# Programs that serve or work on queues.
SERVERS = _SERVING | {
    "bentoml",
    "celery",
    "chainlit",
    "fastapi",
    "flask",
    "huey_consumer",
    "mlflow",
    "rq",
    "sanic",
    "streamlit",
    "taskiq",
    "uwsgi",
}
# Modules that ``python -m`` only passes through, with those options that take a value.
_PASSING_MODULES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "debugpy": frozenset({"--listen", "--connect", "--log-to", "--pid"}),
        "coverage": frozenset({"--rcfile", "--source", "--omit", "--include", "--data-file"}),
        "cProfile": frozenset({"-o", "-s"}),
    }
)


@dataclass(frozen=True, slots=True)
class Launch:
    """What a list of words starts; ``words`` run from the server's own name on."""

    server: str
    application: str | None
    words: tuple[Word, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def parse_command(words: Sequence[Word]) -> Launch | None:
    """Return what ``words`` start, None where that is not a single program (``sh -c``, nothing).

    Wrappers are looked through. A program that is no known server is its own ``server``, without
    an application; ``python`` names the module or script.
    """
    inner, environment = unwrapped(tuple(words))
    if not inner or shell_argument(inner) is not None:
        return None
    program = posixpath.basename(inner[0].text)
    if _PYTHON.fullmatch(program):
        launch = _python(inner)
    elif program in SERVERS:
        launch = Launch(program, _application(program, inner), inner)
    else:
        launch = Launch(program, None, inner)
    return Launch(launch.server, launch.application, launch.words, environment)


def _python(words: tuple[Word, ...]) -> Launch:
    """Return what an interpreter runs: a module, a script, or nothing that can be named."""
    position = 1
    while position < len(words):
        text = words[position].text
        if text == "-c":
            break
        if re.fullmatch(r"-[A-Za-z]*m", text) and position + 1 < len(words):
            return _module(words, position + 1)
        if not text.startswith("-"):
            return Launch("python", text, words)
        position += 2 if text in ("-W", "-X") else 1
    return Launch("python", None, words)


def _module(words: tuple[Word, ...], position: int) -> Launch:
    name = words[position].text
    rest = words[position:]
    if name in SERVERS:
        return Launch(name, _application(name, rest), rest)
    if name in _PASSING_MODULES:
        following = 1 if name != "coverage" else 2
        while following < len(rest) and rest[following].text.startswith("-"):
            if rest[following].text == "-m":
                break
            following += 2 if rest[following].text in _PASSING_MODULES[name] else 1
        if following < len(rest):
            return _python((words[0], *rest[following:]))
    return Launch("python", name, words)


def _application(server: str, words: tuple[Word, ...]) -> str | None:
    """Return the application that a known server is told to serve."""
    texts = [word.text for word in words[1:]]
    if server in ("celery", "flask", "taskiq"):
        for position, text in enumerate(texts):
            name, equals, value = text.partition("=")
            if name in ("-A", "--app"):
                return value if equals else next(iter(texts[position + 1 : position + 2]), None)
        return None
    if server in ("fastapi", "streamlit", "chainlit"):
        operands = [text for text in texts[1:] if not text.startswith("-")]
        return operands[0] if operands and texts[0] in ("run", "dev") else None
    if server not in _SERVING:
        return None
    for text in texts:
        if _IMPORT_STRING.fullmatch(text):
            return text
    position = 0
    while position < len(texts):
        text = texts[position]
        if not text.startswith("-"):
            return text if re.fullmatch(r"[A-Za-z_][\w.:]*(\(.*\))?", text) else None
        position += 1 if "=" in text or text in _FLAGS else 2
    return None


def serves(launch: Launch) -> bool:
    """Whether a launch inside a script is worth naming: a known server, or a Python program."""
    if launch.server == "python":
        return launch.application is not None
    if launch.server == "flask":
        return any(word.text == "run" for word in launch.words)
    if launch.server == "fastapi":
        return any(word.text in ("run", "dev") for word in launch.words)
    if launch.server == "celery":
        return any(word.text in ("worker", "beat", "flower") for word in launch.words)
    return launch.server in SERVERS
