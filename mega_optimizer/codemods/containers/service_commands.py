"""The commands that start and check a service, wherever they are written."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.repository.compose import compose_services
from mega_optimizer.repository.kubernetes import kubernetes_workloads
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.service import Deployment
    from mega_optimizer.repository.shell import Command
    from mega_optimizer.repository.yaml import Node

_COMPOSE_KEYS = ("command", "entrypoint", "healthcheck", "post_start", "pre_stop")
_KUBERNETES_KEYS = (
    *("command", "args", "lifecycle"),
    *("livenessProbe", "readinessProbe", "startupProbe"),
)
_SCRIPTS = (".sh", ".bash", ".ksh")


@dataclass(frozen=True, slots=True)
class Started:
    """A shell text, or the words of a command one by one, and where it stands."""

    text: str
    place: Place


def started_programs(command: Command) -> Iterator[str]:
    """Yield the program that ``command`` runs, through wrappers, and through ``command -v``."""
    words, _ = unwrapped(command.words)
    if words:
        yield words[0].text
    texts = [word.text for word in words]
    if texts[:1] == ["which"] or texts[:1] == ["type"] or texts[:1] == ["hash"]:
        yield from (text for text in texts[1:] if not text.startswith("-"))


def started_scripts(context: Context, recipe: Recipe) -> Iterator[Started]:
    """Yield what starts and checks the service, scripts of the repository that it names included.

    A script counts as named where its file name occurs in such a text, or in a Python module.
    """
    found = [*_of_dockerfile(recipe), *_of_deployments(context)]
    waiting = [path for path in context.files.paths if _is_script(context, path)]
    texts = [started.text for started in found]
    yield from found
    while texts:
        text = texts.pop()
        for path in list(waiting):
            name = posixpath.basename(path)
            if name not in text and not any(context.modules(name.encode())):
                continue
            waiting.remove(path)
            content = context.read(path)
            if isinstance(content, bytes):
                script = content.decode("utf-8", "surrogateescape")
                texts.append(script)
                yield Started(script, Place(path))


def _is_script(context: Context, path: str) -> bool:
    prefix = f"{context.service.root}/" if context.service.root else ""
    if not path.startswith(prefix):
        return False
    if path.endswith(_SCRIPTS):
        return True
    name = posixpath.basename(path)
    if "." in name:
        return False
    content = context.read(path)
    return isinstance(content, bytes) and content.startswith((b"#!/bin/", b"#!/usr/bin/env "))


def _of_dockerfile(recipe: Recipe) -> Iterator[Started]:
    for instruction in recipe.stage.instructions:
        place = Place(recipe.path, instruction.line)
        if instruction.keyword in ("CMD", "ENTRYPOINT"):
            if instruction.exec_form is not None:
                yield from _words([word.text for word in instruction.exec_form], place)
            elif instruction.shell is not None:
                yield Started(instruction.shell.text.decode("utf-8", "surrogateescape"), place)
        elif instruction.keyword == "HEALTHCHECK":
            text = recipe.content[instruction.start : instruction.end].decode(
                "utf-8", "surrogateescape"
            )
            _, _, check = text.partition("CMD")
            yield Started(check.replace("\\\n", " ").replace("[", " ").replace(",", " "), place)


def _of_deployments(context: Context) -> Iterator[Started]:
    for deployment in context.service.deployments:
        node = _node(context, deployment)
        keys = _COMPOSE_KEYS if deployment.kind == "compose" else _KUBERNETES_KEYS
        for key in keys:
            inner = node.get(key) if node is not None else None
            if inner is not None:
                yield from _of_node(inner, deployment.place.path)


def mounted_paths(context: Context) -> Iterator[tuple[Place, str]]:
    """Yield where compose and Kubernetes lay volumes over the files of the image."""
    for deployment in context.service.deployments:
        node = _node(context, deployment)
        for key in ("volumes", "volumeMounts", "tmpfs"):
            mounts = node.get(key) if node is not None else None
            for mount in mounts.elements if mounts is not None else ():
                place = Place(deployment.place.path, mount.line)
                target = mount.get("target") or mount.get("mountPath")
                if target is not None:
                    yield place, target.text
                elif mount.kind == "scalar":
                    parts = mount.text.split(":")
                    yield place, parts[1] if len(parts) > 1 else parts[0]


def _node(context: Context, deployment: Deployment) -> Node | None:
    path = deployment.place.path
    content = context.read(path)
    if isinstance(content, Problem):
        return None
    if deployment.kind == "compose":
        composed = compose_services(path, content)
        entries = () if isinstance(composed, Problem) else composed
        return next((each.node for each in entries if each.place == deployment.place), None)
    workloads = kubernetes_workloads(path, content)
    found = () if isinstance(workloads, Problem) else workloads
    containers = (container for workload in found for container in workload.containers)
    return next((each.node for each in containers if each.place == deployment.place), None)


def _of_node(node: Node, path: str) -> Iterator[Started]:
    """Yield the commands in a node: a text, or a list of words, at any depth."""
    if node.kind == "scalar":
        yield Started(node.text, Place(path, node.line))
    elif node.kind == "sequence":
        words = [each.text for each in node.elements if each.kind == "scalar"]
        yield from _words(words, Place(path, node.line))
    else:
        for entry in node.items():
            yield from _of_node(entry[1], path)


def _words(words: list[str], place: Place) -> Iterator[Started]:
    """Yield a command that is given word by word: the words, and each that may be a script."""
    kept = [word for word in words if word not in ("CMD", "CMD-SHELL")]
    if kept:
        yield Started(" ".join(word for word in kept if " " not in word.strip()), place)
    for word in kept:
        if " " in word.strip():
            yield Started(word, place)
