"""Give a service a Redis wherever manifests run it: compose files, Kubernetes, ``.env.example``."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.deployments import (
    compose_dependency,
    compose_networks,
    compose_service,
    compose_variable,
    container_variable,
    environment_line,
)
from mega_optimizer.codemods.finding import Edit, Skip, apply_edits
from mega_optimizer.repository.compose import compose_services
from mega_optimizer.repository.deployed import short_image_name
from mega_optimizer.repository.kubernetes import kubernetes_workloads
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.compose import ComposeService
    from mega_optimizer.repository.kubernetes import Container
    from mega_optimizer.repository.service import Deployment
    from mega_optimizer.repository.yaml import Node

IMAGES = frozenset({"redis", "valkey", "redis-stack-server", "redis-alpine", "keydb", "dragonfly"})
EXAMPLES = (".env.example", ".env.sample", ".env.dist", ".env.template", "env.example")
PASSWORD = re.compile(r"requirepass|REDIS_PASSWORD|REDIS_ARGS|ALLOW_EMPTY_PASSWORD=no")
FORGETS = re.compile(r"allkeys-")
NAME = "redis"
URL = "redis://{}:6379/0"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The variable that tells the service where Redis is, and the Redis to add if there is none."""

    variable: str
    image: str
    memory: int  # megabytes
    in_example: bool  # whether the example of a .env file may name the variable
    keeps: bool = False  # whether it keeps what it is given: a queue, not a cache


def redis_for(context: Context, wanted: Wanted) -> tuple[Edit, ...] | Skip:
    """Return the edits that run a Redis beside the service, wherever it is deployed.

    Skip codes: ``not-deployed``, ``manifest-shape``, ``manifest-unreadable``, ``redis-password``,
    ``network-mode``, ``name-taken``, ``kustomization``, ``redis-forgets`` (of a queue).
    """
    edits: list[Edit] = []
    paths = dict.fromkeys((each.place.path, each.kind) for each in context.service.deployments)
    for path, kind in paths:
        entries = [each for each in context.service.deployments if each.place.path == path]
        give = _in_compose if kind == "compose" else _in_kubernetes
        added = give(context, path, entries, wanted)
        if isinstance(added, Skip):
            return added
        edits += added
    if not edits and not _is_set(context, wanted):
        place = Place(context.service.dockerfile or context.service.root or ".")
        return Skip(place, "not-deployed", "no manifest runs this service, and would run a Redis")
    return tuple(dict.fromkeys(edits))


def _is_set(context: Context, wanted: Wanted) -> bool:
    """Whether a manifest, as it is now, gives the service the variable."""
    word = re.compile(rb"\b%s\b" % wanted.variable.encode())
    contents = (context.read(each.place.path) for each in context.service.deployments)
    return any(isinstance(each, bytes) and word.search(each) for each in contents)


def _in_compose(
    context: Context, path: str, entries: list[Deployment], wanted: Wanted
) -> list[Edit] | Skip:
    before = context.read(path)
    if isinstance(before, Problem):
        return Skip(Place(path), "manifest-unreadable", before.message)
    content = before
    variables = False
    for entry in entries:
        found = _composed(path, content)
        if isinstance(found, Skip):
            return found
        service = next((each for each in found if each.name == entry.name), None)
        if service is None or not (service.node.get("build") or service.node.get("image")):
            continue  # a file that only overrides another
        networks = compose_networks(service)
        if networks is None:
            return Skip(service.place, "network-mode", f"{path} gives it the network of the host")
        running = _running(found)
        refusal = _refusal(found, running, networks, wanted)
        if refusal is not None:
            return refusal
        url = URL.format(running.name if running else NAME)
        if "${" in "".join(service.environment.values()):
            url, variables = f"${{{wanted.variable}:-{url}}}", True
        other = running.name if running else NAME
        given = _given(path, content, entry.name, wanted.variable, url, other)
        if isinstance(given, Skip):
            return given
        content = given
        if running is None:
            added = _with_redis(path, content, service, networks, wanted)
            if isinstance(added, Skip):
                return added
            content = added
    edits = _differences(path, before, content)
    if variables and edits and wanted.in_example:
        edits += _examples(context, path, wanted)
    return edits


