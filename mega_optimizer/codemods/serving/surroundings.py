"""What stands around a launch command: mounted code, stop signals, variables for developers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit
from mega_optimizer.repository.compose import ComposeService, compose_rank, compose_services
from mega_optimizer.repository.dockerfile import lineage, shipping_stage
from mega_optimizer.repository.kubernetes import kubernetes_workloads
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Instruction
    from mega_optimizer.repository.kubernetes import Container
    from mega_optimizer.repository.service import LaunchSite

DEVELOPERS_COMPOSE = 2
DEVELOPERS_STAGE = re.compile(r"(?:^|[-_])(?:dev|devel|development|debug|test|local)(?:$|[-_\d])")
DEVELOPERS_FILE = re.compile(
    r"(?:^|[.\-_/])(?:dev|devel|development|debug|local|test)(?=[.\-_/]|$)"
)
# What switches Flask's debugger and reloader on (FLASK_ENV until Flask 2.2).
DEBUG_VARIABLES = ("FLASK_DEBUG", "FLASK_ENV")
OFF = frozenset({"", "0", "false", "f", "no", "n", "off", "production"})
SIGNAL_COMMENT = re.compile(rb"SIGINT|SIGTERM|[Ss]top.signal|stop gracefully")


def composed(context: Context) -> Iterator[ComposeService]:
    """Yield the compose entries that run the service."""
    for each in context.service.deployments:
        if each.kind != "compose":
            continue
        content = context.read(each.place.path)
        entries = compose_services(each.place.path, content) if isinstance(content, bytes) else ()
        if not isinstance(entries, Problem):
            yield from (entry for entry in entries if entry.name == each.name)


def deployed(context: Context) -> Iterator[Container | ComposeService]:
    """Yield the entries of compose and the containers of Kubernetes that run the service."""
    yield from composed(context)
    for deployment in context.service.deployments:
        path = deployment.place.path
        content = context.read(path) if deployment.kind == "kubernetes" else None
        workloads = kubernetes_workloads(path, content) if isinstance(content, bytes) else ()
        for workload in () if isinstance(workloads, Problem) else workloads:
            yield from (each for each in workload.containers if each.place == deployment.place)


def is_for_developers(context: Context, site: LaunchSite) -> bool:
    """Whether a launch command is written for developers, by the name of its file or stage."""
    path = site.place.path
    if site.source == "compose":
        return compose_rank(path) == DEVELOPERS_COMPOSE
    if site.source == "dockerfile":
        stage = context.service.stage or ""
        return DEVELOPERS_STAGE.search(stage) is not None or _is_named_for_developers(path)
    return _is_named_for_developers(path)


def _is_named_for_developers(path: str) -> bool:
    folder, _, name = path.lower().rpartition("/")
    folders = any(DEVELOPERS_STAGE.search(each) for each in folder.split("/"))
    return folders or DEVELOPERS_FILE.search(name) is not None


def mounted_code(context: Context, site: LaunchSite) -> Place | None:
    """Return the compose entry that starts ``site`` with code of the repository mounted into it."""
    for entry in composed(context):
        overrides = entry.command is not None or entry.entrypoint is not None
        same_file = site.source == "compose" and entry.place.path == site.place.path
        if overrides != same_file:
            continue
        volumes = entry.node.get("volumes")
        for volume in volumes.elements if volumes is not None else ():
            source = volume.get("source")
            text = volume.text or (source.text if source is not None else "")
            if text.startswith(".") and not re.match(r"[^:]*\.\w+:", text.lstrip("./")):
                return Place(entry.place.path, volume.line)
    return None


def debugging(context: Context) -> Place | None:
    """Return the compose entry or workload that switches Flask's debug mode on."""
    for each in context.service.deployments:
        for name in DEBUG_VARIABLES:
            if each.environment.get(name, "").lower() not in OFF:
                return each.place
    return None


