"""A service: what is deployed together, and the facts about it with the places that prove them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.repository.place import Place

LaunchSource = Literal[
    "dockerfile", "compose", "kubernetes", "procfile", "shell", "supervisor", "python"
]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command: its value after unquoting, and its byte range in the file.

    The range includes the quotes. It is -1, -1 where the word cannot be found in the file.
    """

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class LaunchSite:
    """A command that starts a service, where it is written.

    ``server`` is the program that serves (``uvicorn``, ``gunicorn``, ``hypercorn``, ``granian``,
    ``fastapi``, ``flask``, ``celery``, ``python`` …) after wrappers such as ``exec``, ``sh -c``,
    ``uv run`` or ``poetry run``; ``None`` where control flow hides it. ``application`` is the
    import string (``app.main:app``), module (``python -m``) or script that it starts.
    ``words`` are the words from the server's own name on; ``environment`` what the site sets.
    """

    place: Place
    source: LaunchSource
    command: str
    server: str | None = None
    application: str | None = None
    words: tuple[Word, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def option(self, *names: str) -> str | None:
        """Return the value of the first of ``names`` given (``""`` for a bare flag), else None."""
        texts = [word.text for word in self.words]
        for position, text in enumerate(texts):
            head, equals, value = text.partition("=")
            if head in names:
                if equals:
                    return value
                following = texts[position + 1] if position + 1 < len(texts) else ""
                return "" if following.startswith("-") else following
        return None


@dataclass(frozen=True, slots=True)
class Trait:
    """A fact about a service (``fastapi``, ``gpu``, ``alembic`` …) and the place that proves it."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Deployment:
    """An entry of a compose file or a Kubernetes workload that runs a service."""

    kind: Literal["compose", "kubernetes"]
    name: str
    place: Place
    image: str | None = None
    replicas: int | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Service:
    """What is deployed together. Rules act on services.

    ``root`` is the folder of the code (the build context, or the folder of the manifest for a
    service without a Dockerfile); ``""`` is the root of the repository. ``stage`` names the stage
    of ``dockerfile`` that ships (compose ``target``), ``None`` the last one. ``manifests`` are the
    dependency manifests that the image installs, or the nearest ones. ``modules`` are its Python
    files, tests included.
    """

    name: str
    root: str
    dockerfile: str | None = None
    stage: str | None = None
    manifests: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    launch: tuple[LaunchSite, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    traits: tuple[Trait, ...] = ()

    def trait(self, name: str) -> Trait | None:
        """Return the first trait called ``name``, else None."""
        return next((trait for trait in self.traits if trait.name == name), None)


@dataclass(frozen=True, slots=True)
class Repository:
    """A scanned target: its services and what could not be read of it."""

    services: tuple[Service, ...]
    problems: tuple[Problem, ...] = ()


if TYPE_CHECKING:
    from mega_optimizer.repository.place import Problem
