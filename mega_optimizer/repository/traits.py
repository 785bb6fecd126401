"""Prove facts about services: from what they depend on, import, start with and are deployed as."""

from __future__ import annotations

import ast
import posixpath
import re
import warnings
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING

from mega_optimizer.repository.compose import compose_services
from mega_optimizer.repository.dependencies.model import Manifest
from mega_optimizer.repository.dependencies.read import read_manifest
from mega_optimizer.repository.dockerfile import parse_dockerfile, root_image, shipping_stage
from mega_optimizer.repository.kubernetes import kubernetes_workloads
from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.service import Trait
from mega_optimizer.repository.tree import is_product

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mega_optimizer.repository.service import LaunchSite, Service
    from mega_optimizer.repository.tree import Tree

_POSTGRES = ("psycopg2", "psycopg", "psycopg2cffi", "asyncpg", "pg8000", "aiopg", "psycopg_pool")
_SAME_NAME = (
    *("fastapi", "starlette", "flask", "django"),
    *("uvicorn", "gunicorn", "hypercorn", "granian"),
    *("sqlalchemy", "alembic", "redis", "celery", "requests", "httpx"),
    *("torch", "transformers", "diffusers", "sklearn"),
    "nest_asyncio",
)
# Speaks of a GPU, and is deployed, built or installed for one: code alone may also do without.
_ON_A_GPU = ("gpu", "on-a-gpu")
# The traits that importing a top-level package proves.
_IMPORTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **{name: (name,) for name in _SAME_NAME},
        **{name: ("postgres",) for name in _POSTGRES},
        "fastapi": ("fastapi", "starlette"),
        "aioredis": ("redis",),
        "sqlmodel": ("sqlalchemy",),
        "flask_sqlalchemy": ("flask", "sqlalchemy"),
        "flask_migrate": ("flask", "alembic"),
        "rest_framework": ("django",),
        "uvicorn_worker": ("uvicorn", "gunicorn"),
    }
)
# The traits that declaring a package proves, where they are not those of importing it.
_PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **{name.replace("_", "-"): traits for name, traits in _IMPORTS.items()},
        "psycopg2-binary": ("postgres",),
        "psycopg-binary": ("postgres",),
        "psycopg-pool": ("postgres",),
        "scikit-learn": ("sklearn",),
        "djangorestframework": ("django",),
        "django-redis": ("django", "redis"),
        "flask-redis": ("flask", "redis"),
        "django-celery-beat": ("django", "celery"),
        "onnxruntime-gpu": _ON_A_GPU,
        "tensorflow-gpu": _ON_A_GPU,
        "faiss-gpu": _ON_A_GPU,
        "flash-attn": _ON_A_GPU,
        "xformers": _ON_A_GPU,
    }
)
_SERVERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fastapi": ("fastapi", "starlette", "uvicorn"),
        **{
            name: (name,)
            for name in ("uvicorn", "gunicorn", "hypercorn", "granian", "flask", "celery")
        },
    }
)
_IMAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        r"tiangolo/uvicorn-gunicorn(?!-)": ("uvicorn", "gunicorn"),
        r"tiangolo/uvicorn-gunicorn-fastapi": ("uvicorn", "gunicorn", "fastapi", "starlette"),
        r"tiangolo/uvicorn-gunicorn-starlette": ("uvicorn", "gunicorn", "starlette"),
        r"tiangolo/(?:uwsgi-nginx|meinheld-gunicorn)-flask": ("flask",),
        r"(?:^|/)nvidia/|nvcr\.io/|cuda|rocm|tensorrt|[-:]gpu\b": _ON_A_GPU,
        r"windowsservercore|nanoserver|/windows(?:/|:|$)": ("windows",),
        r"(?:^|/)pypy\b": ("pypy",),
        r"(?:^|/)pytorch/": ("torch",),
    }
)
_imports = re.compile(
    rb"^[ \t]*(?:from|import)[ \t]+(?:[\w., \t]*,[ \t]*)?(%s)\b(?![ \t]*=)"
    % b"|".join(name.encode() for name in _IMPORTS),
    re.MULTILINE,
)
# What code does, by trait. A comment in front of it on the same line makes it void.
_CODE: Mapping[str, re.Pattern[bytes]] = MappingProxyType(
    {
        "postgres": re.compile(rb"postgres(?:ql)?(?:\+\w+)?://"),
        "gpu": re.compile(rb"\.cuda\(|[\"']cuda(?::\d+)?[\"']"),
        # On Linux, what sets one of the policies for Windows never runs.
        "event-loop-policy": re.compile(
            rb"\bset_event_loop_policy\((?!\s*[\w.]*Windows)|\basyncio\.set_event_loop\(|\buvloop\.(?:"
            rb"install|run)\(|\bloop_factory=|\bSelectorEventLoop\("
        ),
        "multiprocessing": re.compile(
            rb"\bmultiprocessing\.(?:Process|Pool|Manager|Queue|get_context|set_start_method|pool)\b"
            rb"|\bfrom multiprocessing(?:\.\w+)* import (?!cpu_count\b)|\bProcessPoolExecutor\b"
            rb"|\bos\.fork\("
        ),
    }
)
# One of these occurs where the pattern matches; looking for them is far faster.
_LITERALS: Mapping[str, tuple[bytes, ...]] = MappingProxyType(
    {
        "postgres": (b"postgres",),
        "gpu": (b"cuda",),
        "event-loop-policy": (b"event_loop", b"uvloop", b"loop_factory", b"SelectorEventLoop"),
        "multiprocessing": (b"multiprocessing", b"ProcessPoolExecutor", b"os.fork"),
    }
)
# A module without any of these proves nothing.
_TELLING = (
    *(name.encode() for name in _IMPORTS),
    *(literal for literals in _LITERALS.values() for literal in literals),
)
_PRELOAD = re.compile(rb"^[ \t]*preload_app[ \t]*=(?![ \t]*(?:False|=))", re.MULTILINE)
_GUNICORN_CONFIGURATION = re.compile(r"(?:^|/)[^/]*gunicorn[^/]*\.(?:py|conf)$")


