"""Run a worker beside a service wherever manifests run the service: compose files, Kubernetes.

The worker is the same image with another command. What is added is copied from the entry of the
service as it is written, without what only concerns a server: ports, probes, names.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.cache.redis_place import redis_for
from mega_optimizer.codemods.deployments import compose_service, line_end, value_end
from mega_optimizer.codemods.finding import Edit, Skip, apply_edits
from mega_optimizer.codemods.python import edits_between
from mega_optimizer.repository.compose import compose_services
from mega_optimizer.repository.kubernetes import kubernetes_workloads
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.yaml import documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.cache.redis_place import Wanted
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.compose import ComposeService
    from mega_optimizer.repository.kubernetes import Workload
    from mega_optimizer.repository.service import Deployment
    from mega_optimizer.repository.yaml import Node

# Keys of a compose service that only concern what serves; ``deploy`` holds its count and limits.
OF_SERVERS = frozenset(
    {
        "ports", "expose", "healthcheck", "container_name", "command", "labels", "hostname",
        "scale", "deploy", "stop_grace_period", "stop_signal", "annotations",
    }
)  # fmt: skip
OF_POD_SERVERS = frozenset(
    {
        "containers", "terminationGracePeriodSeconds", "topologySpreadConstraints", "affinity",
        "hostname", "subdomain", "restartPolicy",
    }
)  # fmt: skip
OF_CONTAINER_SERVERS = frozenset(
    {
        "name", "ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "command",
        "args",
    }
)  # fmt: skip
ANCHOR = re.compile(rb"(?:^|[\s:\[,])&\w")
GRACE = 60  # seconds that a worker has for its job when it is asked to end


@dataclass(frozen=True, slots=True)
class Worker:
    """The command of a worker; ``module`` is where its Celery application is."""

    module: str
    prefix: str  # what the launch command of the service stands behind: ``uv run``
    processes: int

    @property
    def words(self) -> tuple[str, ...]:
        """The command in words."""
        options = ("--loglevel", "INFO", "--concurrency", str(self.processes))
        return (*self.prefix.split(), "celery", "-A", self.module, "worker", *options)

    @property
    def check(self) -> str:
        """The command of a shell that asks the worker of this container whether it is there."""
        start = f"{self.prefix} celery" if self.prefix else "celery"
        return f"{start} -A {self.module} inspect ping -d celery@$$HOSTNAME"


def worker_for(context: Context, wanted: Wanted, worker: Worker) -> tuple[Edit, ...] | Skip:
    """Return the edits that run a worker, and the Redis between, wherever the service runs.

    Skip codes: ``manifest-shape``, ``manifest-unreadable``, ``entrypoint``, ``name-taken``,
    ``sidecars``, those of :func:`redis_for`.
    """
    given = redis_for(context, wanted)
    if isinstance(given, Skip):
        return given
    edits = [each for each in given if not _is_manifest(context, each.path)]
    paths = dict.fromkeys((each.place.path, each.kind) for each in context.service.deployments)
    for path, kind in paths:
        before = context.read(path)
        if isinstance(before, Problem):
            return Skip(Place(path), "manifest-unreadable", before.message)
        entries = [each for each in context.service.deployments if each.place.path == path]
        content = apply_edits(before, (each for each in given if each.path == path))
        add = _in_compose if kind == "compose" else _in_kubernetes
        added = add(path, content, entries, worker)
        if isinstance(added, Skip):
            return added
        edits += edits_between(path, before, added)
    return tuple(edits)


def _is_manifest(context: Context, path: str) -> bool:
    return any(each.place.path == path for each in context.service.deployments)


def _in_compose(
    path: str, content: bytes, entries: list[Deployment], worker: Worker
) -> bytes | Skip:
    services = compose_services(path, content)
    roots = documents(path, content)
    if isinstance(services, Problem) or isinstance(roots, Problem):
        return Skip(Place(path), "manifest-unreadable", "it cannot be read")
    names = [each.name for each in entries]
    own = [each for each in services if each.name in names]
    own = [each for each in own if each.node.get("build") or each.node.get("image")]
    if not own or any(_runs(each.command, worker) for each in own):
        return content
    service = own[0]
    if service.entrypoint is not None:
        return Skip(service.place, "entrypoint", f"{path} gives it an entrypoint of its own")
    name = f"{service.name}-worker"
    taken = next((each for each in services if each.name == name), None)
    if taken is not None:
        is_ours = _runs(taken.command, worker)
        skip = Skip(taken.place, "name-taken", f"{name} is another service there")
        return content if is_ours else skip
    copied = _copied_entry(path, content, service)
    if isinstance(copied, Skip):
        return copied
    node = roots[0].get("services")
    assert node is not None
    lines = [*copied, *_compose_lines(service, content, worker)]
    edit = compose_service(path, content, node, name, lines)
    return edit if isinstance(edit, Skip) else apply_edits(content, [edit])


def _compose_lines(service: ComposeService, content: bytes, worker: Worker) -> Iterator[str]:
    first = service.node.entries[0][0].start
    step = " " * ((first - content.rfind(b"\n", 0, first) - 1) // 2)
    yield f"command: {' '.join(worker.words)}"
    yield f"stop_grace_period: {GRACE}s"
    yield "healthcheck:"
    yield f'{step}test: ["CMD-SHELL", "{worker.check}"]'
    yield f"{step}interval: 60s"
    yield f"{step}timeout: 20s"
    yield f"{step}start_period: 30s"


def _runs(command: Node | None, worker: Worker) -> bool:
    if command is None:
        return False
    words = " ".join([command.text, *(each.text for each in command.elements)])
    return "celery" in words and worker.module in words


def _copied_entry(path: str, content: bytes, service: ComposeService) -> list[str] | Skip:
    """Return the lines of a compose service that its worker shares, without indentation."""
    lines: list[str] = []
    for key, text in _entries(content, service.node):
        if key not in OF_SERVERS:
            if ANCHOR.search(text):
                reason = f"{path}: an anchor in {service.name} cannot be there twice"
                return Skip(service.place, "manifest-shape", reason)
            lines += textwrap.dedent(text.decode()).splitlines()
    if content[service.node.start : service.node.start + 1] == b"{" or not lines:
        return Skip(service.place, "manifest-shape", f"{path}: {service.name} is on one line")
    return lines


def _entries(content: bytes, mapping: Node) -> Iterator[tuple[str, bytes]]:
    """Yield the keys of a block mapping with the whole lines of each."""
    for key, value in mapping.entries:
        start = content.rfind(b"\n", 0, key.start) + 1
        inside = mapping.start <= value.start and value.end <= mapping.end
        end = line_end(content, value_end(content, value) if inside else key.end)
        yield key.text, content[start:end]


def _in_kubernetes(
    path: str, content: bytes, entries: list[Deployment], worker: Worker
) -> bytes | Skip:
    workloads = kubernetes_workloads(path, content)
    if isinstance(workloads, Problem):
        return Skip(Place(path, workloads.line), "manifest-unreadable", workloads.message)
    names = [each.name for each in entries]
    own = [each for each in workloads if each.name in names]
    if not own or any(_runs(each.command, worker) for one in own for each in one.containers):
        return content
    workload = own[0]
    name = f"{workload.name}-worker"
    if workload.kind != "Deployment":
        return Skip(workload.place, "manifest-shape", f"{path} runs it as a {workload.kind}")
    if len(workload.containers) != 1:
        return Skip(workload.place, "sidecars", f"{path} runs other containers beside it")
    taken = next((each for each in workloads if each.name == name), None)
    if taken is not None:
        is_ours = any(_runs(each.command, worker) for each in taken.containers)
        skip = Skip(taken.place, "name-taken", f"{name} is another workload there")
        return content if is_ours else skip
    added = _deployment(path, content, workload, name, worker)
    if isinstance(added, Skip):
        return added
    newline = b"\r\n" if b"\r\n" in content else b"\n"
    gap = b"" if content.endswith(b"\n") else newline
    return content + gap + b"---\n".replace(b"\n", newline) + added.replace(b"\n", newline)


def _deployment(
    path: str, content: bytes, workload: Workload, name: str, worker: Worker
) -> bytes | Skip:
    from mega_optimizer.codemods.cache.rendered import rendered

    pod = workload.node.get("spec", "template", "spec")
    labels = workload.node.get("spec", "selector", "matchLabels")
    if pod is None or labels is None or not labels.entries:
        return Skip(workload.place, "manifest-shape", f"{path} selects its pods in another way")
    container = workload.containers[0].node
    shared = [text for key, text in _entries(content, pod) if key not in OF_POD_SERVERS]
    inner = [text for key, text in _entries(content, container) if key not in OF_CONTAINER_SERVERS]
    if any(ANCHOR.search(each) for each in (*shared, *inner)):
        return Skip(workload.place, "manifest-shape", f"{path} has an anchor in it")
    namespace = workload.node.get("metadata", "namespace")
    text = rendered(
        "queue/worker.yaml.j2",
        name=name,
        namespace=namespace.text if namespace is not None else "",
        label=labels.entries[0][0].text,
        command=", ".join(f'"{word}"' for word in worker.words),
        grace=GRACE,
        pod=_indented(shared, 6),
        container=_indented([_without_dash(each) for each in inner], 10),
    )
    return text.encode()


def _without_dash(text: bytes) -> bytes:
    """Blank the dash of the list in which a container stands."""
    return re.sub(rb"^(\s*)- ", rb"\1  ", text, count=1)


def _indented(parts: list[bytes], columns: int) -> str:
    texts = (textwrap.dedent(each.decode().replace("\r\n", "\n")) for each in parts)
    return "".join(textwrap.indent(each, " " * columns) for each in texts)
