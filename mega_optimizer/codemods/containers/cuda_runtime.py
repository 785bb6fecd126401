"""Ship CUDA's libraries without its compiler, and cuDNN once.

https://hub.docker.com/r/nvidia/cuda (base: the runtime of CUDA; runtime: with the maths libraries
and NCCL; devel: with headers and nvcc, which depends on build-essential). PyTorch's wheels bring
all of these libraries themselves (what its wheels require: nvidia-cudnn-cu12 and others).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import lineage
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction, Stage

_CUDA = re.compile(rb"\bnvidia/cuda\b|\bcuda\b")
_IMAGE = re.compile(
    r"(?P<repository>(?:[\w.-]+(?::\d+)?/)*nvidia/cuda):(?P<version>\d+[\d.]*)"
    r"(?:-(?P<cudnn>cudnn\d*))?-(?P<kind>devel|runtime)(?P<system>-[\w.]+)?"
)
# What compiles, or is made to compile, while the image is built.
_COMPILES = re.compile(
    rb"\bnvcc\b|\bCUDA_HOME\b|/usr/local/cuda|TORCH_CUDA_ARCH_LIST|FORCE_CUDA|CMAKE_ARGS|\bcmake\b"
    rb"|\bmake\b|\bninja\b|setup\.py|git\+|git clone|--no-build-isolation|--no-binary|\bconda\b"
)
_CODE = re.compile(
    rb"torch\.compile\b|cpp_extension|\bnvcc\b|numba import cuda|numba\.cuda|@cuda\.jit|RawKernel"
    rb"|RawModule|load_inline|SourceModule|\bCUDA_HOME\b"
)
# They compile CUDA when they are installed or while they run, or read the toolkit.
_NEED_TOOLKIT = frozenset(
    {
        "apex", "auto-gptq", "autoawq", "causal-conv1d", "deepspeed", "detectron2", "exllamav2",
        "flash-attn", "flashinfer-python", "gsplat", "insightface", "jax", "llama-cpp-python",
        "mamba-ssm", "mmcv", "nvdiffrast", "optimum-quanto", "pycuda", "pytorch3d", "sglang",
        "tensorflow", "tensorrt-llm", "tinycudann", "torch-scatter", "torch-sparse", "triton",
        "unsloth", "vllm",
    }
)  # fmt: skip
# They load CUDA's libraries, or cuDNN, from the system.
_NEED_SYSTEM_CUDA = frozenset(
    {
        "argostranslate", "ctranslate2", "cudf", "cuml", "faiss-gpu", "faster-whisper", "jax",
        "mxnet", "numba", "nvidia-dali-cuda120", "onnxruntime-gpu", "paddlepaddle-gpu", "pycuda",
        "pynini", "rapidocr-paddle", "tensorflow", "tensorflow-gpu", "tensorrt", "whisperx",
    }
)  # fmt: skip


def find(context: Context) -> Iterator[Outcome]:
    """Yield the fix that makes the image smaller by the parts of CUDA that nothing uses."""
    image = built_image(context, _CUDA)
    if not isinstance(image, BuiltImage):
        return
    root = image.layers[0]
    origin = root.origin
    found = _IMAGE.fullmatch(root.image or "")
    if found is None:
        return
    place = image.place(origin)
    without_cudnn = _without_cudnn(context, image) if found["cudnn"] else None
    if found["kind"] == "runtime" and not found["cudnn"]:
        return
    if root.base != root.image:
        yield Skip(place, "base-in-argument", "the image is chosen by an argument of the build")
        return
    shared = _shared_with(image, root)
    if shared:
        yield Skip(place, "shared-base", f"stage {shared} is built on it too")
        return
    compiles = _compiles(context, image) if found["kind"] == "devel" else None
    if compiles:
        yield Skip(place, "compiles-cuda", compiles)
        return
    if without_cudnn and found["kind"] == "runtime":
        yield Skip(place, "system-cudnn", without_cudnn)
        return
    yield _fix(image, origin, found, brings_own=bool(found["cudnn"]) and without_cudnn is None)


def _fix(image: BuiltImage, origin: Instruction, found: re.Match[str], *, brings_own: bool) -> Fix:
    kind = "base" if brings_own else f"{found['cudnn']}-runtime" if found["cudnn"] else "runtime"
    wanted = f"{found['repository']}:{found['version']}-{kind}{found['system'] or ''}"
    start = image.content.index(found[0].encode(), origin.start)
    what = "nothing here compiles CUDA" if found["kind"] == "devel" else ""
    if brings_own:
        what += (", and " if what else "") + "PyTorch brings its own cuDNN"
    message = f"Ship {wanted.rpartition('/')[2]}: {what}"
    return Fix(
        image.place(origin),
        message,
        (Edit(image.path, start, start + len(found[0]), wanted.encode()),),
    )


def _shared_with(image: BuiltImage, root: Stage) -> str | None:
    """Return a stage that is built on ``root`` and does not ship."""
    for stage in image.dockerfile.stages:
        built_on = lineage(image.dockerfile, stage)
        if root in built_on and stage not in image.layers:
            return stage.name or str(stage.index)
    return None


def _packages(context: Context, image: BuiltImage) -> set[str]:
    """Return the Python packages that the service names anywhere, by normalised name."""
    names = {
        entry.name
        for manifest in context.dependencies.manifests
        for entry in manifest.dependencies
        if not entry.group
    } | set(context.dependencies.locked)
    for stage in image.dockerfile.stages:
        for instruction in stage.instructions:
            if instruction.keyword == "RUN" and b"install" in image.text(instruction):
                for command in image.commands(stage, instruction):
                    names |= {
                        re.split(r"[<>=!~\[;@ ]", text)[0].lower().replace("_", "-")
                        for text in command.texts
                    }
    return names


def _compiles(context: Context, image: BuiltImage) -> str | None:
    """Return what uses the compiler of CUDA, or its headers; None where nothing does."""
    for part in image.layers:
        for instruction in part.instructions:
            found = _COMPILES.search(image.text(instruction))
            if found:
                return f"line {instruction.line} speaks of {found[0].decode('utf-8', 'replace')}"
    package = next(iter(sorted(_packages(context, image) & _NEED_TOOLKIT)), None)
    if package:
        return f"{package} compiles while it is installed or while it runs"
    root = f"{context.service.root}/" if context.service.root else ""
    source = next(
        (
            path
            for path in context.files.paths
            if path.startswith(root) and path.endswith((".cu", ".cuh"))
        ),
        None,
    )
    if source:
        return f"{source} is CUDA to be compiled"
    place = _in_code(context)
    return f"{place} compiles while it runs" if place else None


def _in_code(context: Context) -> Place | None:
    for path in context.program.product:
        content = context.read(path)
        found = _CODE.search(content) if isinstance(content, bytes) else None
        if isinstance(content, bytes) and found:
            return Place(path, content.count(b"\n", 0, found.start()) + 1)
    return None


def _without_cudnn(context: Context, image: BuiltImage) -> str | None:
    """Return what needs the cuDNN, or other libraries, of the image; None where nothing does."""
    packages = _packages(context, image)
    if "torch" not in packages:
        return "nothing says that PyTorch brings cuDNN"
    needing = sorted(
        name
        for name in packages
        if name in _NEED_SYSTEM_CUDA or name in _NEED_TOOLKIT or name.startswith("cupy")
    )
    if needing:
        return f"{needing[0]} loads CUDA's libraries from the system"
    for part in image.layers:
        for instruction in part.instructions:
            found = re.search(rb"LD_LIBRARY_PATH|/usr/local/cuda|cudnn", image.text(instruction))
            if found and instruction.keyword != "FROM":
                return f"line {instruction.line} speaks of {found[0].decode()}"
    place = _in_code(context)
    return f"{place} may use the libraries of the system" if place else None
