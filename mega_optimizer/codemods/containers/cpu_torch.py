"""Install PyTorch without CUDA where nothing speaks of a GPU.

https://pytorch.org/get-started/locally/ (Linux, pip, CPU) and
https://docs.astral.sh/uv/guides/integration/pytorch/. On Linux the wheels of PyPI bring CUDA, those
of the CPU index do not. For the same requirement, pip prefers ``2.4.1+cpu`` to ``2.4.1`` (PEP 440,
local versions).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.installs import install_words, parse_install, tool_of
from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.codemods.gpu_evidence import gpu_evidence, gpu_packages
from mega_optimizer.repository.installers import pip_subcommand
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dependencies.model import Dependency, Manifest
    from mega_optimizer.repository.shell import Command

INDEX = "https://download.pytorch.org/whl/cpu"
_FAMILY = ("torch", "torchvision", "torchaudio")
# They depend on torch without condition (their metadata, 2026-11).
_BRING_TORCH = frozenset(
    {
        "accelerate", "argostranslate", "bertopic", "docling", "easyocr", "facenet-pytorch",
        "fastai", "flair", "keybert", "kornia", "lightning", "open-clip-torch", "openai-whisper",
        "peft", "pytorch-lightning", "sentence-transformers", "silero-vad", "spacy-transformers",
        "stanza", "timm", "torchmetrics", "ultralytics",
    }
)  # fmt: skip
_INSTALLS = re.compile(rb"\b(?:pip[\d.]*|uv|poetry|pipenv|pdm|conda|mamba)\b")
_COMMENT = re.compile(rb"(?m)(?:^|\s)#[^\n]*")
_OWN_INDEX = re.compile(
    rb"--(?:extra-)?index-url|(?:PIP|UV)_(?:EXTRA_)?(?:INDEX|DEFAULT_INDEX)|--no-index|PIP_NO_INDEX"
    rb"|^[ \t]*-[if][ =]|\bpip[\d.]*\b[^\n&;|]*[ \t]-[if][ =]|--find-links|pip\.conf|pip config"
    rb"|download\.pytorch\.org",
    re.MULTILINE,
)


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for a service whose image installs PyTorch with CUDA for no GPU."""
    image = built_image(context, _INSTALLS)
    if not isinstance(image, BuiltImage):
        return
    named = _named(context, image)
    if named is None:
        return
    place, entry, manifest, command = named
    texts = {path: _without_comments(context, path) for path in _texts(context, image)}
    if any(b"whl/cpu" in text or b"+cpu" in text for text in texts.values()):
        return
    obstacle = _obstacle(context, image, entry, texts)
    if obstacle:
        yield Skip(place, *obstacle)
        return
    if command is not None:
        yield _in_dockerfile(image, place, [command])
    elif manifest is not None and entry is not None:
        yield _in_manifest(context, image, manifest, entry)


def _named(
    context: Context, image: BuiltImage
) -> tuple[Place, Dependency | None, Manifest | None, Command | None] | None:
    """Return where PyTorch is asked for, or else what brings it."""
    for names in (_FAMILY, _BRING_TORCH):
        for stage in image.dockerfile.stages:
            for instruction in stage.instructions:
                if instruction.keyword != "RUN" or b"install" not in image.text(instruction):
                    continue
                for command in image.commands(stage, instruction):
                    if not command.inside and _installs_by_name(command, names):
                        return image.place(instruction), None, None, command
        for manifest in context.dependencies.manifests:
            for entry in manifest.dependencies:
                if entry.name in names and not entry.group:
                    return entry.place, entry, manifest, None
    return None


def _installs_by_name(command: Command, names: frozenset[str] | tuple[str, ...]) -> bool:
    if tool_of(command) not in ("pip", "uv"):
        return False
    words = (re.split(r"[<>=!~\[; ]", word.text)[0].lower() for word in install_words(command))
    return any(word in names for word in words)


def _texts(context: Context, image: BuiltImage) -> Iterator[str]:
    yield image.path
    for manifest in context.dependencies.manifests:
        yield manifest.path


