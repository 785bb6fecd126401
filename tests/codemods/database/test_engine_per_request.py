"""A service whose engine is shared, against a real PostgreSQL that restarts, locks and fills up."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.services.postgres import PostgreSQL, postgresql
from tests.services.rewritten import Program, answers, written
from tests.services.serving import serving

EXAMPLE = ("database/engine-per-request", "engine-function")
LOCKED = "wait_event_type = 'Lock'"
CONNECTIONS = 15  # a pool of 5, and 10 more
BACKEND = """
import os
from contextlib import contextmanager
from sqlalchemy import text
from app.db import get_db

def backend():
    with contextmanager(get_db)() as session:
        return session.execute(text("SELECT pg_backend_pid()")).scalar_one()

def shown(value):
    os.write(1, f"{json.dumps(value)}\\n".encode())  # at once, other than print
"""
RESTART = "shown(backend() > 0)\nsys.stdin.readline()\nshown([backend() > 0 for _ in range(3)])\n"
FORKS = """
for _ in range(8):
    if os.fork() == 0:
        shown([backend() == backend(), backend()])
        os._exit(0)
for _ in range(8):
    os.wait()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql(max_connections=40) as running:
        with psycopg.connect(running.url) as connection:
            connection.execute("CREATE TABLE orders AS SELECT generate_series(1, 3)")
        yield running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return written(*EXAMPLE, tmp_path_factory.mktemp("service"))


def environment(server: PostgreSQL) -> dict[str, str]:
    return {"DATABASE_URL": server.url.replace("postgresql:", "postgresql+psycopg:")}


def test_requests_share_connections(service: tuple[Path, Path], server: PostgreSQL) -> None:
    source = BACKEND + "shown(len({backend() for _ in range(20)}))\n"
    many, one = (answers(folder, source, environment(server)) for folder in service)
    assert (many, one) == ([20], [1])


def test_a_restarted_database_is_noticed_before_use(
    service: tuple[Path, Path], server: PostgreSQL
) -> None:
    for folder in service:
        program = Program(folder, BACKEND + RESTART, environment(server))
        assert program.answer() is True
        server.restart()
        program.go_on()
        assert program.answer() == [True] * 3
        program.end()


def test_without_the_ping_a_restart_would_be_an_error(server: PostgreSQL, tmp_path: Path) -> None:
    _, folder = written(*EXAMPLE, tmp_path)
    module = (folder / "app" / "db.py").read_text()
    (folder / "app" / "db.py").write_text(module.replace(", pool_pre_ping=True", ""))
    program = Program(folder, BACKEND + RESTART, environment(server))
    assert program.answer() is True
    server.restart()
    program.go_on()
    with pytest.raises(AssertionError, match="ended with 1"):
        program.answer()


def test_each_forked_process_opens_its_own(service: tuple[Path, Path], server: PostgreSQL) -> None:
    found = answers(service[1], BACKEND + FORKS, environment(server))
    assert [same for same, _ in found] == [True] * 8
    assert len({backend for _, backend in found}) == 8


def test_requests_wait_for_a_pool_that_is_exhausted(
    service: tuple[Path, Path], server: PostgreSQL
) -> None:
    with (
        serving(service[1], environment(server)) as running,
        ThreadPoolExecutor(2 * CONNECTIONS) as threads,
    ):
        with psycopg.connect(server.url) as lock:
            lock.execute("LOCK TABLE orders")
            waiting = [threads.submit(running.client.get, "/count") for _ in range(2 * CONNECTIONS)]
            while server.clients(LOCKED) < CONNECTIONS:
                assert not any(each.done() for each in waiting)
            lock.rollback()
        assert [each.result().text for each in waiting] == ["3"] * len(waiting)