def _given(
    path: str, content: bytes, name: str, variable: str, url: str, other: str
) -> bytes | Skip:
    """Return a compose file in which service ``name`` knows where Redis is, and starts after it."""
    for step in ("variable", "dependency"):
        found = _composed(path, content)
        if isinstance(found, Skip):
            return found
        service = next(each for each in found if each.name == name)
        if step == "variable":
            edit = compose_variable(content, service, variable, url)
        else:
            edit = compose_dependency(content, service, other)
        if isinstance(edit, Skip):
            return edit
        content = apply_edits(content, [edit]) if edit is not None else content
    return content


def _composed(path: str, content: bytes) -> tuple[ComposeService, ...] | Skip:
    found = compose_services(path, content)
    if isinstance(found, Problem):
        return Skip(Place(path, found.line), "manifest-unreadable", found.message)
    return found


def _running(services: tuple[ComposeService, ...]) -> ComposeService | None:
    """Return the Redis that a compose file runs already."""
    return next((each for each in services if short_image_name(each.image or "") in IMAGES), None)


def _refusal(
    services: tuple[ComposeService, ...],
    running: ComposeService | None,
    networks: tuple[str, ...],
    wanted: Wanted,
) -> Skip | None:
    if running is None:
        taken = next((each for each in services if each.name == NAME), None)
        if taken is not None:
            return Skip(taken.place, "name-taken", f"{NAME} is another service there")
        return None
    command = running.command
    words = [command.text, *(e.text for e in command.elements)] if command is not None else []
    words += [f"{key}={value}" for key, value in running.environment.items()]
    if PASSWORD.search(" ".join(words)):
        return Skip(running.place, "redis-password", "its Redis asks for a password")
    if wanted.keeps and FORGETS.search(" ".join(words)):
        return Skip(running.place, "redis-forgets", "its Redis drops keys when its memory is full")
    theirs = compose_networks(running)
    if theirs is None or (set(theirs) or {"default"}).isdisjoint(set(networks) or {"default"}):
        return Skip(running.place, "network-mode", "its Redis is in another network")
    return None


def _with_redis(
    path: str, content: bytes, service: ComposeService, networks: tuple[str, ...], wanted: Wanted
) -> bytes | Skip:
    services = _services_node(path, content)
    if services is None:
        return Skip(service.place, "manifest-shape", f"{path} has no services")
    command = '--save "" --maxmemory {}mb --maxmemory-policy allkeys-lru'
    if wanted.keeps:
        command = "--appendonly yes --maxmemory {}mb --maxmemory-policy noeviction"
    lines = [f"image: {wanted.image}", f"command: redis-server {command.format(wanted.memory)}"]
    restart = service.node.get("restart")
    if restart is not None and restart.kind == "scalar":
        quote = restart.style if restart.style in ("'", '"') else ""
        lines.append(f"restart: {quote}{restart.text}{quote}")
    if networks:
        lines += ["networks:", *(f"  - {name}" for name in networks)]
    edit = compose_service(path, content, services, NAME, lines)
    return edit if isinstance(edit, Skip) else apply_edits(content, [edit])


def _services_node(path: str, content: bytes) -> Node | None:
    from mega_optimizer.repository.yaml import documents

    roots = documents(path, content)
    return roots[0].get("services") if not isinstance(roots, Problem) and roots else None


def _examples(context: Context, compose: str, wanted: Wanted) -> list[Edit]:
    """Return the edit of the example of the ``.env`` file that a compose file reads."""
    folder = posixpath.dirname(compose)
    for name in EXAMPLES:
        path = posixpath.join(folder, name)
        content = context.read(path) if path in context.files else b""
        if path in context.files and isinstance(content, bytes):
            edit = environment_line(path, content, wanted.variable, URL.format(NAME))
            return [edit] if edit is not None else []
    return []


