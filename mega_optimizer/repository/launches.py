"""Gather the launch sites of a service from everything that starts it."""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import TYPE_CHECKING

from mega_optimizer.repository.compose import compose_services
from mega_optimizer.repository.dockerfile import Dockerfile, parse_dockerfile, shipping_stage
from mega_optimizer.repository.kubernetes import kubernetes_workloads
from mega_optimizer.repository.launch import (
    dockerfile_launch,
    procfile_launch,
    python_launch,
    supervisor_launch,
    words_launch,
)
from mega_optimizer.repository.launch.command import SERVERS
from mega_optimizer.repository.launch.container import start_instructions
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.tree import is_product

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mega_optimizer.repository.compose import ComposeService
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.image import Image
    from mega_optimizer.repository.kubernetes import Container
    from mega_optimizer.repository.service import (
        Deployment,
        LaunchSite,
        LaunchSource,
        Service,
    )
    from mega_optimizer.repository.tree import Tree
    from mega_optimizer.repository.yaml import Node

# One of each occurs in Python code that starts a server; most files end here.
_SERVERS = (b"uvicorn", b"hypercorn", b"waitress", b"granian", b"aiohttp", b"lask", b"quart")
_STARTS = (b"run(", b"serve(", b"Granian(", b"run_app(")


def launch_now(files: Files, service: Service) -> tuple[LaunchSite, ...]:
    """Return the launch sites of ``service`` as ``files`` say them, in the order of the scan.

    Rules change files after the scan, and the ranges of its words with them. Calls in Python code
    are those of the scan.
    """
    from mega_optimizer.repository.image import Image
    from mega_optimizer.repository.tree import Tree

    tree = Tree(files)
    found: list[LaunchSite] = []
    content = tree.content(service.dockerfile) if service.dockerfile else None
    parsed = parse_dockerfile(service.dockerfile or "", content) if content is not None else None
    if isinstance(parsed, Dockerfile):
        stage = shipping_stage(parsed, service.stage) or parsed.stages[-1]
        image = Image(tree, parsed, stage, service.root)
        found += image_launch(tree, parsed, image)
        for deployment in service.deployments:
            found += _deployed_launch(tree, deployment, parsed, image)
    found += source_launch(tree, service.root, ())
    found += (site for site in service.launch if site.source == "python")
    return tuple({(site.place, site.source, site.command): site for site in found}.values())


def _deployed_launch(
    tree: Tree, deployment: Deployment, dockerfile: Dockerfile, image: Image
) -> Iterator[LaunchSite]:
    path = deployment.place.path
    content = tree.content(path) or b""
    if deployment.kind == "compose":
        entries = compose_services(path, content)
        for entry in entries if not isinstance(entries, Problem) else ():
            if entry.name == deployment.name:
                yield from compose_launch(tree, entry, dockerfile, image)
        return
    workloads = kubernetes_workloads(path, content)
    for workload in workloads if not isinstance(workloads, Problem) else ():
        for container in workload.containers:
            if workload.name == deployment.name and container.image == deployment.image:
                yield from kubernetes_launch(tree, container, dockerfile, image)


def image_launch(tree: Tree, dockerfile: Dockerfile, image: Image) -> tuple[LaunchSite, ...]:
    """Return what the image starts when nothing overrides it."""
    return dockerfile_launch(dockerfile, image.stage, tree.files, image.context)


def compose_launch(
    tree: Tree, entry: ComposeService, dockerfile: Dockerfile, image: Image
) -> tuple[LaunchSite, ...]:
    """Return what a compose service starts instead of what its image would."""
    return _overridden(
        tree,
        "compose",
        entry.place,
        entry.entrypoint,
        entry.command,
        entry.environment,
        _entrypoint_words(dockerfile, image),
    )


def kubernetes_launch(
    tree: Tree, container: Container, dockerfile: Dockerfile, image: Image
) -> tuple[LaunchSite, ...]:
    """Return what a container starts instead of what its image would."""
    return _overridden(
        tree,
        "kubernetes",
        container.place,
        container.command,
        container.args,
        container.environment,
        _entrypoint_words(dockerfile, image),
    )


def source_launch(tree: Tree, root: str, modules: Iterable[str]) -> Iterator[LaunchSite]:
    """Yield the launch sites in the Procfile, supervisor files and Python code of a service."""
    for path in tree.files.paths:
        folder, _, name = path.rpartition("/")
        if name == "Procfile" and folder == root:
            yield from procfile_launch(path, tree.content(path) or b"")
        elif (
            "supervisor" in name
            and name.endswith((".conf", ".ini"))
            and (not root or path.startswith(f"{root}/"))
        ):
            yield from supervisor_launch(path, tree.content(path) or b"")
    starting = tree.holding(*_SERVERS) & tree.holding(*_STARTS)
    for path in modules:
        if path in starting and is_product(path, root):
            yield from python_launch(path, tree.content(path) or b"")


def _overridden(
    tree: Tree,
    source: LaunchSource,
    place: Place,
    entrypoint: Node | None,
    command: Node | None,
    environment: Mapping[str, str],
    inherited: Sequence[str],
) -> tuple[LaunchSite, ...]:
    first = entrypoint or command
    if first is None:
        return ()
    place = Place(place.path, first.line)
    content = tree.content(place.path)
    if entrypoint is None and command is not None and not inherited and command.kind == "scalar":
        return words_launch(
            command.text,
            place,
            source,
            [(command.start, command.end)],
            content=content,
            environment=environment,
        )
    texts: list[str] = [] if entrypoint else list(inherited)
    ranges = [(-1, -1)] * len(texts)
    for node in (entrypoint, command):
        if node is not None and node.kind == "scalar":
            words = _split(node.text)
            texts += words
            ranges += [(-1, -1)] * len(words)
        elif node is not None:
            texts += [element.text for element in node.elements]
            ranges += [(element.start, element.end) for element in node.elements]
    return words_launch(texts, place, source, ranges, content=content, environment=environment)


def _entrypoint_words(dockerfile: Dockerfile, image: Image) -> tuple[str, ...]:
    """Return the words of an ENTRYPOINT to which a command is appended as its arguments.

    A script that ends in ``exec "$@"`` is none: the command runs as it stands.
    """
    entrypoint, _ = start_instructions(dockerfile, image.stage)
    if entrypoint is None or not entrypoint.exec_form:
        return ()
    words = tuple(word.text for word in entrypoint.exec_form)
    programs = {posixpath.basename(word) for word in words}
    starts_python = any(re.fullmatch(r"python[\d.]*", program) for program in programs)
    return words if starts_python or not programs.isdisjoint(SERVERS) else ()


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
