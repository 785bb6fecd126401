"""What stands against the next smaller base image, in a few words for the message of a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import named_packages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.codemods.containers.image_recipe import Recipe

# No musllinux wheel on the index for x86_64 (looked up in November 2026).
NO_MUSL_WHEELS = frozenset(
    {
        "catboost", "dlib", "jaxlib", "lightgbm", "llama-cpp-python", "mediapipe",
        "mysqlclient", "onnxruntime", "opencv-contrib-python",
        "opencv-contrib-python-headless", "opencv-python", "opencv-python-headless",
        "paddlepaddle", "psycopg2", "pycurl", "scikit-learn",
        "tensorflow", "torch", "torchaudio", "torchvision", "uwsgi", "vllm", "xgboost",
    }
)  # fmt: skip


def against_alpine(packages: Mapping[str, frozenset[str]], recipe: Recipe) -> str:
    """Return why Alpine, the next smaller base, is not taken."""
    compiled = sorted(NO_MUSL_WHEELS & packages.keys())
    if compiled:
        return f"Alpine would have to compile {compiled[0]}"
    debian = sorted(named_packages(recipe))
    if debian:
        return f"Alpine has no apt, which installs {debian[0]}"
    return "Alpine, with another C library, is for review"
