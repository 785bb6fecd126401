"""Say that nobody asks whether the service is alive, and how to ask.

https://docs.docker.com/reference/dockerfile/#healthcheck
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.applications import FASTAPI
from mega_optimizer.codemods.containers.advice_place import (
    deployments_say,
    inserted_above,
    start_instruction,
)
from mega_optimizer.codemods.containers.python_images import is_python_image
from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Fix, Outcome, Skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context

_ANY = re.compile(rb"(?i)^\s*from\b", re.MULTILINE)
_CHECKS = re.compile(rb"(?m)^[ \t-]*(?:healthcheck|livenessProbe|readinessProbe)[ \t]*:")
_PATHS = ("/healthz", "/health", "/healthcheck", "/health-check", "/livez", "/live", "/ping")
_APPLICATIONS = (*FASTAPI, "flask.Flask", "flask.app.Flask")
_LITERALS = (b'"/health', b"'/health", b'"/live', b"'/live", b'"/ping', b"'/ping")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one piece of advice for an image with a route for health checks and no check."""
    image = built_image(context, _ANY)
    if not isinstance(image, BuiltImage):
        return
    start = start_instruction(image)
    if start is None or image.last("HEALTHCHECK") is not None:
        return
    route = _route(context)
    if route is None:
        return
    place = image.place(start)
    kinds = {deployment.kind for deployment in context.service.deployments}
    if kinds == {"kubernetes"}:
        reason = "Kubernetes does not read HEALTHCHECK; probes belong into its own files"
        yield Skip(place, "kubernetes-ignores-it", reason)
        return
    checked = deployments_say(context, _CHECKS)
    if checked:
        yield Skip(place, "checked-elsewhere", f"{checked} asks already")
        return
    port = _port(context, image)
    message = f"It answers {route}, and nothing asks whether it does"
    if port is None or not is_python_image(image.base or ""):
        yield Fix(place, f"{message}. No patch, because the port is not certain")
        return
    asks = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}{route}', timeout=2)"
    escape = image.dockerfile.escape
    lines = (
        f"HEALTHCHECK --interval=30s --timeout=3s --start-period=30s {escape}",
        f'    CMD ["python", "-c", "{asks}"]',
    )
    yield Fix(place, message, (inserted_above(image, start, lines),))


def _route(context: Context) -> str | None:
    """Return the path of a route that is made for such questions."""
    product = frozenset(context.program.product)
    for path in context.modules(*_LITERALS):
        facts = context.program.facts(path) if path in product else None
        if facts is None:
            continue
        served = {
            f":{each.target}" for each in facts.assignments if each.value.name in _APPLICATIONS
        }
        for route in facts.routes:
            if route.owner in served and route.path in _PATHS and "GET" in route.methods:
                return route.path
    return None


def _port(context: Context, image: BuiltImage) -> str | None:
    """Return the port that the command names, or else the only one that is exposed."""
    for site in context.service.launch:
        if site.place.path != image.path:
            continue
        given = site.option("--port", "-p") or site.option("--bind", "-b", "--host") or ""
        found = re.search(r"(?:^|:)(\d+)$", given)
        if found:
            return found[1]
        if "$" in given:
            return None
    exposed = [value for each in image.instructions("EXPOSE") for value in each.values]
    ports = {value.partition("/")[0] for value in exposed}
    return ports.pop() if len(ports) == 1 and all(map(str.isdecimal, ports)) else None
