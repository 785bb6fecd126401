from __future__ import annotations

import textwrap

import pytest

from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.scan import scan

BASE = {"Dockerfile": "FROM python:3.12\nCOPY . .\n", "app.py": ""}


def traits(files: dict[str, str]) -> dict[str, str]:
    contents = {path: textwrap.dedent(text).encode() for path, text in {**BASE, **files}.items()}
    (service,) = scan(MemoryFiles(contents), "shop").services
    assert [trait.name for trait in service.traits] == sorted({t.name for t in service.traits})
    return {trait.name: str(trait.place) for trait in service.traits}


@pytest.mark.parametrize(
    ("requirement", "names"),
    [
        ("FastAPI==0.1", {"fastapi", "starlette"}),
        ("fastapi[standard]", {"fastapi", "starlette", "uvicorn"}),
        ("psycopg2_binary", {"postgres"}),
        ("scikit-learn", {"sklearn"}),
        ("onnxruntime-gpu", {"gpu", "on-a-gpu"}),
        ("nest-asyncio", {"nest_asyncio"}),
        ("torchmetrics", set()),
    ],
)
def test_declared_packages_prove_traits(requirement: str, names: set[str]) -> None:
    found = traits({"requirements.txt": f"# pins\n{requirement}\n"})
    assert found == dict.fromkeys(names, "requirements.txt:2")


def test_included_manifests_prove_and_groups_for_developers_do_not() -> None:
    assert traits({"requirements.txt": "-r base.txt\n", "base.txt": "redis\n"}) == {
        "redis": "base.txt:1"
    }
    project = """\
        [project]
        name = "a"
        dependencies = ["httpx"]
        [dependency-groups]
        dev = ["requests"]
    """
    assert set(traits({"pyproject.toml": project})) == {"httpx"}


@pytest.mark.parametrize(
    ("install", "names"),
    [
        ("poetry install -E pg --only main", {"postgres"}),
        ("poetry install --extras 'x pg'", {"postgres"}),
        ("uv sync --extra=pg", {"postgres"}),
        ("pip install -e .[x,pg]", {"postgres"}),
        ("uv sync --extra pgx", set()),
        ("pip install .", set()),
    ],
)
def test_an_extra_proves_what_it_brings_where_the_image_installs_it(
    install: str, names: set[str]
) -> None:
    project = """\
        [project]
        name = "a"
        dependencies = []
        optional-dependencies = {pg = ["psycopg"]}
    """
    dockerfile = f"FROM python\nWORKDIR /a\nCOPY . .\nRUN {install}\n"
    assert set(traits({"pyproject.toml": project, "Dockerfile": dockerfile})) == names


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import torch\n", {"torch"}),
        ("import os, torch.nn as nn\n", {"torch"}),
        ("from sqlalchemy.orm import Session\n", {"sqlalchemy"}),
        ("def f():\n    import asyncpg\n", {"postgres"}),
        ("import torchvision\n", set()),
        ("from .redis import x\n", set()),
        ("from app.redis import x\n", set()),
        ("import_redis = 1\n", set()),
        ("# import redis\n", set()),
        ('"""\nimport redis\n"""\n', set()),
        ('"""\nimport redis\n"""\nimport redis\n', {"redis"}),
        ("x = '''\nfrom flask import Flask\n'''\n", set()),
        ('"""Doc."""\nimport redis\n', {"redis"}),
    ],
)
def test_imports_prove_traits(code: str, names: set[str]) -> None:
    assert set(traits({"app.py": code})) == names


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("model.cuda()\n", "gpu"),
        ("device = 'cuda:0'\n", "gpu"),
        ("x  # 'cuda'\n", None),
        ("cuda = 1\n", None),
        ("URL = 'postgresql+asyncpg://x'\n", "postgres"),
        ("asyncio.set_event_loop_policy(P())\n", "event-loop-policy"),
        ("asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())\n", None),
        ("asyncio.set_event_loop_policy(\n    WindowsProactorEventLoopPolicy())\n", None),
        ("uvloop.install()\n", "event-loop-policy"),
        ("loop = asyncio.get_event_loop()\n", None),
        ("with ProcessPoolExecutor() as pool: ...\n", "multiprocessing"),
        ("from multiprocessing import Process\n", "multiprocessing"),
        ("import multiprocessing\nn = multiprocessing.cpu_count()\n", None),
        ("pid = os.fork()\n", "multiprocessing"),
        ('if sys.platform == "win32":\n    pass\n', None),
    ],
)
def test_what_code_does_proves_traits(code: str, name: str | None) -> None:
    assert set(traits({"app.py": code})) == ({name} if name else set())


