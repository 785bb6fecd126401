"""Let PyTorch grow its segments of GPU memory where the service says that memory is short.

By default the allocator asks the driver for segments of a fixed size, and what is free in one
cannot be joined with what is free in another: sizes that vary from request to request run out of
memory with memory left. Expandable segments are mapped page by page and have no such seams
(https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-alloc-conf).

``PYTORCH_CUDA_ALLOC_CONF`` is read by every version. Its successor ``PYTORCH_ALLOC_CONF`` came with
2.9, which ignores this option there (https://github.com/pytorch/pytorch/issues/183387).

``max_split_size_mb`` was the way before: it keeps large blocks whole, and makes the allocator free
and ask anew. PyTorch's message about memory that ran out names expandable segments in its place
(https://github.com/pytorch/pytorch/pull/113481).
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.deployments import compose_variable, container_variable
from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.serving.hazards import reached_modules
from mega_optimizer.codemods.serving.surroundings import deployed
from mega_optimizer.codemods.source import Source, read_source
from mega_optimizer.codemods.versions import is_version
from mega_optimizer.repository.kubernetes import Container
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.compose import ComposeService

VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
VALUE = "expandable_segments:True"
_NEW_NAME_WORKS = ">=2.11"
_SPLITS = re.compile(rb"\bmax_split_size_mb:\d+")
_SHORT = (
    "empty_cache", "OutOfMemoryError", "enable_model_cpu_offload", "enable_sequential_cpu_offload",
    "enable_vae_slicing", "enable_vae_tiling", "enable_attention_slicing",
)  # fmt: skip
# They give out memory themselves, or take PyTorch's apart.
_ALLOCATING_PACKAGES = ("vllm", "sglang", "torch-memory-saver", "rmm-cu12", "rmm-cu11")
_SETS_ALLOCATOR = rb"ALLOC_CONF|_set_allocator_settings|_setAllocatorSettings"
_OWN_ALLOCATOR = rb"CUDAPluggableAllocator|change_current_allocator|cuda\.MemPool"
# Handles of expandable segments could not be passed to other processes for long.
_SHARES = rb"torch\.multiprocessing|share_memory_\(|torch import multiprocessing"


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each deployment that gives the service an NVIDIA GPU."""
    if "torch" not in context.dependencies:
        return
    for entry in deployed(context):
        content = context.read(entry.place.path)
        if entry.gpu is not None and isinstance(content, bytes):
            yield _outcome(context, content, entry)


def _outcome(context: Context, content: bytes, entry: Container | ComposeService) -> Outcome:
    place = entry.place
    instead = _instead_of_splits(content, entry)
    if instead is not None:
        objection = _objection(context, entry, configured=True)
        if objection is not None:
            return Skip(place, *objection)
        return Fix(
            place, "let PyTorch grow its segments instead of keeping blocks whole", (instead,)
        )
    sign = _shortage(context)
    if sign is None:
        return Skip(place, "memory-not-short", "nothing in the code says that memory is short")
    objection = _objection(context, entry)
    if objection is not None:
        return Skip(place, *objection)
    variable = VARIABLES[is_version(context, "torch", _NEW_NAME_WORKS)]
    if isinstance(entry, Container):
        edit = container_variable(content, entry, variable, VALUE)
    else:
        edit = compose_variable(content, entry, variable, VALUE)
    if not isinstance(edit, Edit):
        return edit or Skip(place, "allocator-set", f"{variable} is set")
    what, where = sign
    message = f"let PyTorch grow its segments: memory is short ({what} at {where})"
    return Fix(place, message, (edit,))


def _instead_of_splits(content: bytes, entry: Container | ComposeService) -> Edit | None:
    """Return the edit of an allocator that is configured to keep blocks whole, and nothing else."""
    set_here = [name for name in VARIABLES if name in entry.environment]
    if set_here != [VARIABLES[0]]:
        return None
    configured = entry.environment[set_here[0]].encode()
    at = content.find(configured, entry.node.start, entry.node.end)
    if not _SPLITS.fullmatch(configured) or at < 0:
        return None
    if content.count(configured, entry.node.start, entry.node.end) > 1:
        return None
    return Edit(entry.place.path, at, at + len(configured), VALUE.encode())


def _shortage(context: Context) -> tuple[str, Place] | None:
    """Return the name, and where it stands, by which the application shows that memory is short."""
    return context.once("short of GPU memory", _first_sign)


def _first_sign(context: Context) -> tuple[str, Place] | None:
    found = set(context.modules(*(name.encode() for name in _SHORT)))
    for path in reached_modules(context, context.program) if found else ():
        content = context.read(path) if path in found else None
        source = read_source(path, content) if isinstance(content, bytes) else None
        for node in ast.walk(source.tree) if isinstance(source, Source) else ():
            if not isinstance(node, ast.Attribute) or node.attr not in _SHORT:
                continue
            if not ast.unparse(node).startswith(("torch.mps.", "torch.xpu.")):
                return node.attr, Place(path, node.lineno)
    return None


def _objection(
    context: Context, entry: Container | ComposeService, *, configured: bool = False
) -> tuple[str, str] | None:
    if not configured and any(name in entry.environment for name in VARIABLES):
        return "allocator-set", f"{entry.place} configures the allocator"
    if entry.node.get("envFrom") is not None or entry.node.get("env_file") is not None:
        return "environment-from", "what it takes its environment from may configure the allocator"
    package = next((each for each in _ALLOCATING_PACKAGES if each in context.dependencies), None)
    if package is not None:
        return "own-allocator", f"{package} manages the memory of the GPU itself"
    dockerfile = context.service.dockerfile
    built = context.read(dockerfile) if dockerfile else None
    if isinstance(built, bytes) and re.search(rb"ALLOC_CONF", built):
        return "allocator-set", f"{dockerfile} configures the allocator"
    if isinstance(built, bytes) and re.search(rb"(?i)\brocm", built):
        return "rocm", f"{dockerfile} is made for AMD's GPUs, which have no such segments"
    if any(name in site.environment for site in context.launch for name in VARIABLES):
        return "allocator-set", "the launch command configures the allocator"
    return _objection_of_the_code(context)


def _objection_of_the_code(context: Context) -> tuple[str, str] | None:
    program = context.program
    words = (b"ALLOC_CONF", b"_set_allocator_settings", b"_setAllocatorSettings")
    path = next(program.containing(_SETS_ALLOCATOR, program.product, *words), None)
    if path is not None:
        return "allocator-set", f"{path} configures the allocator"
    words = (b"CUDAPluggableAllocator", b"change_current_allocator", b"cuda.MemPool")
    path = next(program.containing(_OWN_ALLOCATOR, program.product, *words), None)
    if path is not None:
        return "own-allocator", f"{path} brings an allocator of its own"
    words = (b"torch.multiprocessing", b"share_memory_", b"torch import multiprocessing")
    path = next(program.containing(_SHARES, program.product, *words), None)
    if path is not None:
        return "shares-tensors", f"{path} may pass tensors on a GPU to other processes"
    return None
