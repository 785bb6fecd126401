"""Say that an image runs as root, and how it would not.

https://docs.docker.com/build/building/best-practices/#user
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.advice_place import (
    deployments_say,
    inserted_above,
    start_instruction,
)
from mega_optimizer.codemods.containers.python_images import is_python_image
from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Fix, Outcome, Skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction

_ANY = re.compile(rb"(?i)^\s*from\b", re.MULTILINE)
_ROOT = re.compile(r"^(?:root|0)(?::.*)?$")
_CHOOSES = re.compile(rb"(?m)^[ \t-]*(?:runAsUser|runAsNonRoot|user)[ \t]*:[ \t]*\S")
_DROPS = re.compile(rb"\b(?:gosu|su-exec|setpriv|setuidgid|chpst)\b|\bsu\s+-|\bexec su\b")
_SHIPPED_NON_ROOT = re.compile(
    r"nonroot|airflow|bitnami|jupyter|cimg/|lambda|ubi\d|openshift|selenium|jenkins"
)
_MOUNTS = re.compile(rb"(?m)^[ \t-]*(?:volumes|volumeMounts)[ \t]*:")
_WRITES = re.compile(rb"sqlite:///|sqlite3\.connect|FileStorage|RotatingFileHandler|\.mkdir\(")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one piece of advice for an image whose processes run as root."""
    image = built_image(context, _ANY)
    if not isinstance(image, BuiltImage):
        return
    start = start_instruction(image)
    if start is None or ((user := image.last("USER")) is not None and not _is_root(user)):
        return
    place = image.place(start)
    base = image.base
    if base is None or _SHIPPED_NON_ROOT.search(base):
        reason = f"{base or 'the base image'} may set a user itself"
        yield Skip(place, "base-user-unknown", reason)
        return
    chosen = deployments_say(context, _CHOOSES)
    if chosen:
        yield Skip(place, "deployment-chooses", f"{chosen} says who runs it")
        return
    drops = _drops_root(context, image)
    if drops:
        yield Skip(place, "drops-root", f"{drops} changes to another user itself")
        return
    message = "Its processes run as root: what breaks into one owns the container"
    obstacle = _obstacle(context, image)
    if obstacle:
        yield Fix(place, f"{message}. No patch, because {obstacle}")
        return
    lines = ("RUN useradd --create-home app", "USER app")
    yield Fix(place, message, (inserted_above(image, start, lines),))


def _is_root(user: Instruction) -> bool:
    return not user.values or _ROOT.match(user.values[0]) is not None


def _drops_root(context: Context, image: BuiltImage) -> str | None:
    if _DROPS.search(image.content):
        return image.path
    root = f"{context.service.root}/" if context.service.root else ""
    for path in context.files.paths:
        if path.startswith(root) and path.endswith((".sh", "entrypoint", ".conf")):
            content = context.read(path)
            if isinstance(content, bytes) and _DROPS.search(content):
                return path
    return None


def _obstacle(context: Context, image: BuiltImage) -> str | None:
    """Return why it is not certain that another user could run it."""
    if not is_python_image(image.base or "") or "alpine" in (image.base or ""):
        return f"users are made in another way on {image.base}"
    if image.last("VOLUME") is not None or deployments_say(context, _MOUNTS):
        return "a volume may belong to root"
    for instruction in image.instructions("EXPOSE"):
        ports = [value.partition("/")[0] for value in instruction.values]
        if any(not port.isdecimal() or int(port) < 1024 for port in ports):
            return f"line {instruction.line} names a port that not every runtime gives to users"
    for path in context.program.product:
        content = context.read(path)
        if isinstance(content, bytes) and _WRITES.search(content):
            return f"{path} writes files"
    return None
