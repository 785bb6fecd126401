"""What http/shared-client writes, under real uvicorn, against an upstream on the loopback."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.codemods.http.servers import Upstream, answering, rewritten
from tests.services.environment import installed
from tests.services.rewritten import answers
from tests.services.serving import UVICORN, serving

REQUIREMENTS = ("fastapi==0.115.6", "uvicorn==0.34.0", "httpx==0.27.2", "aiohttp==3.11.10")
MAIN = """\
import asyncio

import httpx
from fastapi import FastAPI, HTTPException

from app.upstream import fetch

app = FastAPI()


@app.get("/get/{path}")
async def get(path: str):
    try:
        return await fetch("/" + path)
    except OSError as error:
        raise HTTPException(502) from error


@app.get("/storm")
async def storm():
    async def impatient():
        try:
            await asyncio.wait_for(fetch("/slow"), 0.2)
        except (TimeoutError, asyncio.TimeoutError):
            return 1

    return sum(await asyncio.gather(*(impatient() for _ in range(150))))
"""
HTTPX = """\
import os

import httpx

URL = os.environ["UPSTREAM"]


async def fetch(path: str):
    async with httpx.AsyncClient(base_url=URL, timeout=30.0) as client:
        try:
            response = await client.get(path)
        except httpx.TransportError as error:
            raise OSError from error
        return response.json()
"""
AIOHTTP = """\
import os

import aiohttp

URL = os.environ["UPSTREAM"]


async def fetch(path: str):
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        try:
            async with session.get(URL + path) as response:
                return await response.json()
        except aiohttp.ClientConnectionError as error:
            raise OSError from error
"""

# Clients that a caller's arguments go into: they are shared all the same.
OF_A_USER = """\

from fastapi import Request


@app.get("/user")
async def user(request: Request):
    return await fetch("/user", {"X-User": request.headers["X-User"]})
"""


def of_a_user(upstream: str) -> str:
    """Return ``upstream`` with a client that is given the headers of its caller."""
    return upstream.replace(
        "fetch(path: str)", "fetch(path: str, headers: dict | None = None)"
    ).replace("timeout=", "headers=headers, timeout=")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("venv"), *REQUIREMENTS)


def written(folder: Path, main: str, upstream: str) -> Path:
    """Write a service as the rule leaves it."""
    files = {
        "requirements.txt": "\n".join(REQUIREMENTS) + "\n",
        "app/__init__.py": "",
        "app/main.py": main,
        "app/upstream.py": upstream,
    }
    return rewritten(folder, files, "http/shared-client")


@pytest.fixture(scope="module", params=[HTTPX, AIOHTTP], ids=["httpx", "aiohttp"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("service"), MAIN, request.param)


@pytest.mark.parametrize("upstream_module", [HTTPX, AIOHTTP], ids=["httpx", "aiohttp"])
def test_headers_of_a_user_go_with_no_other_request(
    python: Path, tmp_path: Path, upstream_module: str
) -> None:
    folder = written(tmp_path / "service", MAIN + OF_A_USER, of_a_user(upstream_module))
    with (
        answering(Upstream()) as upstream,
        serving(folder, {"UPSTREAM": upstream.url}, python=python) as running,
    ):
        for name in ("ann", "bob"):
            assert running.client.get("/user", headers={"X-User": name}).json() == {}
        assert running.client.get("/get/fast").json() == {}
        assert upstream.users == ["ann", "bob", None]
        assert upstream.opened == 1


def test_requests_share_one_connection_which_the_shutdown_closes(
    python: Path, service: Path
) -> None:
    with (
        answering(Upstream()) as upstream,
        serving(service, {"UPSTREAM": upstream.url}, python=python) as running,
    ):
        for _ in range(5):
            assert running.client.get("/get/fast").json() == {}
        assert upstream.opened == 1
        output = running.stop()
        assert upstream.closed.acquire(timeout=30)
        assert "Application shutdown complete" in output
        assert "nclosed" not in output


def test_cookies_of_one_request_are_not_sent_with_the_next(python: Path, service: Path) -> None:
    with (
        answering(Upstream()) as upstream,
        serving(service, {"UPSTREAM": upstream.url}, python=python) as running,
    ):
        for _ in range(3):
            assert running.client.get("/get/fast").is_success
        assert upstream.cookies == [None, None, None]


def test_requests_in_flight_end_before_the_client_is_closed(python: Path, service: Path) -> None:
    with (
        answering(Upstream()) as upstream,
        serving(service, {"UPSTREAM": upstream.url}, python=python) as running,
        ThreadPoolExecutor(2) as pool,
    ):
        answer = pool.submit(running.client.get, "/get/slow")
        assert upstream.arrived.acquire(timeout=30)
        stopped = pool.submit(running.stop)
        upstream.release.set()
        assert answer.result().json() == {}
        assert "Application shutdown complete" in stopped.result()


def test_cancelled_requests_give_their_connections_back(python: Path, service: Path) -> None:
    with (
        answering(Upstream()) as upstream,
        serving(service, {"UPSTREAM": upstream.url}, python=python) as running,
    ):
        assert running.client.get("/storm").json() == 150
        assert running.client.get("/get/fast").json() == {}


def test_upstream_may_go_and_come_back(python: Path, service: Path) -> None:
    upstream = Upstream()
    with answering(upstream):
        pass
    with serving(service, {"UPSTREAM": upstream.url}, python=python) as running:
        assert running.client.get("/get/fast").status_code == 502
        with answering(upstream):
            assert running.client.get("/get/fast").json() == {}
        assert running.client.get("/get/fast").status_code == 502


FORKS = """
import os
from fastapi.testclient import TestClient
from app.main import app

for _ in range(8):
    if os.fork() == 0:
        with TestClient(app) as client:
            told = [client.get("/get/fast").json() for _ in range(3)]
        os.write(1, f"{json.dumps(told)}\\n".encode())
        os._exit(0)
for _ in range(8):
    os.wait()
"""


def test_each_forked_process_has_a_client(python: Path, service: Path) -> None:
    with answering(Upstream()) as upstream:
        found = answers(service, FORKS, {"UPSTREAM": upstream.url}, python)
    assert found == [[{}] * 3] * 8
    assert upstream.opened == 8


def test_without_a_lifespan_each_request_has_a_client_of_its_own(
    python: Path, service: Path
) -> None:
    with (
        answering(Upstream()) as upstream,
        serving(
            service, {"UPSTREAM": upstream.url}, (*UVICORN, "--lifespan", "off"), python
        ) as running,
    ):
        for _ in range(3):
            assert running.client.get("/get/fast").json() == {}
        assert upstream.opened == 3
