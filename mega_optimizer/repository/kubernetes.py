"""What Kubernetes manifests run: workloads with their containers, each with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.repository.yaml import Node

_KINDS = rb"Deployment|StatefulSet|DaemonSet|Job|CronJob|ReplicaSet|Pod"
_is_workload = re.compile(
    rb"""^["']?kind["']?[ \t]*:[ \t]*["']?(?:%s)["']?[ \t]*(?:#.*)?\r?$""" % _KINDS, re.MULTILINE
).search
_SEPARATOR = re.compile(rb"^---(?=[ \t\r]*$|[ \t]+#)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a workload; ``command`` and ``args`` are the nodes as written."""

    name: str
    place: Place
    node: Node = field(repr=False)
    image: str | None = None
    command: Node | None = None
    args: Node | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    resources: Node | None = None
    liveness: Node | None = None
    readiness: Node | None = None
    gpu: Place | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """One object that runs containers. ``replicas`` is None where the manifest leaves it open."""

    kind: str
    name: str
    place: Place
    node: Node = field(repr=False)
    replicas: int | None = None
    containers: tuple[Container, ...] = ()


def is_kubernetes_manifest(path: str, content: bytes) -> bool:
    """Whether ``content`` holds an object of Kubernetes that runs containers."""
    return (
        path.endswith((".yaml", ".yml"))
        and b"apiVersion" in content
        and bool(_is_workload(content))
    )


def kubernetes_workloads(path: str, content: bytes) -> tuple[Workload, ...] | Problem:
    """Return the workloads of one manifest, or why it cannot be read."""
    from mega_optimizer.repository.yaml import documents

    roots = documents(path, _without_other_documents(content))
    if isinstance(roots, Problem):
        return roots
    return tuple(workload for root in roots if (workload := _workload(path, root)))


def _without_other_documents(content: bytes) -> bytes:
    """Blank out the documents that run nothing: offsets stay, and most of the time is saved."""
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(content)), len(content)]
    parts = (content[start:end] for start, end in pairwise(starts))
    return b"".join(
        part if _is_workload(part) else re.sub(rb"[^\r\n]", b" ", part) for part in parts
    )


def _workload(path: str, root: Node) -> Workload | None:
    kind = _text(root, "kind")
    if kind is None or not re.fullmatch(_KINDS.decode(), kind):
        return None
    spec = root.get("spec")
    if kind == "CronJob" and spec is not None:
        spec = spec.get("jobTemplate", "spec")
    pod = spec if kind == "Pod" or spec is None else spec.get("template", "spec")
    containers = pod.get("containers") if pod else None
    replicas = _text(root, "spec", "replicas")
    return Workload(
        kind=kind,
        name=_text(root, "metadata", "name") or "",
        place=Place(path, root.line),
        node=root,
        replicas=int(replicas) if replicas and replicas.isdecimal() else None,
        containers=tuple(_containers(path, containers)) if containers else (),
    )


def _containers(path: str, nodes: Node) -> Iterator[Container]:
    for node in nodes.elements:
        if node.kind != "mapping":
            continue
        gpu = node.get("resources", "limits", "nvidia.com/gpu")
        yield Container(
            name=_text(node, "name") or "",
            place=Place(path, node.line),
            node=node,
            image=_text(node, "image"),
            command=node.get("command"),
            args=node.get("args"),
            environment=MappingProxyType(dict(_environment(node.get("env")))),
            resources=node.get("resources"),
            liveness=node.get("livenessProbe"),
            readiness=node.get("readinessProbe"),
            gpu=Place(path, gpu.line) if gpu else None,
        )


def _environment(node: Node | None) -> Iterator[tuple[str, str]]:
    for variable in node.elements if node else ():
        name = _text(variable, "name")
        value = _text(variable, "value")
        if name and value is not None:
            yield name, value


def _text(node: Node, *keys: str) -> str | None:
    found = node.get(*keys)
    return found.text if found is not None and found.kind == "scalar" else None
