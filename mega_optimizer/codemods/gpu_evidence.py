"""Whether anything about a service speaks of a GPU."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.repository.compose import compose_services
from mega_optimizer.repository.kubernetes import kubernetes_workloads
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.service import Deployment

# Also in comments: "uncomment for a GPU" is a plan.
_MENTIONS = re.compile(
    rb"\bcuda|cuda\b|nvidia|\bgpus?\b|_gpu|gpu_|\brocm\b|\bdevice_map\b|\bcudnn|_cpu_offload\b",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(rb"^\s*(?:<<|extends)\s*:|:\s*\*\w|^\s*-\s+\*\w")
Lines = list[tuple[int, bytes]]
# Packages that are of no use without a GPU, or are installed for one.
GPU_PACKAGES = frozenset(
    {
        "apex", "auto-gptq", "autoawq", "bitsandbytes", "cuda-python", "deepspeed", "exllamav2",
        "faiss-gpu", "flash-attn", "flashinfer-python", "nvidia-ml-py", "onnxruntime-gpu", "pynvml",
        "sglang", "tensorflow-gpu", "tensorrt", "triton", "unsloth", "vllm", "xformers",
    }
)  # fmt: skip
_GPU_FAMILIES = ("nvidia-", "cupy-cuda", "torch-tensorrt", "jax-cuda", "cuml", "cudf")


def gpu_packages(context: Context) -> Iterator[str]:
    """Yield the packages of the service that are installed for a GPU, by name."""
    names = {
        entry.name
        for manifest in context.dependencies.manifests
        for entry in manifest.dependencies
        if not entry.group
    } | set(context.dependencies.locked)
    for name in sorted(names):
        if name in GPU_PACKAGES or name.startswith(_GPU_FAMILIES):
            yield name


def gpu_evidence(context: Context) -> Place | None:
    """Return the first place that speaks of a GPU: a trait, the Dockerfile, code, or launch."""
    trait = context.service.trait("gpu")
    if trait is not None:
        return trait.place
    for path in dict.fromkeys(filter(None, [context.service.dockerfile, *context.program.product])):
        content = context.read(path)
        if isinstance(content, bytes):
            found = _MENTIONS.search(content)
            if found:
                return Place(path, content.count(b"\n", 0, found.start()) + 1)
    for deployment in context.service.deployments:
        content = context.read(deployment.place.path)
        if isinstance(content, bytes):
            for number, line in _about(deployment, content):
                if _MENTIONS.search(line):
                    return Place(deployment.place.path, number)
    return None


def _about(deployment: Deployment, content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines about ``deployment``: its entry of a compose file, or its document.

    It is looked for by name, since other rules may have added lines above. An entry that takes
    values from elsewhere (aliases, merge keys, ``extends``) may take a GPU from there: the whole
    file is about it, as where it is not found.
    """
    lines = list(enumerate(content.splitlines(), 1))
    is_compose = deployment.kind == "compose"
    read = compose_services if is_compose else kubernetes_workloads
    found = read(deployment.place.path, content)
    named = () if isinstance(found, Problem) else found
    starts = [each.place.line for each in named if each.name == deployment.name]
    if not starts:
        yield from lines
    for start in starts:
        entry = _entry(lines, start) if is_compose else _document(lines, start)
        yield from lines if any(_ELSEWHERE.search(line) for _, line in entry) else entry


def _document(lines: Lines, line: int) -> Lines:
    """Return the document of a YAML stream that holds the line with this number."""
    ends = [number for number, text in lines if text.startswith(b"---")]
    first = max((number for number in ends if number <= line), default=0)
    last = min((number for number in ends if number > line), default=len(lines))
    return lines[first:last]


def _entry(lines: Lines, line: int) -> Lines:
    """Return the lines from the name of an entry up to the next name."""
    margin = _margin(lines[line - 1][1])
    last = next(
        (
            number - 1
            for number, text in lines[line:]
            if text.strip() and not text.lstrip().startswith(b"#") and _margin(text) <= margin
        ),
        len(lines),
    )
    while last > line and _speaks_of_the_next(lines[last - 1][1], margin):
        last -= 1
    return lines[line - 1 : last]


def _speaks_of_the_next(line: bytes, margin: int) -> bool:
    """Whether it is blank, or a comment in line with the names of entries."""
    return not line.strip() or (line.lstrip().startswith(b"#") and _margin(line) == margin)


def _margin(line: bytes) -> int:
    return len(line) - len(line.lstrip())