def _without_comments(context: Context, path: str) -> bytes:
    content = context.read(path)
    return _COMMENT.sub(b"", content) if isinstance(content, bytes) else b""


def _obstacle(
    context: Context, image: BuiltImage, entry: Dependency | None, texts: dict[str, bytes]
) -> tuple[str, str] | None:
    """Return the code and the reason why PyTorch stays as it is, if any."""
    package = next(gpu_packages(context), None)
    if package:
        return "gpu-evidence", f"{package} is installed for a GPU, or pinned as part of CUDA"
    evidence = gpu_evidence(context)
    if evidence:
        return "gpu-evidence", f"{evidence} speaks of a GPU"
    if "torch" in (image.base or ""):
        return "base-brings-it", f"{image.base} brings PyTorch"
    if entry is not None and entry.hashed:
        return "hashed-requirements", "the hashes are those of the wheels with CUDA"
    if entry is not None and (entry.origin != "index" or "+" in str(entry.specifier)):
        return "own-build", "a build of its own is asked for"
    for path, text in texts.items():
        if _OWN_INDEX.search(text):
            return "own-index", f"{path} says itself where packages come from"
    return None


def _in_manifest(
    context: Context, image: BuiltImage, manifest: Manifest, entry: Dependency
) -> Outcome:
    place = entry.place
    installs = [
        command
        for stage in image.dockerfile.stages
        for instruction in stage.instructions
        if instruction.keyword == "RUN"
        for command in image.commands(stage, instruction)
        if tool_of(command) is not None
    ]
    tools = {tool_of(command) for command in installs}
    if tools - {"pip"}:
        # uv takes each package from the first index that has it; the CPU index has old ones of
        # many (https://docs.astral.sh/uv/concepts/indexes/#searching-across-multiple-indexes).
        reason = "another installer than pip reads it, for which an index beside is not enough"
        return Skip(place, "installer-unsupported", reason)
    if manifest.lock or manifest.compiled:
        reason = f"{manifest.lock or manifest.path} would have to be made anew"
        return Skip(place, "lock-not-refreshable", reason)
    if manifest.kind == "requirements":
        content = context.read(manifest.path)
        if isinstance(content, Problem):
            return Skip(place, "manifest-unreadable", content.message)
        start = _line_start(content, place.line)
        ending = b"\r\n" if b"\r\n" in content else b"\n"
        line = f"--extra-index-url {INDEX}".encode() + ending
        return _fix(place, (Edit(manifest.path, start, start, line),))
    projects = [
        command
        for command in installs
        if not isinstance(install := parse_install(command, in_place=True), str)
        and install.projects
        and not command.inside
    ]
    if not projects:
        reason = f"what installs {manifest.path} is not certain"
        return Skip(place, "installer-unsupported", reason)
    return _in_dockerfile(image, place, projects)


def _in_dockerfile(image: BuiltImage, place: Place, commands: list[Command]) -> Outcome:
    edits = []
    for command in commands:
        subcommand = pip_subcommand(command)
        if subcommand is None or subcommand.end < 0:
            reason = "another installer than pip runs, for which an index beside is not enough"
            return Skip(place, "installer-unsupported", reason)
        words = install_words(command)
        options = [word for word in words if word.text in ("--no-cache-dir", "-q", "--upgrade")]
        after = options[0] if options and words[0] is options[0] else subcommand
        text = f" --extra-index-url {INDEX}"
        if command.exec_form:
            text = f', "--extra-index-url", "{INDEX}"'
        edits.append(Edit(image.path, after.end, after.end, text.encode()))
    return _fix(place, tuple(edits))


def _fix(place: Place, edits: tuple[Edit, ...]) -> Fix:
    message = "Install PyTorch without CUDA: nothing here speaks of a GPU"
    return Fix(place, message, edits)


def _line_start(content: bytes, line: int) -> int:
    position = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    for _ in range(line - 1):
        position = content.index(b"\n", position) + 1
    return position
