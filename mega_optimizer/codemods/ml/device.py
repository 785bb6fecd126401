"""On which device the models of a service run, as far as its files show.

PyTorch moves nothing to a GPU by itself. ``transformers.pipeline`` and ``SentenceTransformer`` take
one where they find one, and a container finds one only where its deployment gives it one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.gpu_evidence import gpu_evidence
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context

_WITHOUT_CUDA = re.compile(
    rb"download\.pytorch\.org/whl/cpu|\btorch==[\d.]+\+cpu"
    rb"|CUDA_VISIBLE_DEVICES[=:] *(?:''|\"\"|[\"']?-1)"
)
_COMMENT = re.compile(rb"(?m)(?:^|\s)#[^\n]*")
_APPLE = rb"[\"']mps[\"'\]:]|backends\.mps|torch\.mps\b"


@dataclass(frozen=True, slots=True)
class Device:
    """What models run on, the words and (where there is one) the place that prove it.

    ``gpu``: a deployment gives the service an NVIDIA or AMD GPU, or its image or its packages are
    made for one. ``cpu``: its PyTorch has no CUDA, or nothing about it speaks of a GPU.
    ``unknown``: code asks what there is.
    """

    kind: Literal["gpu", "cpu", "unknown"]
    why: str
    place: Place | None = None


def device_of(context: Context) -> Device:
    """Return what the models of the service run on."""
    return context.once("device", _device)


def apple_evidence(context: Context) -> str | None:
    """Return a module that also runs on Apple's GPUs (``mps``), else None."""
    program = context.program
    return next(program.containing(_APPLE, program.product, b"mps"), None)


def _device(context: Context) -> Device:
    given = context.service.trait("on-a-gpu")
    without = _without_cuda(context)
    if given is not None and without is not None:
        return Device("unknown", f"{given.place} speaks of a GPU, {without} of none", given.place)
    if given is not None:
        return Device("gpu", f"{given.place} gives it a GPU", given.place)
    if without is not None:
        return Device("cpu", f"{without} installs PyTorch without CUDA, or hides GPUs", without)
    mentioned = gpu_evidence(context)
    if mentioned is not None:
        return Device("unknown", f"{mentioned} speaks of a GPU, and nothing gives one", mentioned)
    return Device("cpu", "nothing about the service speaks of a GPU")


def _without_cuda(context: Context) -> Place | None:
    """Return where the service says that it runs without CUDA."""
    paths = [each.path for each in context.dependencies.manifests]
    paths += [each.place.path for each in context.service.deployments]
    for path in dict.fromkeys(filter(None, [context.service.dockerfile, *paths])):
        content = context.read(path)
        if not isinstance(content, bytes):
            continue
        for found in _WITHOUT_CUDA.finditer(content):
            start = content.rfind(b"\n", 0, found.start()) + 1
            if _COMMENT.search(content[start : found.start()]) is None:
                return Place(path, content.count(b"\n", 0, found.start()) + 1)
    return None
