"""Sessions that await: a real PostgreSQL, real Uvicorn, and the same answers as before."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.services.postgres import PostgreSQL, postgresql
from tests.services.rewritten import written
from tests.services.serving import Serving, serving

RULE = "database/async-database"
TABLE = """
CREATE TABLE items (
    id serial PRIMARY KEY, name text UNIQUE NOT NULL, stock integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT '2026-11-24T12:00:00Z'
)
"""
LOCKED = "wait_event_type = 'Lock'"
CONNECTIONS = 15  # a pool of 5, and 10 more
REQUESTS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/items", None),
    ("POST", "/items", {"name": "pen", "stock": 3}),
    ("POST", "/items", {"name": "pen"}),
    ("POST", "/items", {"name": "book"}),
    ("GET", "/items?limit=1", None),
    ("GET", "/items/1", None),
    ("GET", "/items/99", None),
    ("DELETE", "/items/1", None),
    ("DELETE", "/items/1", None),
    ("GET", "/items", None),
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql(max_connections=30) as running:
        yield running


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return written(RULE, "shop", tmp_path_factory.mktemp("shop"))


def running(folder: Path, server: PostgreSQL) -> AbstractContextManager[Serving]:
    """Serve a shop whose table is new."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS items")
        connection.execute(TABLE)
    url = server.url.replace("postgresql:", "postgresql+psycopg:")
    return serving(folder, {"DATABASE_URL": url})


def test_answers_are_the_same(shop: tuple[Path, Path], server: PostgreSQL) -> None:
    found = []
    for folder in shop:
        with running(folder, server) as service:
            answers = [
                service.client.request(method, path, json=body) for method, path, body in REQUESTS
            ]
            found.append([(each.status_code, each.content) for each in answers])
    assert found[0] == found[1]
    assert [status for status, _ in found[1]] == [200, 201, 409, 201, 200, 200, 404, 204, 204, 200]


def test_others_are_answered_while_the_database_is_slow(
    shop: tuple[Path, Path], server: PostgreSQL
) -> None:
    with running(shop[1], server) as service, ThreadPoolExecutor(2 * CONNECTIONS) as threads:
        with psycopg.connect(server.url) as lock:
            lock.execute("LOCK TABLE items")
            waiting = [threads.submit(service.client.get, "/items") for _ in range(2 * CONNECTIONS)]
            while server.clients(LOCKED) < CONNECTIONS:
                assert not any(each.done() for each in waiting)
            # All connections are taken, and half of the requests wait for one.
            assert service.client.get("/openapi.json").status_code == 200
            lock.rollback()
        assert [each.result().status_code for each in waiting] == [200] * len(waiting)


def test_a_restart_of_the_database_is_survived_and_connections_are_closed_at_the_end(
    shop: tuple[Path, Path], server: PostgreSQL
) -> None:
    with running(shop[1], server) as service:
        assert service.client.post("/items", json={"name": "pen"}).status_code == 201
        server.restart()
        assert service.client.get("/items").json() == [{"id": 1, "name": "pen", "stock": 0}]
        assert server.clients() == 1
    while server.clients():
        pass
    since = (server.folder / "log").read_text().rpartition("ready to accept connections")[2]
    assert "unexpected EOF" not in since


def test_clients_that_leave_keep_no_connection(shop: tuple[Path, Path], server: PostgreSQL) -> None:
    with running(shop[1], server) as service:
        address = ("127.0.0.1", service.port)
        with psycopg.connect(server.url) as lock:
            lock.execute("LOCK TABLE items")
            leaving = [socket.create_connection(address) for _ in range(CONNECTIONS)]
            for each in leaving:
                each.sendall(b"GET /items HTTP/1.1\r\nHost: shop\r\n\r\n")
            while server.clients(LOCKED) < CONNECTIONS:
                assert service.process.poll() is None
            for each in leaving:
                each.close()
            lock.rollback()
        assert service.client.get("/items").status_code == 200
        while server.clients("state <> 'idle'"):
            pass


def test_requests_in_flight_end_before_the_pool_is_closed(
    shop: tuple[Path, Path], server: PostgreSQL
) -> None:
    with running(shop[1], server) as service, ThreadPoolExecutor(1) as threads:
        with psycopg.connect(server.url) as lock:
            lock.execute("LOCK TABLE items")
            answer = threads.submit(service.client.get, "/items")
            while not server.clients(LOCKED):
                assert not answer.done()
            service.process.terminate()
            service.await_log("Shutting down")
            lock.rollback()
        assert answer.result().status_code == 200
        assert "Traceback" not in service.stop()
