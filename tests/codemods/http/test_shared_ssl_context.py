"""The context that is shared trusts what a client of its own would have trusted."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.finding import Fix, apply_edits
from mega_optimizer.codemods.http.shared_ssl_context import find
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.service import Service

SOURCE = b"""import httpx


def route(path):
    return lambda function: function


@route("/up")
def up():
    with httpx.Client(timeout=5) as client:
        return client


@route("/down")
async def down():
    async with httpx.AsyncClient() as client:
        return client
"""


@pytest.fixture
def rewritten() -> dict[str, Any]:
    context = Context(Service("s", "", modules=("m.py",)), MemoryFiles({"m.py": SOURCE}))
    (fix,) = find(context)
    assert isinstance(fix, Fix)
    edits = fix.edits() if callable(fix.edits) else fix.edits
    assert isinstance(edits, tuple)
    names: dict[str, Any] = {}
    exec(apply_edits(SOURCE, edits), names)
    return names


def context_of(client: httpx.Client | httpx.AsyncClient) -> ssl.SSLContext:
    context = vars(client._transport)["_pool"]._ssl_context
    assert isinstance(context, ssl.SSLContext)
    return context


def test_all_clients_share_one_context(rewritten: dict[str, Any]) -> None:
    assert context_of(rewritten["up"]()) is context_of(rewritten["up"]())
    awaited = asyncio.run(rewritten["down"]())
    assert context_of(awaited) is context_of(rewritten["up"]())


def test_it_is_as_strict_and_trusts_the_same_certificates(rewritten: dict[str, Any]) -> None:
    own, shared = context_of(httpx.Client()), context_of(rewritten["up"]())
    assert shared.verify_mode == own.verify_mode == ssl.CERT_REQUIRED
    assert shared.check_hostname
    assert shared.get_ca_certs() == own.get_ca_certs()
    assert shared.get_ca_certs()


def test_the_certificates_of_the_environment_count_at_the_first_request(
    rewritten: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    everything = Path(certifi.where()).read_text(encoding="ascii", errors="ignore")
    end = "-----END CERTIFICATE-----\n"
    one = everything[everything.index("-----BEGIN") : everything.index(end) + len(end)]
    (tmp_path / "one.pem").write_text(one)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "one.pem"))
    assert len(context_of(rewritten["up"]()).get_ca_certs()) == 1
