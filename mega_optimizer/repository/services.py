"""Link Dockerfiles, compose files, Kubernetes manifests and Python code into services.

Loads the parsers of everything that it links: import it where a scan is run.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mega_optimizer.repository.compose import (
    ComposeService,
    compose_rank,
    compose_services,
    is_compose_file,
)
from mega_optimizer.repository.dockerfile import Dockerfile, parse_dockerfile, shipping_stage
from mega_optimizer.repository.image import Image, infer_context
from mega_optimizer.repository.index import is_vendored
from mega_optimizer.repository.kubernetes import (
    Workload,
    is_kubernetes_manifest,
    kubernetes_workloads,
)
from mega_optimizer.repository.launches import (
    compose_launch,
    image_launch,
    kubernetes_launch,
    source_launch,
)
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.python.roles import is_test
from mega_optimizer.repository.service import Deployment, Service
from mega_optimizer.repository.tree import is_product

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mega_optimizer.repository.service import LaunchSite, Repository
    from mega_optimizer.repository.tree import Tree

_DOCKERFILE_NAME = re.compile(
    r"(?P<prefix>[\w.-]*?)[._-]?(?:dockerfile|containerfile)(?:[._-](?P<suffix>[\w.-]+))?",
    re.IGNORECASE,
)
_NOT_A_DOCKERFILE = re.compile(
    r"(?:^|[.])(?:dockerignore|md|rst|txt|j2|jinja2?|tmpl|tpl|template|py|sh|ya?ml|json|bak|orig)$",
    re.IGNORECASE,
)
_NOT_DEPLOYED = re.compile(r"(?:^|/)\.(?:devcontainer|github|gitlab|gitpod|circleci|vscode)/")
_FOR_DEVELOPERS = re.compile(r"(?:^|[-_.])(?:dev|debug|test|lint|local)", re.IGNORECASE)


@dataclass(slots=True)
class Deployed:
    """What manifests run, and what of them could not be read."""

    composed: list[ComposeService] = field(default_factory=list)
    workloads: list[Workload] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Built:
    """An image that runs Python, with the compose services that build it, best first."""

    dockerfile: Dockerfile
    image: Image
    target: str | None
    builds: tuple[ComposeService, ...]


def link_services(tree: Tree, repository_name: str) -> tuple[tuple[Service, ...], list[Problem]]:
    """Return all services, sorted by name and without traits, and the files not understood."""
    deployed = read_deployed(tree)
    built = list(_built_images(tree, deployed))
    names = _names(built, repository_name)
    services = [
        _service(tree, name, each, built, deployed) for name, each in zip(names, built, strict=True)
    ]
    services += _implicit_services(tree, services, repository_name)
    return tuple(sorted(services, key=lambda service: service.name)), deployed.problems


def owners(repository: Repository) -> Mapping[str, tuple[Service, ...]]:
    """Return, for each file that belongs to services, all the services that it belongs to."""
    found: dict[str, tuple[Service, ...]] = {}
    for service in repository.services:
        own = {*service.modules, *service.manifests}
        if service.dockerfile is not None:
            own.add(service.dockerfile)
        for path in own:
            found[path] = (*found.get(path, ()), service)
    return found


def is_dockerfile(path: str) -> bool:
    """Whether ``path`` is named like a Dockerfile that is built to be deployed."""
    folder, _, name = path.rpartition("/")
    matched = _DOCKERFILE_NAME.fullmatch(name)
    return (
        matched is not None
        and not _NOT_A_DOCKERFILE.search(matched["suffix"] or "")
        and not _NOT_DEPLOYED.search(path)
        and not is_vendored(path)
        and not is_test(f"{folder}/x")
    )


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


def _built_images(tree: Tree, deployed: Deployed) -> Iterator[Built]:
    for path in tree.files.paths:
        if not is_dockerfile(path):
            continue
        content = tree.content(path)
        dockerfile = parse_dockerfile(path, content) if content is not None else None
        if isinstance(dockerfile, Problem):
            deployed.problems.append(dockerfile)
        elif dockerfile is not None and dockerfile.stages:
            builds = [entry for entry in deployed.composed if _builds(entry, path, tree)]
            yield from _variants(tree, dockerfile, builds)


def _builds(entry: ComposeService, path: str, tree: Tree) -> bool:
    if entry.dockerfile == path:
        return True
    # A compose file in a folder of its own is often run with the root as project directory.
    folder = f"{posixpath.dirname(entry.place.path)}/"
    return (
        entry.dockerfile is not None
        and entry.dockerfile not in tree
        and entry.dockerfile.removeprefix(folder) == path
    )


def _variants(
    tree: Tree, dockerfile: Dockerfile, builds: Sequence[ComposeService]
) -> Iterator[Built]:
    """Yield the images that one Dockerfile is made for: one for each context and target."""
    best = min((compose_rank(entry.place.path) for entry in builds), default=0)
    variants: dict[tuple[str, str | None], list[ComposeService]] = {}
    for entry in sorted(builds, key=lambda entry: compose_rank(entry.place.path)):
        key = (entry.context or "", _shipping_target(dockerfile, entry.target))
        if key in variants or compose_rank(entry.place.path) == best:
            variants.setdefault(key, []).append(entry)
    if not variants:
        stage = dockerfile.stages[-1]
        variants = {(infer_context(tree, dockerfile, stage), None): []}
    for (context, target), entries in variants.items():
        stage = shipping_stage(dockerfile, target) or dockerfile.stages[-1]
        image = Image(tree, dockerfile, stage, context)
        if image.has_python:
            yield Built(dockerfile, image, target, tuple(entries))


def _shipping_target(dockerfile: Dockerfile, target: str | None) -> str | None:
    """Return the stage that ships where compose builds ``target``; None for the last one."""
    if target is None or _FOR_DEVELOPERS.search(target):
        return None
    stage = shipping_stage(dockerfile, target)
    return None if stage is None or stage is dockerfile.stages[-1] else target


def _service(
    tree: Tree, name: str, built: Built, others: Sequence[Built], deployed: Deployed
) -> Service:
    image, path = built.image, built.dockerfile.path
    modules = _modules(tree, built, others)
    launch: list[LaunchSite] = [*image_launch(tree, built.dockerfile, image)]
    deployments: list[Deployment] = []
    names = _image_names(name, built)
    for entry in deployed.composed:
        is_built = entry in built.builds
        if is_built or (entry.dockerfile is None and _runs(entry.image, entry.name, names)):
            deployments.append(
                Deployment(
                    "compose",
                    entry.name,
                    entry.place,
                    entry.image,
                    entry.replicas,
                    entry.environment,
                )
            )
            launch += compose_launch(tree, entry, built.dockerfile, image)
    for workload in deployed.workloads:
        for container in workload.containers:
            if _runs(container.image, workload.name, names):
                deployments.append(
                    Deployment(
                        "kubernetes",
                        workload.name,
                        container.place,
                        container.image,
                        workload.replicas,
                        container.environment,
                    )
                )
                launch += kubernetes_launch(tree, container, built.dockerfile, image)
    launch += source_launch(tree, image.context, modules)
    return Service(
        name=name,
        root=image.context,
        dockerfile=path,
        stage=built.target,
        manifests=_manifests(tree, built, modules),
        modules=modules,
        launch=_without_doubles(launch),
        deployments=tuple(deployments),
    )


def _manifests(tree: Tree, built: Built, modules: Sequence[str]) -> tuple[str, ...]:
    if built.image.manifests or not modules:
        return built.image.manifests
    folder = posixpath.dirname(built.dockerfile.path)
    start = folder if _is_below(folder, built.image.context) else built.image.context
    nearest = tree.nearest_manifests(start)
    return nearest[1] if nearest else ()


def _modules(tree: Tree, built: Built, others: Sequence[Built]) -> tuple[str, ...]:
    root = built.image.context
    roots = [other.image.context for other in others]
    installed = {posixpath.dirname(path) for path in built.image.manifests}
    nested = tuple(
        f"{other}/"
        for other in {*roots, *(tree.projects - installed)}
        if other != root and _is_below(other, root)
    )
    brings_all = (root or ".") in built.image.sources
    has_root_alone = roots.count(root) == 1
    found = tuple(
        path
        for path in tree.modules
        if _is_below(path, root)
        and (not brings_all or not nested or not path.startswith(nested))
        and (built.image.brings(path) or (has_root_alone and is_test(path)))
        and (is_product(path, root) or is_test(path))
    )
    if any(is_product(path, root) for path in found):
        return found
    # The code is mounted, or installed from elsewhere: what stands beside the Dockerfile.
    folder = posixpath.dirname(built.dockerfile.path)
    return tuple(path for path in tree.modules if folder and _is_below(path, folder)) or found


def _image_names(name: str, built: Built) -> frozenset[str]:
    """Return the names, without registry and tag, under which an image may be deployed."""
    names = {_image_name(entry.image) for entry in built.builds if entry.image}
    return frozenset({name.lower(), *names} - {""})


def _runs(image: str | None, name: str, names: frozenset[str]) -> bool:
    """Whether a manifest's ``image``, started under ``name``, is one of ``names``."""
    if image is None:
        return False
    short = _image_name(image)
    if short in names:
        return True
    # example-voting-app deploys the image examplevotingapp_vote as vote.
    own = name.lower()
    return own in names and re.search(rf"[-_]{re.escape(own)}$", short) is not None