def with_traits(tree: Tree, services: Sequence[Service]) -> tuple[Service, ...]:
    """Return ``services`` with their traits, one place of proof for each, sorted by name."""
    by_module: dict[str, tuple[Trait, ...]] = {}
    return tuple(
        replace(service, traits=_first_of_each(_traits(tree, service, by_module)))
        for service in services
    )


def _first_of_each(traits: Iterable[Trait]) -> tuple[Trait, ...]:
    found: dict[str, Trait] = {}
    for trait in traits:
        found.setdefault(trait.name, trait)
    return tuple(found[name] for name in sorted(found))


def _traits(
    tree: Tree, service: Service, by_module: dict[str, tuple[Trait, ...]]
) -> Iterator[Trait]:
    """Yield all traits, the best proof of each first; ``by_module`` remembers shared modules."""
    yield from _declared(tree, service)
    telling = tree.holding(*_TELLING)
    for path in service.modules:
        if path in telling and is_product(path, service.root):
            if path not in by_module:
                by_module[path] = tuple(_module_traits(tree, path))
            yield from by_module[path]
    yield from _launched(tree, service)
    yield from _deployed(tree, service)
    yield from _based_on(tree, service)
    ini = f"{service.root}/alembic.ini".lstrip("/")
    if ini in tree:
        yield Trait("alembic", Place(ini))


def _declared(tree: Tree, service: Service) -> Iterator[Trait]:
    built = tree.content(service.dockerfile) or b"" if service.dockerfile else b""
    waiting = list(service.manifests)
    seen: set[str] = set()
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        manifest = read_manifest(tree.files, path)
        if not isinstance(manifest, Manifest):
            continue
        waiting += manifest.includes
        for dependency in manifest.dependencies:
            if dependency.group and not _installs_group(built, dependency.group):
                continue
            for name in _PACKAGES.get(dependency.name, ()):
                yield Trait(name, dependency.place)
            if dependency.name == "fastapi" and dependency.extras & {"standard", "all"}:
                yield Trait("uvicorn", dependency.place)


def _installs_group(dockerfile: bytes, group: str) -> bool:
    """Whether a Dockerfile installs an extra or a group of that name."""
    name = re.escape(group.encode())
    option = rb"(?:-E|--extras?|--with|--group)[ =]+[\"']?(?:[\w-]+[ ,]+)*%s\b" % name
    return re.search(option + rb"|\[(?:[\w-]+, *)*%s *[,\]]" % name, dockerfile) is not None


def _module_traits(tree: Tree, path: str) -> tuple[Trait, ...]:
    content = tree.content(path)
    return () if content is None else _traits_in(path, content)


@by_content(size=16384)
def _traits_in(path: str, content: bytes) -> tuple[Trait, ...]:
    return tuple(_proven_by(path, content))


