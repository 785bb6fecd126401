"""Say that a base image is whatever its tag means on the day, where a bot would renew a pin.

https://docs.docker.com/build/building/best-practices/#pin-base-image-versions. A digest that nobody
renews keeps the security holes of its day; so advice is given only where Renovate or Dependabot
looks after Dockerfiles.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Stage

_ANY = re.compile(rb"(?i)^\s*from\b", re.MULTILINE)
_DIGEST = re.compile(rb"@(sha256:[0-9a-f]{64})\b")
_RENOVATE = re.compile(r"(?:^|/)(?:renovate\.json5?|\.renovaterc(?:\.json5?)?)$")
_DEPENDABOT = re.compile(r"^\.github/dependabot\.ya?ml$")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one piece of advice for each image that a stage names by its tag."""
    image = built_image(context, _ANY)
    if not isinstance(image, BuiltImage):
        return
    named = [
        stage
        for stage in image.dockerfile.stages
        if stage.parent is None and "@" not in (stage.image or "@") and stage.image != "scratch"
    ]
    if named and not _renewed(context):
        reason = "nothing here renews a digest: it would keep the security holes of its day"
        yield Skip(image.place(named[0].origin), "nothing-renews-it", reason)
        return
    for stage in named:
        yield _outcome(context, image, stage)


def _outcome(context: Context, image: BuiltImage, stage: Stage) -> Outcome:
    name = stage.image or ""
    place = image.place(stage.origin)
    if name != stage.base:
        return Skip(place, "base-in-argument", "an argument of the build chooses the image")
    message = f"{name} is another image tomorrow; a digest says which one was tested"
    digest = _digest_elsewhere(context, name)
    if digest is None:
        how = f"docker buildx imagetools inspect {name}"
        return Fix(place, f"{message}. No patch, because the registry must be asked: {how}")
    end = image.content.index(name.encode(), stage.origin.start) + len(name)
    return Fix(place, message, (Edit(image.path, end, end, f"@{digest}".encode()),))


def _renews(path: str) -> bool:
    return _RENOVATE.search(path) is not None or _DEPENDABOT.match(path) is not None


def _renewed(context: Context) -> bool:
    """Whether one of the bots looks after Dockerfiles: Renovate does unless it is told not to."""
    for path in context.files.paths:
        content = context.read(path) if _renews(path) else b""
        if not isinstance(content, bytes):
            continue
        if _RENOVATE.search(path) or re.search(rb"package-ecosystem:\s*[\"']?docker", content):
            return True
    return False


def _digest_elsewhere(context: Context, name: str) -> str | None:
    """Return the digest by which another Dockerfile of the repository pins the same tag."""
    wanted = name.encode() + b"@sha256:"
    found: set[bytes] = set()
    for path in context.files.paths:
        if "dockerfile" not in path.lower():
            continue
        content = context.read(path)
        if isinstance(content, bytes) and wanted in content:
            pattern = rb"(?<![\w./-])" + re.escape(name.encode()) + _DIGEST.pattern
            found |= set(re.findall(pattern, content))
    return found.pop().decode() if len(found) == 1 else None