def _image_name(image: str) -> str:
    without_variables = re.sub(r"\$\{[^}]*\}", "", image)
    return re.sub(r"[:@].*$", "", without_variables.rpartition("/")[2]).lower()


def _implicit_services(
    tree: Tree, services: Sequence[Service], repository_name: str
) -> Iterator[Service]:
    """Yield a service for each folder of manifests whose product code no image brings."""
    owned = {path for service in services for path in service.modules}
    taken = {path for service in services for path in service.manifests}
    by_folder: dict[str | None, list[str]] = {}
    for path in tree.modules:
        if path not in owned:
            nearest = tree.nearest_manifests(posixpath.dirname(path))
            by_folder.setdefault(nearest[0] if nearest else None, []).append(path)
    names = {service.name for service in services}
    for folder, paths in by_folder.items():
        root = folder or ""
        manifests = tree.manifests.get(root, ()) if folder is not None else ()
        modules = tuple(path for path in paths if is_product(path, root) or is_test(path))
        if not any(is_product(path, root) for path in modules):
            continue
        if (manifests and taken.issuperset(manifests)) or (folder is None and services):
            continue
        name = _unique(posixpath.basename(root) or repository_name, root.replace("/", "-"), names)
        names.add(name)
        yield Service(
            name=name,
            root=root,
            manifests=manifests,
            modules=modules,
            launch=_without_doubles(source_launch(tree, root, modules)),
        )


