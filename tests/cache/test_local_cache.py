"""The cache in memory at work, in the process of a service that has what it declares."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mega_optimizer.codemods.cache.rendered import rendered
from mega_optimizer.engine.resolve import child_environment
from tests.cache.gateway import rewritten_gateway
from tests.services.rewritten import Checkout

PREAMBLE = """
import asyncio
from fastapi import Request, Response
import response_cache as cached

calls = []

def request(path, query=b""):
    return Request({"type": "http", "method": "GET", "path": path, "query_string": query,
                    "headers": [], "server": ("x", 80), "scheme": "http", "root_path": ""})

async def handler(request):
    calls.append(request.url.path)
    await asyncio.sleep(0)
    return Response(b"x" * size, media_type="text/plain", status_code=status, headers=headers)

async def ask(path, query=b"", seconds=30):
    response = await cached._cache.answer(request(path, query), handler, seconds)
    return response.headers["x-cache"]

size, status, headers = 10, 200, {}
"""
KEPT = """
async def main():
    assert await ask("/a") == "MISS"
    assert await ask("/a") == "HIT"
    assert await ask("/a", b"b=1&a=2") == "MISS"
    assert await ask("/a", b"a=2&b=1") == "HIT"
    assert cached.invalidate("/a") == 2
    assert await ask("/a") == "MISS"
"""
EXPIRED = """
async def main():
    assert await ask("/a", seconds=0) == "MISS"
    assert await ask("/a", seconds=0) == "MISS"
"""
SHARED = """
async def main():
    answers = await asyncio.gather(*(ask("/a") for _ in range(50)))
    assert len(calls) == 1, calls
    assert sorted(answers) == ["HIT"] * 49 + ["MISS"]
    assert not cached._cache._flights
"""
CANCELLED = """
async def main():
    started, release = asyncio.Event(), asyncio.Event()

    async def held(request):
        calls.append(request.url.path)
        started.set()
        await release.wait()
        return Response(b"x", media_type="text/plain")

    leader = asyncio.create_task(cached._cache.answer(request("/a"), held, 30))
    await started.wait()
    others = [
        asyncio.create_task(cached._cache.answer(request("/a"), held, 30)) for _ in range(9)
    ]
    await asyncio.sleep(0)
    leader.cancel()
    release.set()
    answers = await asyncio.gather(*others)
    assert {each.status_code for each in answers} == {200}
    assert len(calls) == 2, calls  # the cancelled one, and one of those who waited
    assert not cached._cache._flights
"""
BOUNDED = """
async def main():
    for number in range(3 * cached.MOST):
        await ask(f"/{number}")
    assert len(cached._cache._answers) == cached.MOST
    assert await ask(f"/{3 * cached.MOST - 1}") == "HIT"
    assert await ask("/0") == "MISS"
    global size
    size = cached.LARGEST - 100
    for number in range(40):
        await ask(f"/large/{number}")
    held = sum(len(packed) for _, packed in cached._cache._answers.values())
    assert held == cached._cache._bytes <= cached.MOST_BYTES
"""
REFUSED = """
async def main():
    global size, status, headers
    for size, status, headers in (
        (10, 404, {}), (cached.LARGEST + 1, 200, {}), (10, 200, {"set-cookie": "a=b"}),
        (10, 200, {"cache-control": "private"}), (10, 200, {"cache-control": "no-store"}),
    ):
        assert await ask("/a") == "BYPASS"
        assert await ask("/a") == "BYPASS"
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return rewritten_gateway(tmp_path_factory.mktemp("gateway"))


def run(python: Path, folder: Path, module: str, script: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / "response_cache.py").write_text(module)
    program = f"{PREAMBLE}{script}\nasyncio.run(main())\n"
    return subprocess.run(
        [python, "-c", program],
        cwd=folder,
        env=child_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def module(old: str = "", new: str = "") -> str:
    text = rendered("cache/local_cache.py.j2", entries=20, megabytes=16)
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize("script", [KEPT, EXPIRED, SHARED, CANCELLED, BOUNDED, REFUSED])
def test_answers_are_kept_within_bounds(gateway: Checkout, tmp_path: Path, script: str) -> None:
    done = run(gateway.python, tmp_path, module(), script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("old", "new", "script"),
    [
        ("?{query}", "?", KEPT),
        ("return len(keys)", "return 0", KEPT),
        ("time.monotonic() >= until", "False", EXPIRED),
        ("(flight := self._flights.get(key)) is not None", "False", SHARED),
        ("flight.cancel()", "pass", CANCELLED),
        ("len(self._answers) > MOST", "False", BOUNDED),
        ("self._bytes > MOST_BYTES", "False", BOUNDED),
        ("self._bytes -= ", "", BOUNDED),
        ("response.status_code != 200", "False", REFUSED),
        ("len(body) > LARGEST", "False", REFUSED),
        ('"set-cookie" in response.headers', "False", REFUSED),
        ('"private" in control', "False", REFUSED),
        ('"no-store" in control', "False", REFUSED),
    ],
)
def test_script_sees_a_broken_cache(
    gateway: Checkout, tmp_path: Path, old: str, new: str, script: str
) -> None:
    done = run(gateway.python, tmp_path, module(old, new), script)
    assert done.returncode != 0
    assert "SyntaxError" not in done.stderr
