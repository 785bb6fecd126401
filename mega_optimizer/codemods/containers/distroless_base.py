"""Say where the stage that ships could do without a shell and a package manager.

https://github.com/GoogleContainerTools/distroless/blob/main/python3/README.md: Python of the Debian
release (3.11 of Debian 12, 3.13 of Debian 13) in /usr/bin, the entry point; no shell, no pip.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.advice_place import start_instruction
from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import copies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction

_BASE = re.compile(r"(?:docker\.io/)?(?:library/)?python:(3\.\d+)(?:\.\d+)?-slim-(bookworm|trixie)")
# What a release of Debian brings, and its number.
_OFFERED = {("3.11", "bookworm"): "12", ("3.13", "trixie"): "13"}
_FROM = re.compile(rb"(?i)^\s*from\b.*\bpython:", re.MULTILINE)
_MODULES = frozenset(
    {"uvicorn", "gunicorn", "hypercorn", "celery", "flask", "granian", "streamlit", "fastapi"}
)
_PATH = re.compile(r"/[\w./-]+")
_NO_SHELL = frozenset(
    {"ARG", "ENV", "WORKDIR", "COPY", "EXPOSE", "LABEL", "CMD", "ENTRYPOINT", "USER"}
)


def find(context: Context) -> Iterator[Outcome]:
    """Yield one piece of advice for a last stage that only copies and starts Python."""
    image = built_image(context, _FROM)
    if not isinstance(image, BuiltImage) or len(image.dockerfile.stages) < 2:
        return
    start = start_instruction(image)
    found = _BASE.fullmatch(image.stage.base)
    if start is None or found is None:
        return
    place = image.place(image.stage.origin)
    debian = _OFFERED.get((found[1], found[2]))
    if debian is None:
        reason = f"no distroless image has Python {found[1]} on Debian's {found[2]}"
        yield Skip(place, "python-not-offered", reason)
        return
    other = next((each for each in image.stage.instructions if each.keyword not in _NO_SHELL), None)
    if other is not None:
        reason = f"line {other.line} ({other.keyword}) needs a shell or programs in the image"
        yield Skip(place, "needs-a-shell", reason)
        return
    if image.last("ENTRYPOINT") is not None or start.exec_form is None:
        yield Skip(place, "needs-a-shell", f"line {start.line} starts it by a shell or a script")
        return
    message = "The last stage only copies and starts Python: it could ship without a shell"
    edits = _patch(image, start, found, debian)
    if edits is None:
        yield Fix(place, f"{message}. No patch, because it is not certain what is started how")
        return
    yield Fix(place, message, edits)


def _patch(
    image: BuiltImage, start: Instruction, found: re.Match[str], debian: str
) -> tuple[Edit, ...] | None:
    """Return the edits for an environment that is copied from a builder, and a module started."""
    words = start.exec_form or ()
    environment = next(
        (
            copy
            for instruction in image.stage.instructions
            if (copy := copies(instruction))
            and copy.from_stage
            and copy.sources == (copy.destination,)
            and "venv" in copy.destination
            and _PATH.fullmatch(copy.destination)
        ),
        None,
    )
    named = any(b"PYTHONPATH" in image.text(each) for each in image.stage.instructions)
    users = [each for each in image.stage.instructions if each.keyword == "USER"]
    if environment is None or named or users or not words:
        return None
    if words[0].text in ("python", "python3"):
        arguments = [word.text for word in words[1:]]
    elif words[0].text in _MODULES:
        arguments = ["-m", *(word.text for word in words)]
    else:
        return None
    base = f"gcr.io/distroless/python3-debian{debian}"
    at = image.content.index(found[0].encode(), image.stage.origin.start)
    packages = f"{environment.destination.rstrip('/')}/lib/python{found[1]}/site-packages"
    newline = image.dockerfile.newline
    path = f"{newline}ENV PYTHONPATH={packages}".encode()
    end = image.stage.origin.end
    return (
        Edit(image.path, at, at + len(found[0]), base.encode()),
        Edit(image.path, end, end, path),
        Edit(
            image.path,
            start.arguments_start,
            start.arguments_end,
            json.dumps(arguments, ensure_ascii=False).encode(),
        ),
    )
