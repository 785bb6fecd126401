"""Which modules of a service an image should import, and which routes tell that it is well."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.tree import is_product

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.service import Service

_HEALTH = (
    *("health", "healthz", "healthcheck", "health-check", "ready", "readyz", "readiness"),
    *("live", "livez", "liveness", "alive", "ping", "status", "heartbeat", "_health"),
)
# Asked of every service: the first is asked until something answers.
_USUAL = ("/", "/health", "/healthz", "/ready", "/ping", "/status", "/openapi.json")
_MODULES_AT_MOST = 200


def modules_of(context: Context, present: Collection[str]) -> tuple[str, ...]:
    """Return the dotted names of the modules to import, the application first.

    ``present`` are the files below the working directory of the image. Beside what the launch
    commands name, these are the modules of the same package; scripts that do their work when they
    are imported are not among them.
    """
    service = context.service
    named = [name for name in map(_application, _applications(service)) if name]
    files = {}
    for path in service.modules:
        if is_product(path, service.root) and (place := _place(path, service.root, present)):
            files[_dotted(place)] = path
    applications = [name for name in dict.fromkeys(named) if name in files]
    applications = [name for name in applications if _is_importable(context, files[name])]
    packages = {name.partition(".")[0] for name in applications if "." in name}
    others = (
        name
        for name in sorted(files)
        if name.partition(".")[0] in packages and not name.endswith("__main__")
    )
    listed = (name for name in (*applications, *others) if _is_dotted(name))
    return tuple(dict.fromkeys(listed))[:_MODULES_AT_MOST]


def health_paths(context: Context) -> tuple[str, ...]:
    """Return the paths to ask: the usual ones, and the health routes that the code declares."""
    declared: list[str] = []
    for path in context.modules(b"health", b"ready", b"live", b"ping", b"status"):
        facts = context.python(path)
        if isinstance(facts, Problem):
            continue
        declared += [
            route.path
            for route in facts.routes
            if route.path
            and "GET" in route.methods
            and "{" not in route.path
            and posixpath.basename(route.path.rstrip("/")).lower() in _HEALTH
        ]
    return tuple(dict.fromkeys((*_USUAL, *declared)))


def _applications(service: Service) -> Iterator[str]:
    for site in service.launch:
        if site.application:
            yield site.application


def _application(text: str) -> str | None:
    """Return the module of ``app.main:app``, of ``app/main.py`` or of ``app.main``."""
    module = text.partition(":")[0]
    if module.endswith(".py"):
        module = _dotted(posixpath.normpath(module).lstrip("/"))
    return module if _is_dotted(module) else None


def _is_importable(context: Context, path: str) -> bool:
    """Whether importing the module does not start what it would run as a script."""
    facts = context.python(path)
    if isinstance(facts, Problem):
        return False
    runs = facts.called("uvicorn.run", "asyncio.run", "flask.Flask.run")
    return not any(call.scope == "" for call in runs) or facts.has_main_guard


def _place(path: str, root: str, present: Collection[str]) -> str | None:
    """Return where ``path`` lies in the image: its longest ending that is there."""
    inside = path[len(root) + 1 :] if root else path
    parts = inside.split("/")
    endings = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((ending for ending in endings if ending in present), None)


def _dotted(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