def _names(built: Sequence[Built], repository_name: str) -> list[str]:
    """Return a unique name for each image: compose's, else its folder's, else the repository's."""
    short = [_short_name(each, repository_name) for each in built]
    counts = Counter(short)
    taken: set[str] = set()
    names = []
    for name, each in zip(short, built, strict=True):
        if counts[name] > 1:
            folder = (
                posixpath.dirname(each.builds[0].place.path)
                if each.builds
                else posixpath.dirname(each.image.context)
            )
            name = "-".join([part for part in folder.split("/") if part] + [name])
        unique = _unique(name, each.dockerfile.path.replace("/", "-"), taken)
        taken.add(unique)
        names.append(unique)
    return names


def _short_name(built: Built, repository_name: str) -> str:
    folder = posixpath.basename(built.image.context)
    if built.builds:
        best = [
            entry
            for entry in built.builds
            if compose_rank(entry.place.path) == compose_rank(built.builds[0].place.path)
        ]
        named = [entry for entry in best if entry.name in (folder, repository_name)]
        public = [entry for entry in best if entry.ports]
        return (named or public or best)[0].name
    where, _, file = built.dockerfile.path.rpartition("/")
    own = posixpath.basename(where)
    if not folder:
        generic = own.startswith(".") or own.lower() in ("", "docker", "build", "deploy", "images")
        folder = repository_name if generic else own
    matched = _DOCKERFILE_NAME.fullmatch(file)
    variant = (matched["prefix"] or matched["suffix"] or "") if matched else ""
    return f"{folder}-{variant}" if variant else folder


def _unique(name: str, longer: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(each for each in (longer, *numbered) if each and each not in taken)


def _without_doubles(launch: Iterable[LaunchSite]) -> tuple[LaunchSite, ...]:
    return tuple({(site.place, site.source, site.command): site for site in launch}.values())


def _is_below(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")