def _in_kubernetes(
    context: Context, path: str, entries: list[Deployment], wanted: Wanted
) -> list[Edit] | Skip:
    before = context.read(path)
    if isinstance(before, Problem):
        return Skip(Place(path), "manifest-unreadable", before.message)
    found = _manifest_redis(context, path)
    if found is not None and wanted.keeps:
        forgetful = _forgetful(context, posixpath.dirname(path))
        if forgetful is not None:
            return Skip(Place(forgetful), "redis-forgets", "its Redis drops keys when it is full")
    content = before
    namespace = ""
    for entry in entries:
        container = _container(path, content, entry)
        if isinstance(container, Skip):
            return container
        namespace = container[1]
        edit = container_variable(content, container[0], wanted.variable, URL.format(found or NAME))
        if isinstance(edit, Skip):
            return edit
        content = apply_edits(content, [edit]) if edit is not None else content
    edits = _differences(path, before, content)
    if found or not edits:
        return edits
    return _with_manifest(context, path, namespace, wanted, edits)


def _container(path: str, content: bytes, entry: Deployment) -> tuple[Container, str] | Skip:
    """Return the container that runs the service, and the namespace of its workload."""
    workloads = kubernetes_workloads(path, content)
    if isinstance(workloads, Problem):
        return Skip(Place(path, workloads.line), "manifest-unreadable", workloads.message)
    for workload in workloads:
        for container in workload.containers:
            if workload.name == entry.name and container.image == entry.image:
                space = workload.node.get("metadata", "namespace")
                return container, space.text if space is not None else ""
    return Skip(Place(path), "manifest-shape", f"{path}: {entry.name} was not found again")


def _manifest_redis(context: Context, path: str) -> str | None:
    """Return the name of a Service of Kubernetes beside ``path`` that leads to a Redis."""
    from mega_optimizer.repository.yaml import documents

    folder = posixpath.dirname(path)
    for other in _manifests_in(context, folder):
        content = context.read(other)
        if not isinstance(content, bytes) or b"6379" not in content:
            continue
        roots = documents(other, content)
        for root in roots if not isinstance(roots, Problem) else ():
            kind, name = root.get("kind"), root.get("metadata", "name")
            ports = root.get("spec", "ports")
            opens = any(
                port is not None and port.text == "6379"
                for each in (ports.elements if ports is not None else ())
                for port in (each.get("port"),)
            )
            if kind is not None and kind.text == "Service" and name is not None and opens:
                return name.text
    return None


def _forgetful(context: Context, folder: str) -> str | None:
    """Return a manifest that runs a Redis which drops keys when its memory is full."""
    for path in _manifests_in(context, folder):
        content = context.read(path)
        if isinstance(content, bytes) and FORGETS.search(content.decode(errors="replace")):
            return path
    return None


def _manifests_in(context: Context, folder: str) -> Iterator[str]:
    for path in context.files.paths:
        if posixpath.dirname(path) == folder and path.endswith((".yaml", ".yml")):
            yield path


def _with_manifest(
    context: Context, path: str, namespace: str, wanted: Wanted, edits: list[Edit]
) -> list[Edit] | Skip:
    from mega_optimizer.codemods.cache.rendered import rendered

    folder = posixpath.dirname(path)
    kustomized = next(
        (
            each
            for each in _manifests_in(context, folder)
            if posixpath.basename(each).startswith("kustomization.")
        ),
        None,
    )
    if kustomized is not None:
        return Skip(Place(kustomized), "kustomization", "it lists which manifests are applied")
    new = posixpath.join(folder, f"redis{posixpath.splitext(path)[1]}")
    if new in context.files:
        return Skip(Place(new), "name-taken", f"{new} holds something else")
    text = rendered(
        "cache/redis.yaml.j2",
        namespace=namespace,
        image=wanted.image,
        memory=wanted.memory,
        keeps=wanted.keeps,
    )
    return [*edits, Edit(new, 0, 0, text.encode())]


def _differences(path: str, before: bytes, after: bytes) -> list[Edit]:
    from mega_optimizer.codemods.python import edits_between

    return list(edits_between(path, before, after))
