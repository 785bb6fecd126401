"""Services with a shared client against a real Redis: the same answers on fewer connections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.environment import installed
from tests.services.redis import Redis, redis_server
from tests.services.rewritten import Program, answers, written

RULE = "database/redis-client"
PRELUDE = """
import os, redis
from concurrent.futures import ThreadPoolExecutor
control = redis.Redis(port=int(os.environ["PORT"]))
control.flushall()
opened = lambda: control.info("stats")["total_connections_received"]
before = opened()
def shown(value):
    print(json.dumps(value), flush=True)
"""
FASTAPI = """
from fastapi.testclient import TestClient
from app.main import app
client = TestClient(app).__enter__()
def visit(_=None):
    return client.get("/visits").json()["visits"]
"""
FLASK = """
import app
def visit(_=None):
    with app.app.test_client() as client:
        status = client.post("/", data={"vote": "a", "user": "ada"}).status_code
    return status + control.llen("votes")
"""
PROGRAMS = {"dependency": FASTAPI, "inline": FASTAPI, "asyncio": FASTAPI, "flask-g": FLASK}


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with redis_server() as running:
        yield running


def environment(server: Redis) -> dict[str, str]:
    return {"REDIS_URL": server.url, "PORT": str(server.port), "REDIS_HOST": "localhost"}


def placed(folder: Path, server: Redis) -> Path:
    """The example names no port: give it that of the server."""
    for path in folder.rglob("*.py"):
        text = path.read_text().replace("db=0", f"port={server.port}, db=0")
        path.write_text(text)
    return folder


@pytest.mark.parametrize("example", list(PROGRAMS))
def test_answers_stay_and_connections_are_kept(server: Redis, tmp_path: Path, example: str) -> None:
    source = PRELUDE + PROGRAMS[example] + "shown([visit() for _ in range(10)])\n"
    source += "shown(opened() - before)\n"
    folders = [placed(each, server) for each in written(RULE, example, tmp_path)]
    (expected, many), (found, few) = (
        answers(each, source, environment(server)) for each in folders
    )
    assert found == expected
    assert (many, few) == (10, 1)


@pytest.mark.parametrize("example", ["dependency", "flask-g"])
def test_threads_share_it(server: Redis, tmp_path: Path, example: str) -> None:
    # At most three for each of 16 threads: one of a client that came first with others and is
    # dropped, one of the shared client, one of this test's own. Unshared it would be 200.
    source = (
        PRELUDE
        + PROGRAMS[example]
        + """
with ThreadPoolExecutor(16) as threads:
    found = list(threads.map(visit, range(200)))
shown([len(found), max(found) - min(found) > 100, opened() - before <= 48])
"""
    )
    _, after = written(RULE, example, tmp_path)
    assert answers(placed(after, server), source, environment(server)) == [[200, True, True]]


@pytest.mark.parametrize("example", ["dependency", "flask-g"])
def test_a_restarted_server_is_found_again(server: Redis, tmp_path: Path, example: str) -> None:
    source = PRELUDE + PROGRAMS[example] + "shown(visit())\nsys.stdin.readline()\nshown(visit())\n"
    _, after = written(RULE, example, tmp_path)
    program = Program(placed(after, server), source, environment(server))
    first = program.answer()
    server.restart()
    program.go_on()
    assert program.answer() == first  # the data went with the old server
    program.end()


def test_each_forked_process_connects_anew(server: Redis, tmp_path: Path) -> None:
    source = (
        PRELUDE
        + """
import app
def identity():
    with app.app.app_context():
        return app.get_redis().client_id()
ours = identity()
for _ in range(8):
    if os.fork() == 0:
        line = json.dumps([identity() == identity(), identity()])
        os.write(1, f"{line}\\n".encode())
        os._exit(0)
for _ in range(8):
    os.wait()
shown([identity() == ours, ours])
"""
    )
    _, after = written(RULE, "flask-g", tmp_path)
    found = answers(placed(after, server), source, environment(server))
    assert [same for same, _ in found] == [True] * 9
    assert len({number for _, number in found}) == 9


def test_a_cancelled_request_leaves_nobody_its_answer(server: Redis, tmp_path: Path) -> None:
    source = (
        PRELUDE
        + """
import asyncio
from app.main import visits

async def main():
    await visits()
    control.client_pause(60_000, all=False)  # writes wait, and so does their answer
    leaving = asyncio.create_task(visits())
    while not control.info("clients")["blocked_clients"]:
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    control.client_unpause()
    shown(leaving.cancelled())
    shown([(await visits())["visits"] - int(control.get("visits")) for _ in range(5)])

asyncio.run(main())
"""
    )
    _, after = written(RULE, "asyncio", tmp_path)
    python = installed(tmp_path / "venv", after / "requirements.txt", "pydantic-settings")
    assert answers(after, source, environment(server), python) == [True, [0] * 5]