def test_tests_examples_and_docs_prove_nothing() -> None:
    code = "import torch\nmodel.cuda()\n"
    paths = ("tests/test_x.py", "test_y.py", "examples/x.py", "docs/conf.py")
    assert traits(dict.fromkeys(paths, code)) == {}


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("uvicorn app:app", {"uvicorn"}),
        ("gunicorn app:app -k uvicorn.workers.UvicornWorker", {"gunicorn", "uvicorn"}),
        ("gunicorn --preload app:app", {"gunicorn", "preload"}),
        ("fastapi run app.py", {"fastapi", "starlette", "uvicorn"}),
        ("celery -A tasks worker", {"celery"}),
        ("python app.py", set()),
    ],
)
def test_launch_sites_prove_traits(command: str, names: set[str]) -> None:
    found = traits({"Dockerfile": f"FROM python\nCOPY . .\nCMD {command}\n"})
    assert found == dict.fromkeys(names, "Dockerfile:3")


def test_preload_is_read_from_gunicorns_configuration() -> None:
    launched = {"Dockerfile": "FROM python\nCOPY . .\nCMD gunicorn app:app\n"}
    found = traits({**launched, "gunicorn.conf.py": "workers = 2\npreload_app = True\n"})
    assert found["preload"] == "gunicorn.conf.py:2"
    assert "preload" not in traits({**launched, "gunicorn.conf.py": "# preload_app = True\n"})
    assert "preload" not in traits({**launched, "gunicorn.conf.py": "preload_app = False\n"})
    switch = "preload_app = os.getenv('PRELOAD') == '1'\n"
    assert "preload" in traits({**launched, "gunicorn.conf.py": switch})


@pytest.mark.parametrize("option", ["-c conf/server.py", "--config=file:conf/server.py"])
def test_preload_is_read_from_the_configuration_that_gunicorn_is_given(option: str) -> None:
    launched = {"Dockerfile": f"FROM python:3.12\nCOPY . .\nCMD gunicorn {option} app:app\n"}
    files = {**launched, "app.py": "x = 1\n", "conf/server.py": "preload_app = True\n"}
    assert traits(files)["preload"] == "conf/server.py:1"


def test_preload_is_read_from_gunicorns_variable() -> None:
    variable = 'ENV GUNICORN_CMD_ARGS="--preload --workers 4"\n'
    dockerfile = f"FROM python:3.12\nCOPY . .\n{variable}CMD gunicorn app:app\n"
    assert "preload" in traits({"Dockerfile": dockerfile, "app.py": "x = 1\n"})


@pytest.mark.parametrize(
    ("base", "names"),
    [
        ("tiangolo/uvicorn-gunicorn-starlette:python3.9", {"starlette", "uvicorn", "gunicorn"}),
        ("tiangolo/uvicorn-gunicorn:python3.9", {"uvicorn", "gunicorn"}),
        ("nvidia/cuda:12.2.0-runtime-ubuntu22.04", {"gpu", "on-a-gpu"}),
        ("pypy:3.10", {"pypy"}),
        ("python:3.12-windowsservercore", {"windows"}),
        ("python:3.12-slim", set()),
    ],
)
def test_base_images_prove_traits(base: str, names: set[str]) -> None:
    found = traits({"Dockerfile": f"FROM {base}\nCOPY . .\nRUN pip install x\n"})
    assert found == dict.fromkeys(names, "Dockerfile:1")


def test_deployments_prove_traits() -> None:
    compose = """\
        services:
          web:
            build: .
            environment:
              DATABASE_URL: postgresql://u@db/x
            gpus: all
    """
    assert traits({"compose.yaml": compose}) == {
        "postgres": "compose.yaml:2",
        "gpu": "compose.yaml:6",
        "on-a-gpu": "compose.yaml:6",
    }
    pod = """\
        apiVersion: v1
        kind: Pod
        metadata: {name: shop}
        spec:
          containers:
            - image: shop
              resources:
                limits:
                  nvidia.com/gpu: 1
    """
    assert traits({"k8s/pod.yaml": pod}) == dict.fromkeys(("gpu", "on-a-gpu"), "k8s/pod.yaml:9")


def test_alembics_configuration_proves_it() -> None:
    assert traits({"alembic.ini": "[alembic]\n"}) == {"alembic": "alembic.ini:1"}


def test_code_that_cannot_be_parsed_proves_what_lies_outside_of_strings() -> None:
    assert set(traits({"app.py": "import redis\nprint 'x'\n"})) == {"redis"}
