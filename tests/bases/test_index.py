"""The stand-in of the package index that builds of the image benchmark reach."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from pathlib import Path

import pytest

from benchmarks.images.index import Names, index_stand_in
from tests.bases.available import CERTIFICATES

NAMES = Names("index.example", "files.example", "torch.example")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="port 443 is for root")


def _get(mounted: dict[str, str], name: str, path: str) -> tuple[int, str | None, bytes]:
    """Ask as a build would: by the hosts file, trusting the mounted certificates alone."""
    lines = Path(mounted["/etc/hosts"]).read_text().splitlines()
    address = next(line.split()[0] for line in lines if name in line.split()[1:])
    trust = ssl.create_default_context(cafile=mounted[CERTIFICATES])
    with (
        socket.create_connection((address, 443), timeout=60) as plain,
        trust.wrap_socket(plain, server_hostname=name) as stream,
    ):
        request = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
        stream.sendall(request.encode())
        answer = http.client.HTTPResponse(stream)
        answer.begin()
        return answer.status, answer.headers["Cache-Control"], answer.read()


def test_wheels_of_a_folder_are_listed_and_may_be_kept(tmp_path: Path) -> None:
    wheel = "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"
    (tmp_path / wheel).write_bytes(b"a wheel")
    with index_stand_in(tmp_path, NAMES) as mounted:
        status, _, page = _get(mounted, NAMES.torch, "/whl/cpu/torch/")
        assert (status, wheel.encode() in page) == (200, True)
        status, kept, content = _get(mounted, NAMES.torch, f"/whl/cpu/{wheel}")
        assert (status, content) == (200, b"a wheel")
        assert kept is not None
        assert "immutable" in kept


def test_what_the_folder_lacks_is_not_found(tmp_path: Path) -> None:
    with index_stand_in(tmp_path, NAMES) as mounted:
        assert _get(mounted, NAMES.torch, "/whl/cpu/numpy/")[0] == 404
        assert _get(mounted, NAMES.torch, "/whl/cpu/../../etc/passwd")[0] == 404


def test_two_run_at_a_time(tmp_path: Path) -> None:
    with index_stand_in(tmp_path, NAMES) as one, index_stand_in(tmp_path, NAMES) as other:
        first, second = (Path(each["/etc/hosts"]).read_text() for each in (one, other))
        assert first != second
