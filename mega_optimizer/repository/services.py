"""Link Dockerfiles, compose files, Kubernetes manifests and Python code into services.

Loads the parsers of everything that it links: import it where a scan is run.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.repository.compose import ComposeService, compose_rank
from mega_optimizer.repository.deployed import (
    Deployed,
    read_deployed,
    runs_image,
    short_image_name,
)
from mega_optimizer.repository.dockerfile import Dockerfile, parse_dockerfile, shipping_stage
from mega_optimizer.repository.image import Image, infer_context
from mega_optimizer.repository.index import is_vendored
from mega_optimizer.repository.launches import (
    compose_launch,
    image_launch,
    kubernetes_launch,
    source_launch,
)
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.python.roles import is_test
from mega_optimizer.repository.service import Deployment, Service
from mega_optimizer.repository.service_names import (
    DOCKERFILE_NAME,
    service_names,
    unique_name,
)
from mega_optimizer.repository.tree import is_product

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mega_optimizer.repository.service import LaunchSite, Repository
    from mega_optimizer.repository.tree import Tree

_NOT_A_DOCKERFILE = re.compile(
    r"(?:^|[.])(?:dockerignore|md|rst|txt|j2|jinja2?|tmpl|tpl|template|py|sh|ya?ml|json|bak|orig)$",
    re.IGNORECASE,
)
_NOT_DEPLOYED = re.compile(r"(?:^|/)\.(?:devcontainer|github|gitlab|gitpod|circleci|vscode)/")
_FOR_DEVELOPERS = re.compile(r"(?:^|[-_.])(?:dev|debug|test|lint|local)", re.IGNORECASE)


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
    names = service_names(built, repository_name)
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
    matched = DOCKERFILE_NAME.fullmatch(name)
    return (
        matched is not None
        and not _NOT_A_DOCKERFILE.search(matched["suffix"] or "")
        and not _NOT_DEPLOYED.search(path)
        and not is_vendored(path)
        and not is_test(f"{folder}/x")
    )


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
        if is_built or (entry.dockerfile is None and runs_image(entry.image, entry.name, names)):
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
            if runs_image(container.image, workload.name, names):
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
    below = [path for path in tree.modules if _is_below(path, root)]
    own = [path for path in below if not nested or not path.startswith(nested)]
    brought = [path for path in (own if brings_all else below) if built.image.brings(path)]
    if any(is_product(path, root) for path in brought):
        tests = [path for path in own if has_root_alone and is_test(path)]
        found = sorted({*brought, *tests})
    else:
        # The code is mounted, or installed from an index: take what stands with the Dockerfile.
        folder = posixpath.dirname(built.dockerfile.path)
        found = [path for path in own if _is_below(path, folder) and (folder or has_root_alone)]
    return tuple(path for path in found if is_product(path, root) or is_test(path))


def _image_names(name: str, built: Built) -> frozenset[str]:
    """Return the names, without registry and tag, under which an image may be deployed."""
    names = {short_image_name(entry.image) for entry in built.builds if entry.image}
    return frozenset({name.lower(), *names} - {""})


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
        name = unique_name(
            posixpath.basename(root) or repository_name, root.replace("/", "-"), names
        )
        names.add(name)
        yield Service(
            name=name,
            root=root,
            manifests=manifests,
            modules=modules,
            launch=_without_doubles(source_launch(tree, root, modules)),
        )


def _without_doubles(launch: Iterable[LaunchSite]) -> tuple[LaunchSite, ...]:
    return tuple({(site.place, site.source, site.command): site for site in launch}.values())


def _is_below(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")
