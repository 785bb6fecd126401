from __future__ import annotations

import textwrap

import pytest

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.gpu_evidence import gpu_evidence
from mega_optimizer.codemods.ml.device import device_of
from mega_optimizer.codemods.ml.loaders import model_loads, needs_a_lock, weights_library
from mega_optimizer.codemods.versions import version_verdict
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.scan import scan
from mega_optimizer.repository.service import Deployment, Service

DOCKERFILE = (
    "FROM python:3.11-slim\nCOPY . .\nRUN pip install -r requirements.txt\nCMD python app.py"
)
ASKS = "device = 'cuda' if torch.cuda.is_available() else 'cpu'\n"


def context_of(**texts: str) -> Context:
    contents = {"Dockerfile": DOCKERFILE, "requirements.txt": "torch\n", "app.py": "", **texts}
    files = MemoryFiles({path: textwrap.dedent(text).encode() for path, text in contents.items()})
    (service,) = scan(files, "shop").services
    return Context(service, files)


def compose(lines: str) -> dict[str, str]:
    return {"compose.yaml": f"services:\n  web:\n    build: .\n    {lines}\n"}


CUDA_BASE = DOCKERFILE.replace("python:3.11-slim", "nvidia/cuda:12.2.0-runtime-ubuntu22.04")


@pytest.mark.parametrize(
    ("texts", "kind", "place"),
    [
        ({}, "cpu", None),
        ({"app.py": ASKS}, "unknown", "app.py:1"),
        ({"app.py": "pipe.to('cuda')\n"}, "unknown", "app.py:1"),
        ({"app.py": ASKS, **compose("gpus: all")}, "gpu", "compose.yaml:4"),
        ({"app.py": ASKS, **compose("runtime: nvidia")}, "gpu", "compose.yaml:4"),
        ({"app.py": ASKS, "Dockerfile": CUDA_BASE}, "gpu", "Dockerfile:1"),
        ({"requirements.txt": "torch\nflash-attn\n"}, "gpu", "requirements.txt:2"),
        (
            {
                "app.py": ASKS,
                "requirements.txt": "--extra-index-url https://download.pytorch.org/whl/cpu\ntorch\n",
            },
            "cpu",
            "requirements.txt:1",
        ),
        ({"app.py": ASKS, "requirements.txt": "torch==2.4.1+cpu\n"}, "cpu", "requirements.txt:1"),
        (
            {"app.py": ASKS, "requirements.txt": "torch==2.4.1  # or torch==2.4.1+cpu\n"},
            "unknown",
            "app.py:1",
        ),
        (
            {"app.py": ASKS, **compose("environment: {CUDA_VISIBLE_DEVICES: '-1'}")},
            "cpu",
            "compose.yaml:4",
        ),
        (
            {"requirements.txt": "torch==2.4.1+cpu\n", "Dockerfile": CUDA_BASE},
            "unknown",
            "Dockerfile:1",
        ),
    ],
)
def test_what_models_run_on(texts: dict[str, str], kind: str, place: str | None) -> None:
    device = device_of(context_of(**texts))
    assert (device.kind, str(device.place) if device.place else None) == (kind, place)


def test_what_is_loaded_and_by_whom() -> None:
    code = """\
        import joblib
        from diffusers import DDIMScheduler, StableDiffusionPipeline as SD
        from transformers import AutoModel, AutoTokenizer, pipeline


        def load(name):
            SD.from_single_file(name)
            SD.from_pretrained(name)
            DDIMScheduler.from_pretrained(name)
            AutoTokenizer.from_pretrained(name)
            AutoModel.from_pretrained(name)
            pipeline("fill-mask", name)
            joblib.load(name)
            other.from_pretrained(name)
    """
    calls = [call for _, call in model_loads(context_of(**{"app.py": code}))]
    assert [
        (call.text, weights_library(call), needs_a_lock(call.name or "")) for call in calls
    ] == [
        ("SD.from_single_file", "diffusers", True),
        ("SD.from_pretrained", "diffusers", True),
        ("DDIMScheduler.from_pretrained", None, True),
        ("AutoTokenizer.from_pretrained", None, True),
        ("AutoModel.from_pretrained", "transformers", False),
        ("pipeline", "transformers", True),
        ("joblib.load", None, False),
    ]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("torch==2.4.1", "holds"),
        ("torch<2", "fails"),
        ("torch>=2", "unknown"),
        ("numpy", "unknown"),
    ],
)
def test_a_version_is_shown_or_not(line: str, answer: str) -> None:
    context = context_of(**{"requirements.txt": f"{line}\n"})
    assert version_verdict(context, "torch", ">=2.4").answer == answer


COMPOSE = b"""\
services:
  app:
    build: ./app
  painter:
    image: example/painter:1
    runtime: nvidia
"""


@pytest.mark.parametrize("service", ["app", "painter"])
def test_an_entry_is_found_again_below_lines_that_another_rule_added(service: str) -> None:
    place = Place("compose.yaml", 2 if service == "app" else 4)
    deployment = Deployment("compose", service, place)
    above = b"  redis:\n    image: redis:7\n  cache:\n    image: redis:7\n"
    changed = COMPOSE.replace(b"services:\n", b"services:\n" + above)
    files = MemoryFiles({"compose.yaml": changed})
    found = gpu_evidence(Context(Service("x", "", deployments=(deployment,)), files))
    assert (found is not None) == (service == "painter")
