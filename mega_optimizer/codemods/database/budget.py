"""The connection budget: what all processes of a service may open, against what the server takes.

PostgreSQL accepts 100 connections unless ``max_connections`` says otherwise, three of them for
superusers (https://www.postgresql.org/docs/current/runtime-config-connection.html). Other services
and people connect too, so a plan may take four fifths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.serving.process_count import worker_count
from mega_optimizer.repository.compose import compose_rank, compose_services, is_compose_file
from mega_optimizer.repository.kubernetes import is_kubernetes_manifest, kubernetes_workloads
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.place import Place
    from mega_optimizer.repository.yaml import Node

DEFAULT_LIMIT = 100
RESERVED = 3  # superuser_reserved_connections
SHARE = 0.8
POSTGRES_IMAGE = re.compile(
    r"(?:^|/)(?:postgres(?:ql)?|postgis|timescaledb[\w-]*|pgvector)(?:[:@]|$)"
)
MAX_CONNECTIONS = re.compile(r"max_connections\s*=\s*(\d+)|(?:^|\s)-N\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Budget:
    """How many processes connect, and how many connections the server takes from users.

    ``place`` is where the manifests start the server, None where they do not.
    """

    workers: int
    replicas: int
    limit: int
    place: Place | None

    def needed(self, per_process: int) -> int:
        """Return the most connections that all processes may open."""
        return self.workers * self.replicas * per_process

    def fits(self, per_process: int) -> bool:
        """Whether they leave room for others."""
        return self.needed(per_process) <= SHARE * self.limit

    def exceeds(self, per_process: int) -> bool:
        """Whether they are more than the server takes."""
        return self.needed(per_process) > self.limit

    def sum(self, size: int, overflow: int) -> str:
        """Say the sum in words."""
        workers = "1 process" if self.workers == 1 else f"{self.workers} processes"
        replicas = "1 replica" if self.replicas == 1 else f"{self.replicas} replicas"
        where = f"{self.place}" if self.place else "PostgreSQL's default"
        return (
            f"{workers} x {replicas} x ({size} + {overflow}) = {self.needed(size + overflow)} "
            f"of {self.limit} connections ({where})"
        )


def connection_budget(context: Context) -> Budget | None:
    """Return the budget of the service, None where a count of processes cannot be read."""
    workers = worker_count(context)
    if workers is None:
        return None
    replicas = [each.replicas or 1 for each in context.service.deployments]
    limit, place = _server(context)
    most = max([*replicas, *_autoscaled(context)], default=1)
    return Budget(workers, most, limit - RESERVED, place)


def _server(context: Context) -> tuple[int, Place | None]:
    """Return what the PostgreSQL of the manifests takes, the smallest where there are several."""
    found = sorted(_servers(context), key=lambda each: each[0])
    return found[0] if found else (DEFAULT_LIMIT, None)


def _servers(context: Context) -> Iterator[tuple[int, Place]]:
    for path in context.files.paths:
        if not path.endswith((".yml", ".yaml")):
            continue
        content = context.read(path)
        if not isinstance(content, bytes) or b"postg" not in content:
            continue
        if is_compose_file(path) and compose_rank(path) < 2:
            entries = compose_services(path, content)
            for entry in () if isinstance(entries, Problem) else entries:
                if POSTGRES_IMAGE.search(entry.image or ""):
                    yield _limit(entry.command), entry.place
        elif is_kubernetes_manifest(path, content):
            workloads = kubernetes_workloads(path, content)
            for workload in () if isinstance(workloads, Problem) else workloads:
                for container in workload.containers:
                    if POSTGRES_IMAGE.search(container.image or ""):
                        yield min(_limit(container.args), _limit(container.command)), workload.place


def _limit(command: Node | None) -> int:
    if command is None:
        return DEFAULT_LIMIT
    parts = [command.text] if command.kind == "scalar" else [e.text for e in command.elements]
    match = MAX_CONNECTIONS.search(" ".join(parts))
    return int(match[1] or match[2]) if match else DEFAULT_LIMIT


def _autoscaled(context: Context) -> Iterator[int]:
    """Yield ``maxReplicas`` of the autoscalers whose target runs the service."""
    from mega_optimizer.repository.yaml import documents

    names = {each.name for each in context.service.deployments if each.kind == "kubernetes"}
    for path in context.files.paths if names else ():
        content = context.read(path) if path.endswith((".yml", ".yaml")) else b""
        if not isinstance(content, bytes) or b"HorizontalPodAutoscaler" not in content:
            continue
        roots = documents(path, content)
        for root in () if isinstance(roots, Problem) else roots:
            target = root.get("spec", "scaleTargetRef", "name")
            most = root.get("spec", "maxReplicas")
            known = target is not None and most is not None and most.text.isdecimal()
            if known and target is not None and most is not None and target.text in names:
                yield int(most.text)
