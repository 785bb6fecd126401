"""What compose files run: services with what they are built from and how they are started.

The format is that of the Compose Specification. Values keep their ``${…}``.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.repository.yaml import Node

_COMPOSE_NAME = re.compile(r"(?:^|[.\-_/])(?:docker-?)?compose(?:[.\-_][^/]*)?\.ya?ml$")
_FOR_DEVELOPERS = re.compile(
    r"(?:^|[.\-_/])(?:dev|devel|development|local|test|tests|testing|ci|debug|override|docs)"
    r"(?=[.\-_/])"
)
_FOR_PRODUCTION = re.compile(r"(?:^|[.\-_/])(?:prod|production|release|deploy)(?=[.\-_/])")


@dataclass(frozen=True, slots=True)
class ComposeService:
    """One entry below ``services`` of a compose file.

    ``context`` and ``dockerfile`` are relative to the root of the repository; None where nothing
    is built from a folder of it. ``command`` and ``entrypoint`` are the nodes as written.
    """

    name: str
    place: Place
    node: Node = field(repr=False)
    context: str | None = None
    dockerfile: str | None = None
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    image: str | None = None
    command: Node | None = None
    entrypoint: Node | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ports: tuple[str, ...] = ()
    replicas: int | None = None
    gpu: Place | None = None


def is_compose_file(path: str) -> bool:
    """Whether ``path`` is named like a compose file."""
    return _COMPOSE_NAME.search(path) is not None


def compose_rank(path: str) -> int:
    """Return how little a compose file says of production: 0 most, 2 written for developers."""
    if _FOR_PRODUCTION.search(path):
        return 0
    return 2 if _FOR_DEVELOPERS.search(path) else 1


def compose_services(path: str, content: bytes) -> tuple[ComposeService, ...] | Problem:
    """Return the services of one compose file, or why it cannot be read."""
    from mega_optimizer.repository.yaml import documents

    roots = documents(path, content)
    if isinstance(roots, Problem):
        return roots
    return tuple(service for root in roots for service in _services(path, root))


def _services(path: str, root: Node) -> Iterator[ComposeService]:
    services = root.get("services")
    for key, node in services.items() if services else ():
        if node.kind == "mapping" and not key.text.startswith("x-"):
            yield _service(path, key, _Entry(node, services))


class _Entry:
    """A service with what it inherits by ``extends`` from the same file."""

    def __init__(self, node: Node, services: Node | None) -> None:
        self.node = node
        self._layers = [node]
        base = node
        # A chain longer than this is a circle.
        for _ in range(8):
            extends = base.get("extends")
            if extends is None or services is None or extends.get("file"):
                return
            name = extends.text or getattr(extends.get("service"), "text", "")
            found = services.get(name)
            if found is None:
                return
            base = found
            self._layers.append(base)

    def get(self, *keys: str) -> Node | None:
        found = (layer.get(*keys) for layer in self._layers)
        return next((node for node in found if node is not None and not node.is_null), None)

    def text(self, *keys: str) -> str | None:
        node = self.get(*keys)
        return node.text if node is not None and node.kind == "scalar" else None

    def mapping(self, *keys: str) -> Mapping[str, str]:
        """Merge what all layers say at ``keys``, whether as a list of NAME=value or as a map."""
        merged: dict[str, str] = {}
        for layer in reversed(self._layers):
            merged |= _pairs(layer.get(*keys))
        return MappingProxyType(merged)


def _service(path: str, key: Node, entry: _Entry) -> ComposeService:
    context, dockerfile = _build(path, entry)
    return ComposeService(
        name=key.text,
        place=Place(path, key.line),
        node=entry.node,
        context=context,
        dockerfile=dockerfile,
        target=entry.text("build", "target"),
        arguments=entry.mapping("build", "args"),
        image=entry.text("image"),
        command=entry.get("command"),
        entrypoint=entry.get("entrypoint"),
        environment=entry.mapping("environment"),
        ports=_texts(entry.get("ports")),
        replicas=_number(entry.text("deploy", "replicas") or entry.text("scale")),
        gpu=_gpu(path, entry),
    )


def _build(path: str, entry: _Entry) -> tuple[str | None, str | None]:
    build = entry.get("build")
    if build is None or build.get("dockerfile_inline"):
        return None, None
    context = build.text if build.kind == "scalar" else entry.text("build", "context") or "."
    context = _without_variables(context)
    if "://" in context or context.startswith(("git@", "/", "~")) or "$" in context:
        return None, None
    folder = _normal(posixpath.join(posixpath.dirname(path), context))
    dockerfile = _without_variables(entry.text("build", "dockerfile") or "Dockerfile")
    if folder is None or "$" in dockerfile:
        return folder, None
    return folder, _normal(posixpath.join(folder, dockerfile))


def _without_variables(text: str) -> str:
    """Fill in the defaults of ``${NAME:-default}``; other variables stay as they are."""
    return re.sub(r"\$\{\w+:?-([^${}]*)\}", r"\1", text)


def _normal(path: str) -> str | None:
    """Return ``path`` without dots; None where it leaves the repository."""
    normal = posixpath.normpath(path)
    if normal == ".." or normal.startswith(("../", "/")):
        return None
    return "" if normal == "." else normal


def _pairs(node: Node | None) -> dict[str, str]:
    if node is None:
        return {}
    if node.kind == "mapping":
        return {key.text: value.text for key, value in node.items() if value.kind == "scalar"}
    split = (element.text.partition("=") for element in node.elements)
    return {name: value for name, _, value in split if name}


def _texts(node: Node | None) -> tuple[str, ...]:
    return tuple(e.text for e in node.elements if e.kind == "scalar") if node else ()


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _gpu(path: str, entry: _Entry) -> Place | None:
    devices = entry.get("deploy", "resources", "reservations", "devices")
    for device in devices.elements if devices else ():
        capabilities = _texts(device.get("capabilities"))
        if "gpu" in capabilities or getattr(device.get("driver"), "text", "") == "nvidia":
            return Place(path, device.line)
    for key in ("gpus", "runtime"):
        node = entry.get(key)
        if node is not None and (key == "gpus" or node.text == "nvidia"):
            return Place(path, node.line)
    return None
