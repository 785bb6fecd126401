"""Services with pooled connections against a real PostgreSQL: the same answers, and no leak."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from tests.services.postgres import PostgreSQL, postgresql
from tests.services.rewritten import Program, answers, written
from tests.services.serving import serving

RULE = "database/connection-pool"
SCHEMA = """
import psycopg2
with psycopg2.connect("") as setup, setup.cursor() as cursor:
    cursor.execute("DROP TABLE IF EXISTS users, orders")
    cursor.execute("CREATE TABLE users (name text PRIMARY KEY, backend int)")
    cursor.execute("CREATE TABLE orders (id int PRIMARY KEY, total int NOT NULL)")
    cursor.execute("INSERT INTO users VALUES ('ada', 1)")
    cursor.execute("INSERT INTO orders VALUES (1, 10), (2, 20)")
setup.close()
def shown(value):
    print(json.dumps(value), flush=True)
def connected():
    with psycopg2.connect("") as other, other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres'")
        number = cursor.fetchone()[0] - 1
    other.close()
    return number
"""
BACKEND = """
from app.users import store
def backend():
    with store.get_connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql(max_connections=60) as running:
        yield running


def environment(server: PostgreSQL, **more: str) -> dict[str, str]:
    given = {"PGPORT": str(server.port), "PGUSER": "test", "PGDATABASE": "postgres"}
    given |= {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_DB": "postgres", "PGHOST": "127.0.0.1"}
    return {
        **given,
        "DB_HOST": "127.0.0.1",
        "DB_NAME": "postgres",
        "DATABASE_URL": server.url,
        **more,
    }


def test_transactions_end_as_before(server: PostgreSQL, tmp_path: Path) -> None:
    source = (
        SCHEMA
        + """
from app.users import store
def insert(name, fail):
    try:
        with store.get_connection() as conn, conn.cursor() as cursor:
            cursor.execute("INSERT INTO users VALUES (%s, 0)", (name,))
            if fail:
                raise KeyError(name)
    except (KeyError, psycopg2.Error) as error:
        return type(error).__name__
shown(dict(store.user("ada")))
shown(store.user("bob"))
shown(insert("bob", False))
shown(insert("bob", False))
shown(insert("eve", True))
shown([dict(store.user("bob")), store.user("eve")])
"""
    )
    before, after = written(RULE, "method", tmp_path)
    expected = answers(before, source, environment(server))
    assert answers(after, source, environment(server)) == expected
    assert expected[2:5] == [None, "UniqueViolation", "KeyError"]


def test_connections_are_shared_and_come_back(server: PostgreSQL, tmp_path: Path) -> None:
    source = (
        SCHEMA
        + BACKEND
        + """
def fail():
    try:
        with store.get_connection() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
    except psycopg2.Error:
        pass
shown(len({backend() for _ in range(20)}))
for _ in range(100):
    fail()
shown(connected())
shown(len(store._pool._used) if hasattr(store, "_pool") else 0)
"""
    )
    before, after = written(RULE, "method", tmp_path)
    settings = environment(server, DB_POOL_SIZE="3")
    assert answers(before, source, settings)[0] == 20
    assert answers(after, source, settings) == [1, 3, 0]


def test_a_restarted_database_is_noticed_before_use(server: PostgreSQL, tmp_path: Path) -> None:
    source = (
        SCHEMA
        + BACKEND
        + """
shown(backend() > 0)
sys.stdin.readline()
shown([backend() > 0 for _ in range(8)])
"""
    )
    _, after = written(RULE, "method", tmp_path)
    program = Program(after, source, environment(server))
    assert program.answer() is True
    server.restart()
    program.go_on()
    assert program.answer() == [True] * 8
    program.end()


def test_as_many_threads_as_starlette_has_are_served(server: PostgreSQL, tmp_path: Path) -> None:
    source = (
        SCHEMA
        + """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from app.users import store
together = Barrier(40)
def use(_):
    with store.get_connection() as conn, conn.cursor() as cursor:
        together.wait(60)
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]
with ThreadPoolExecutor(40) as threads:
    shown(sum(threads.map(use, range(40))))
shown(connected())
"""
    )
    _, after = written(RULE, "method", tmp_path)
    assert answers(after, source, environment(server)) == [40, 5]


def test_each_forked_process_opens_its_own(server: PostgreSQL, tmp_path: Path) -> None:
    source = (
        SCHEMA
        + BACKEND
        + """
import os
for _ in range(8):
    if os.fork() == 0:
        line = json.dumps([backend() == backend(), backend()])
        os.write(1, f"{line}\\n".encode())  # at once, other than print
        os._exit(0)
for _ in range(8):
    os.wait()
"""
    )
    _, after = written(RULE, "method", tmp_path)
    found = answers(after, source, environment(server, DB_POOL_SIZE="1"))
    assert [same for same, _ in found] == [True] * 8
    assert len({backend for _, backend in found}) == 8


ROUTES = """
from fastapi.testclient import TestClient
from app.main import app
with TestClient(app, raise_server_exceptions=False) as client:
    for number in (1, 2, 3, 99999999999):
        answer = client.get(f"/orders/{number}")
        shown([answer.status_code, answer.text])
"""


@pytest.mark.parametrize("example", ["dependency", "psycopg3", "psycopg3-function"])
def test_routes_answer_as_before(server: PostgreSQL, tmp_path: Path, example: str) -> None:
    before, after = written(RULE, example, tmp_path)
    expected = answers(before, SCHEMA + ROUTES, environment(server))
    assert answers(after, SCHEMA + ROUTES, environment(server)) == expected
    assert [status for status, _ in expected] == [200, 200, 200, 200]


@pytest.mark.parametrize("example", ["flask-function", "straight"])
def test_views_answer_as_before(server: PostgreSQL, tmp_path: Path, example: str) -> None:
    source = (
        SCHEMA
        + """
from app import app
client = app.test_client()
shown(client.get("/orders").get_json())
shown(client.delete("/orders/1").status_code)
shown(client.delete("/orders/99999999999").status_code)
shown(client.get("/orders").get_json())
"""
    )
    before, after = written(RULE, example, tmp_path)
    expected = answers(before, source, environment(server))
    assert answers(after, source, environment(server)) == expected
    assert expected[-1] == [[2, 20]]


def test_a_connection_that_was_closed_at_the_end_comes_back_after_errors(
    server: PostgreSQL, tmp_path: Path
) -> None:
    source = (
        SCHEMA
        + """
import app
client = app.app.test_client()
with psycopg2.connect("") as conn, conn.cursor() as cursor:
    cursor.execute("DROP TABLE orders")
conn.close()
shown({client.delete("/orders/1").status_code for _ in range(50)} == {500})
shown([len(app._pool()._used), connected()])
"""
    )
    _, after = written(RULE, "straight", tmp_path)
    found = answers(after, source, environment(server, DB_POOL_SIZE="2"))
    assert found == [True, [0, 2]]


def test_an_exhausted_pool_of_psycopg_waits(server: PostgreSQL, tmp_path: Path) -> None:
    source = (
        SCHEMA
        + """
from concurrent.futures import ThreadPoolExecutor
from app.main import connection
def use(_):
    with connection() as conn:
        return conn.execute("SELECT pg_backend_pid() FROM pg_sleep(0.05)").fetchone()[0]
with ThreadPoolExecutor(12) as threads:
    shown(len(set(threads.map(use, range(24)))) <= 2)
"""
    )
    _, after = written(RULE, "psycopg3-function", tmp_path)
    assert answers(after, source, environment(server, DB_POOL_SIZE="2")) == [True]


@pytest.mark.parametrize("example", ["dependency", "psycopg3"])
def test_requests_in_flight_end_before_the_process(
    server: PostgreSQL, tmp_path: Path, example: str
) -> None:
    _, after = written(RULE, example, tmp_path)
    answers(after, SCHEMA, environment(server))
    with serving(after, environment(server)) as service, ThreadPoolExecutor(1) as threads:
        with psycopg.connect(server.url) as lock:
            lock.execute("LOCK TABLE orders")
            answer = threads.submit(service.client.get, "/orders/1")
            while not server.clients("wait_event_type = 'Lock'"):
                assert not answer.done()
            service.process.terminate()
            service.await_log("Shutting down")
            lock.rollback()
        assert answer.result().status_code == 200
        assert "Traceback" not in service.stop()