def _proven_by(path: str, content: bytes) -> Iterator[Trait]:
    imported: set[bytes] = set()
    for match in _imports.finditer(content):
        if match[1] in imported or not _is_import(content, match.start(), match[1].decode()):
            continue
        imported.add(match[1])
        place = Place(path, _line(content, match.start(1)))
        for name in _IMPORTS[match[1].decode()]:
            yield Trait(name, place)
    for name, literals in _LITERALS.items():
        if not any(literal in content for literal in literals):
            continue
        for match in _CODE[name].finditer(content):
            if not _is_comment(content, match.start()):
                yield Trait(name, Place(path, _line(content, match.start())))
                break


def _is_import(content: bytes, start: int, name: str) -> bool:
    """Whether the line at ``start``, which reads like an import of ``name``, is one."""
    quotes = (content.count(b'"""', 0, start), content.count(b"'''", 0, start))
    if quotes[0] % 2 == 0 and quotes[1] % 2 == 0:
        return True
    line = _line(content, start + len(content[start:]) - len(content[start:].lstrip(b" \t")))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(
        node.lineno == line and name in _packages(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    )


def _packages(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return set() if node.level or not node.module else {node.module.partition(".")[0]}
    return {alias.name.partition(".")[0] for alias in node.names}


def _is_comment(content: bytes, position: int) -> bool:
    return b"#" in content[content.rfind(b"\n", 0, position) + 1 : position]


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _launched(tree: Tree, service: Service) -> Iterator[Trait]:
    for site in service.launch:
        texts = [word.text for word in site.words]
        for name in _SERVERS.get(site.server or "", ()):
            yield Trait(name, site.place)
        if any("uvicorn.workers" in text or "uvicorn_worker" in text for text in texts):
            yield Trait("uvicorn", site.place)
        if site.server == "gunicorn" and _preloads(site):
            yield Trait("preload", site.place)
        if re.search(r"\bpypy", site.command):
            yield Trait("pypy", site.place)
    started = [site for site in service.launch if site.server == "gunicorn"]
    if started:
        named = tuple(f"/{name}" for site in started if (name := _configuration(site)))
        for path in tree.files.paths:
            inside = not service.root or path.startswith(f"{service.root}/")
            if inside and (_GUNICORN_CONFIGURATION.search(path) or f"/{path}".endswith(named)):
                preload = _PRELOAD.search(tree.content(path) or b"")
                if preload:
                    content = tree.content(path) or b""
                    yield Trait("preload", Place(path, _line(content, preload.start())))


def _preloads(site: LaunchSite) -> bool:
    """Whether gunicorn is told to import the application before it forks its workers."""
    arguments = site.environment.get("GUNICORN_CMD_ARGS", "")
    return site.option("--preload", "--preload-app") is not None or "--preload" in arguments


def _configuration(site: LaunchSite) -> str:
    """Return the path of the configuration file named on gunicorn's command line."""
    name = (site.option("-c", "--config") or "").removeprefix("file:")
    if name.startswith("python:"):
        name = f"{name.removeprefix('python:').replace('.', '/')}.py"
    return posixpath.basename(name)


def _deployed(tree: Tree, service: Service) -> Iterator[Trait]:
    for deployment in service.deployments:
        path = deployment.place.path
        for value in deployment.environment.values():
            if re.match(r"postgres(?:ql)?(?:\+\w+)?://", value):
                yield Trait("postgres", deployment.place)
        content = tree.content(path) or b""
        if deployment.kind == "compose":
            composed = compose_services(path, content)
            entries = () if isinstance(composed, Problem) else composed
            gpus = [entry.gpu for entry in entries if entry.place == deployment.place]
        else:
            workloads = kubernetes_workloads(path, content)
            containers = chain.from_iterable(
                () if isinstance(workloads, Problem) else (each.containers for each in workloads)
            )
            gpus = [each.gpu for each in containers if each.place == deployment.place]
        for gpu in gpus:
            if gpu is not None:
                yield from (Trait(name, gpu) for name in _ON_A_GPU)


def _based_on(tree: Tree, service: Service) -> Iterator[Trait]:
    if service.dockerfile is None:
        return
    parsed = parse_dockerfile(service.dockerfile, tree.content(service.dockerfile) or b"")
    stage = None if isinstance(parsed, Problem) else shipping_stage(parsed, service.stage)
    if isinstance(parsed, Problem) or stage is None:
        return
    image = root_image(parsed, stage) or stage.base
    for pattern, names in _IMAGES.items():
        if re.search(pattern, image):
            for name in names:
                yield Trait(name, Place(service.dockerfile, stage.origin.line))
