"""Whether a service may load its models before it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.annotations import oldest_python
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.startup import startup_of
from mega_optimizer.codemods.versions import is_version
from mega_optimizer.repository.kubernetes import is_kubernetes_manifest, kubernetes_workloads
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.python import PythonFacts

TO_THREAD = (3, 9)  # asyncio.to_thread came with this Python
# Tests that put something else in the place of a model would load the real one at start-up.
REPLACING = rb"\b(?:patch|monkeypatch|MagicMock|AsyncMock|Mock|dependency_overrides)\b"


def warm_up_fits(context: Context, facts: PythonFacts) -> bool:
    """Whether loading the models of the module at start-up takes nothing from anybody.

    An application that loads does not answer: a liveness probe without a start-up probe would
    restart it again and again.
    """
    program = context.program
    oldest = oldest_python(context)
    if oldest is not None and oldest < TO_THREAD:
        return False
    if next(program.containing(REPLACING, program.tests), None) is not None:
        return False
    if isinstance(startup_of(context, facts.path), Skip):
        return False
    return is_version(context, "fastapi", ">=0.93") and not _is_restarted(context)


def _is_restarted(context: Context) -> bool:
    names = {each.name for each in context.service.deployments if each.kind == "kubernetes"}
    paths = {each.place.path for each in context.service.deployments if each.kind == "kubernetes"}
    for path in paths:
        content = context.read(path)
        if not isinstance(content, bytes) or not is_kubernetes_manifest(path, content):
            return True
        workloads = kubernetes_workloads(path, content)
        if isinstance(workloads, Problem):
            return True
        for workload in workloads:
            for container in workload.containers if workload.name in names else ():
                if container.liveness is not None and container.node.get("startupProbe") is None:
                    return True
    return False
