"""What the JSON rules write into the gateway answers as before; mistakes in it would be seen."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mega_optimizer.engine.resolve import child_environment
from tests.sample.requests import RECORDED
from tests.services.environment import installed
from tests.services.programs import free_port
from tests.services.rewritten import Checkout
from tests.test_sample_repository import copy_of_the_sample, optimize

SERVICE = "api-gateway"
ITEMS, MAIN = "app/routers/items.py", "app/main.py"
REQUESTS = [
    *((sent.method, sent.path, sent.options) for name, sent in RECORDED if name == SERVICE),
    ("GET", "/openapi.json", {}),
]
Mutation = tuple[str, str, str]  # file, old text, new text
LISTED = "async def list_items() -> list[dict]:"
# rule → what it could have written instead
MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    "json/orjson-dumps": (
        (ITEMS, "orjson.dumps(ITEMS)", "str(orjson.dumps(ITEMS))"),
        (ITEMS, "orjson.dumps(ITEMS)", "orjson.dumps(json.dumps(ITEMS))"),
        (ITEMS, "orjson.dumps(ITEMS)", "orjson.dumps(ITEMS, option=orjson.OPT_SORT_KEYS)"),
        (ITEMS, 'orjson.dumps(ITEMS), media_type="application/json"', "orjson.dumps(ITEMS)"),
    ),
    "json/orjson-dumps-options": (
        (ITEMS, "orjson.OPT_INDENT_2 | ", ""),
        (ITEMS, " | orjson.OPT_SORT_KEYS", ""),
        (ITEMS, "option=orjson.OPT_INDENT_2", "option=orjson.OPT_APPEND_NEWLINE"),
        (ITEMS, "attachment; ", ""),
    ),
    "json/orjson-response": (
        (MAIN, "import ORJSONResponse", "import PlainTextResponse as ORJSONResponse"),
        (MAIN, "import ORJSONResponse", "import HTMLResponse as ORJSONResponse"),
        (MAIN, "version=settings.version,", ""),
    ),
    "json/typed-response": (
        (ITEMS, LISTED, LISTED.replace("list[dict]", "dict")),
        (ITEMS, LISTED, LISTED.replace("list[dict]", "list[dict[str, str]]")),
        (ITEMS, LISTED, LISTED.replace("dict", "dict[str, float | str]")),
        (ITEMS, ") -> dict:", ") -> dict[str, int]:"),
        (ITEMS, "limit: int = 50", "limit: int = 5"),
    ),
}
ALL = [each for several in MUTATIONS.values() for each in several]
# Imports the framework once, and each gateway in a process of its own. No server, no upstream.
PROGRAM = """
import asyncio, json, os, sys
import fastapi, httpx, orjson, pydantic_settings

async def answers(app, requests):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for method, path, options in requests:
            answer = await client.request(method, path, **options)
            headers = {name: answer.headers.get(name) for name in HEADERS}
            yield answer.status_code, headers, answer.text

async def ask(requests):
    from app.main import app
    return [each async for each in answers(app, requests)]

HEADERS = ("content-type", "content-disposition")
requests, folders = json.load(sys.stdin)
for folder in folders:
    if os.fork() == 0:
        sys.path.insert(0, folder)
        os.chdir(folder)
        told = asyncio.run(ask(requests))
        with open("answers.json", "w") as file:
            json.dump(told, file)
        os._exit(0)
    assert os.wait()[1] == 0, folder
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Mutation | str, Path]:
    """Ask the gateway before the rules, after them and with each mistake; give the folders."""
    place = tmp_path_factory.mktemp("gateways")
    before, after = (copy_of_the_sample(place / name) for name in ("before", "after"))
    selected = [f"--select={rule}" for rule in MUTATIONS]
    optimize(after, "safe", "--service", SERVICE, *selected)
    service = after / "services" / SERVICE
    python = installed(place / "venv", service / "requirements.txt")
    found: dict[Mutation | str, Path] = {
        "before": before / "services" / SERVICE,
        "after": service,
    }
    for number, (path, old, new) in enumerate(ALL):
        broken = Checkout(service, python).copy(place / str(number), path, (old, new))
        found[path, old, new] = broken.folder
    nobody = f"http://127.0.0.1:{free_port()}"
    subprocess.run(
        [python, "-c", PROGRAM],
        input=json.dumps((REQUESTS, list(map(str, found.values())))),
        env={
            **child_environment(os.environ),
            "PREDICTION_URL": nobody,
            "ORCHESTRATOR_URL": nobody,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        text=True,
        check=True,
    )
    return found


def answers(folder: Path) -> dict[str, Any]:
    """Return what was answered, byte for byte but for what the rules say that they change."""
    told = json.loads((folder / "answers.json").read_text())
    found = {
        f"{method} {path}": said for (method, path, _), said in zip(REQUESTS, told, strict=True)
    }
    *about, body = found["GET /api/v1/items/export"]
    found["GET /api/v1/items/export"] = [*about, body.replace(", ", ",").replace(": ", ":")]
    *about, body = found["GET /openapi.json"]
    document = json.loads(body)
    for methods in document["paths"].values():
        for operation in methods.values():
            del operation["responses"]  # a return type is a schema there
    found["GET /openapi.json"] = [*about, document]
    return found


def test_answers_stay(folders: dict[Mutation | str, Path]) -> None:
    expected = answers(folders["before"])
    assert answers(folders["after"]) == expected
    good = [request for request, (status, *_) in expected.items() if status == 200]
    assert len([request for request in good if "/items" in request]) == 6


@pytest.mark.parametrize("mutation", ALL, ids=lambda one: f"{one[1]}: {one[2]}")
def test_a_mistake_is_seen(folders: dict[Mutation | str, Path], mutation: Mutation) -> None:
    assert answers(folders[mutation]) != answers(folders["before"])