def stop_signal_edits(context: Context) -> Iterator[Edit]:
    """Yield the edits that leave SIGTERM, on which gunicorn ends gracefully, as the stop signal.

    On SIGINT gunicorn drops what is in flight
    (https://docs.gunicorn.org/en/stable/signals.html).
    """
    for entry in composed(context):
        signal = entry.node.get("stop_signal")
        content = context.read(entry.place.path)
        if signal is not None and signal.text == "SIGINT" and isinstance(content, bytes):
            yield _without_line(entry.place.path, content, signal.start, signal.end)
    parsed = _dockerfile(context)
    content = context.read(parsed.path) if parsed is not None else b""
    for each in _shipped(context, parsed) if parsed is not None else ():
        if each.keyword == "STOPSIGNAL" and "SIGINT" in each.values and isinstance(content, bytes):
            yield _without_line(parsed.path if parsed else "", content, each.start, each.end)


def debug_variable_edits(context: Context) -> Iterator[Edit | Place]:
    """Yield the edits that take Flask's debug mode out of the image, or the place that hinders."""
    parsed = _dockerfile(context)
    content = context.read(parsed.path) if parsed is not None else b""
    if parsed is None or not isinstance(content, bytes):
        return
    for each in _shipped(context, parsed):
        if each.keyword != "ENV" or each.opaque:
            continue
        pairs = dict(zip(each.values[::2], each.values[1::2], strict=False))
        named = [name for name in pairs if name in DEBUG_VARIABLES]
        if not any(pairs[name].strip("\"'").lower() not in OFF for name in named):
            continue
        if len(pairs) == 1:
            yield _without_line(parsed.path, content, each.start, each.end, comments=False)
            text = parsed.newline.encode() + content[each.start : each.end]
            for heir in _heirs(context, parsed, each):
                yield Edit(parsed.path, heir.end, heir.end, text)
        else:
            yield Place(parsed.path, each.line)


def _heirs(context: Context, parsed: Dockerfile, instruction: Instruction) -> Iterator[Instruction]:
    """Yield the FROM of stages beside the image that build on that of ``instruction``."""
    shipping = shipping_stage(parsed, context.service.stage)
    shipped = lineage(parsed, shipping) if shipping is not None else ()
    for stage in parsed.stages:
        parent = parsed.stages[stage.parent] if stage.parent is not None else None
        if stage not in shipped and parent is not None and instruction in parent.instructions:
            yield stage.origin


def environment_edit(context: Context, site: LaunchSite, name: str, value: str) -> Edit | None:
    """Return the edit that sets a variable in front of the instruction that ``site`` stands in."""
    parsed = _dockerfile(context)
    content = context.read(parsed.path) if parsed is not None else b""
    if parsed is None or parsed.path != site.place.path or not isinstance(content, bytes):
        return None
    instruction = instruction_of(parsed, site)
    if instruction is None:
        return None
    start = instruction.start
    while True:
        above = content.rfind(b"\n", 0, max(start - 1, 0)) + 1
        if start == 0 or not content[above:start].lstrip().startswith(b"#"):
            break
        start = above
    line = f"ENV {name}={value}{parsed.newline}".encode()
    return Edit(parsed.path, start, start, line)


def instruction_of(parsed: Dockerfile, site: LaunchSite) -> Instruction | None:
    """Return the instruction of a Dockerfile in which the last word of ``site`` stands."""
    last = site.words[-1].start if site.words else -1
    return next((each for each in parsed.instructions if each.start <= last < each.end), None)


def _dockerfile(context: Context) -> Dockerfile | None:
    parsed = context.dockerfile(context.service.dockerfile) if context.service.dockerfile else None
    return None if parsed is None or isinstance(parsed, Problem) else parsed


def _shipped(context: Context, parsed: Dockerfile) -> Iterator[Instruction]:
    stage = shipping_stage(parsed, context.service.stage)
    for part in lineage(parsed, stage) if stage is not None else ():
        yield from part.instructions


def _without_line(
    path: str, content: bytes, start: int, end: int, *, comments: bool = True
) -> Edit:
    """Return the edit that removes the lines of ``start:end``, and comments above about signals."""
    first = content.rfind(b"\n", 0, start) + 1
    while comments:
        above = content.rfind(b"\n", 0, max(first - 1, 0)) + 1
        line = content[above:first].strip()
        if first == 0 or not line.startswith(b"#") or not SIGNAL_COMMENT.search(line):
            break
        first = above
    newline = content.find(b"\n", end)
    return Edit(path, first, len(content) if newline < 0 else newline + 1, b"")
