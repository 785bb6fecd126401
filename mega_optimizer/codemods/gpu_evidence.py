"""Whether anything about a service speaks of a GPU."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context

# Also in comments: "uncomment for a GPU" is a plan.
_MENTIONS = re.compile(
    rb"\bcuda|cuda\b|nvidia|\bgpus?\b|_gpu|gpu_|\brocm\b|\bdevice_map\b|\bcudnn|_cpu_offload\b",
    re.IGNORECASE,
)
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
    paths = [context.service.dockerfile or "", *context.program.product]
    paths += [deployment.place.path for deployment in context.service.deployments]
    for path in dict.fromkeys(filter(None, paths)):
        content = context.read(path)
        if isinstance(content, bytes):
            found = _MENTIONS.search(content)
            if found:
                return Place(path, content.count(b"\n", 0, found.start()) + 1)
    return None
