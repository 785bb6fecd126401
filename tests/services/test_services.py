"""The servers that other tests rely on start, answer, restart and go."""

from __future__ import annotations

import socket
import subprocess

import pytest

from tests.services.postgres import postgresql
from tests.services.programs import require
from tests.services.redis import redis_server


def test_postgresql_answers_restarts_and_goes() -> None:
    (client,) = require("psql")
    with postgresql(max_connections=7) as server:
        for _ in range(2):
            shown = subprocess.run(
                [client, server.url, "-Atc", "SHOW max_connections"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert shown.strip() == "7"
            server.restart()
    assert not server.folder.exists()


def test_redis_answers_restarts_and_goes() -> None:
    with redis_server("--maxclients", "50") as server:
        server.restart()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"CONFIG GET maxclients\r\n")
            assert b"50" in connection.recv(200)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))
