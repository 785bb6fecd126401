"""What the manifests of a repository run: compose services and Kubernetes workloads."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mega_optimizer.repository.compose import ComposeService, compose_services, is_compose_file
from mega_optimizer.repository.index import is_vendored
from mega_optimizer.repository.kubernetes import (
    Workload,
    is_kubernetes_manifest,
    kubernetes_workloads,
)
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.python.roles import is_test

if TYPE_CHECKING:
    from mega_optimizer.repository.tree import Tree


@dataclass(slots=True)
class Deployed:
    """What manifests run, and what of them could not be read."""

    composed: list[ComposeService] = field(default_factory=list)
    workloads: list[Workload] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_deployed(tree: Tree) -> Deployed:
    """Read all compose files and Kubernetes manifests."""
    deployed = Deployed()
    paths = [path for path in tree.files.paths if path.endswith((".yml", ".yaml"))]
    charts = {path.removesuffix("Chart.yaml") for path in paths if path.endswith("/Chart.yaml")}
    for chart in sorted(charts):
        problem = Problem(
            f"{chart}Chart.yaml", "templated", "the templates of a chart are left out"
        )
        deployed.problems.append(problem)
    templates = tuple(f"{chart}templates/" for chart in charts)
    for path in paths:
        if is_vendored(path) or (templates and path.startswith(templates)):
            continue
        content = tree.content(path)
        if content is None:
            continue
        if is_compose_file(path):
            composed = compose_services(path, content)
            if isinstance(composed, Problem):
                deployed.problems.append(composed)
            else:
                deployed.composed += composed
        elif is_kubernetes_manifest(path, content) and not is_test(path):
            workloads = kubernetes_workloads(path, content)
            if isinstance(workloads, Problem):
                deployed.problems.append(workloads)
            else:
                deployed.workloads += workloads
    return deployed


def runs_image(image: str | None, name: str, names: frozenset[str]) -> bool:
    """Whether a manifest's ``image``, started under ``name``, is one of ``names``."""
    if image is None:
        return False
    short = short_image_name(image)
    if short in names:
        return True
    # example-voting-app deploys the image examplevotingapp_vote as vote.
    own = name.lower()
    return own in names and re.search(rf"[-_]{re.escape(own)}$", short) is not None


def short_image_name(image: str) -> str:
    """Return the name of an image without registry, organisation, tag and digest."""
    without_variables = re.sub(r"\$\{[^}]*\}", "", image)
    return re.sub(r"[:@].*$", "", without_variables.rpartition("/")[2]).lower()
