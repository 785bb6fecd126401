"""A stand-in of the package index on the loopback, which answers as the public one does.

What the builds reach here is a mirror without two things that images in the field show: the headers
that let pip keep what it fetched (in an image, they are what ``--no-cache-dir`` is for), and the
description of a release as JSON, which Poetry asks for. A server of this machine takes the names of
the index, passes on what the mirror answers, and adds both. PyTorch's own index is not reached at
all; of it the server gives the wheels that lie in a folder of this machine.

Builds come to it by a hosts file and a certificate of its own, mounted as pip's configuration is.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import ssl
import subprocess
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from functools import cache
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mega_optimizer.codemods.containers.cpu_torch import INDEX
from tests.bases.available import CERTIFICATES

# The loopback has many addresses: each run takes one whose port is free.
_ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 100))
_PAGES = "application/vnd.pypi.simple.v1+json"
_RELEASE = re.compile(r"/pypi/([^/]+)/([^/]+)/json")
_WHEELS = re.compile(r"/whl/cpu/([^/]+)/")
# What the public index says of files, whose content never changes, and of its pages.
_FILE_FOREVER = "max-age=365000000, immutable, public"
_PAGE_SHORTLY = "max-age=600, public"
_PASSED_ON = ("Accept", "Range")
_GIVEN_BACK = ("Content-Type", "Content-Length", "Content-Range", "Accept-Ranges")
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Names:
    """The hosts that are stood in for: of the index, of its files, and of PyTorch's wheels."""

    index: str
    files: str
    torch: str


@contextmanager
def index_stand_in(wheels: Path | None, names: Names | None = None) -> Iterator[dict[str, str]]:
    """Serve until the context is left; yield the files that builds mount, by where they do.

    ``wheels`` is a folder with wheels for PyTorch's index, ``names`` are the hosts to stand in for:
    those that pip asks, where none are given.
    """
    names = names or _names()
    with tempfile.TemporaryDirectory(prefix="index-stand-in-") as name:
        folder = Path(name)
        _certify(folder, (names.index, names.files, names.torch))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        server = _server(names, wheels)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        trusted = folder / "trusted.pem"
        known = Path(os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or "")
        trusted.write_bytes(known.read_bytes() + (folder / "ca.pem").read_bytes())
        hosts = folder / "hosts"
        all_names = " ".join((names.index, names.files, names.torch))
        hosts.write_text(f"127.0.0.1 localhost\n{server.address} {all_names}\n")
        try:
            yield {"/etc/hosts": str(hosts), CERTIFICATES: str(trusted)}
        finally:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str, names: Names, wheels: Path | None) -> None:
        super().__init__((address, 443), _Handler)
        self.address = address
        self.names = names
        self.wheels = wheels

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no news."""


def _server(names: Names, wheels: Path | None) -> _Server:
    for address in _ADDRESSES:
        with suppress(OSError):
            return _Server(address, names, wheels)
    raise RuntimeError("no address of the loopback has its port 443 free")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        names, host = self.server.names, self.headers.get("Host", "").partition(":")[0]
        if host == names.torch:
            self._torch()
        elif host == names.index and (release := _RELEASE.fullmatch(self.path)):
            self._describe(names.index, *map(unquote, release.groups()))
        elif host in (names.index, names.files):
            self._pass_on(f"https://{host}{self.path}", is_file=host == names.files)
        else:
            self._give(404, b"", "text/plain")

    def _pass_on(self, url: str, is_file: bool) -> None:
        headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        request = urllib.request.Request(url, headers=headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                if is_file:
                    self._stream(answer.status, answer)
                else:
                    kind = answer.headers.get("Content-Type", "text/html")
                    self._give(answer.status, answer.read(), kind)
        except urllib.error.HTTPError as error:
            self._give(error.code, b"", "text/plain")
        except OSError:
            self._give(502, b"", "text/plain")

    def _stream(self, status: int, answer: HTTPResponse) -> None:
        self.send_response(status)
        for name in _GIVEN_BACK:
            if answer.headers.get(name):
                self.send_header(name, answer.headers[name])
        self.send_header("Cache-Control", _FILE_FOREVER)
        self.end_headers()
        if self.command == "GET":
            shutil.copyfileobj(answer, self.wfile, _PIECE)

    def _give(self, status: int, content: bytes, kind: str, lasting: str = _PAGE_SHORTLY) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if status == 200:
            self.send_header("Cache-Control", lasting)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()[:32]}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _torch(self) -> None:
        """List the wheels of a project, or give one of them."""
        wanted = _WHEELS.fullmatch(self.path)
        folder = self.server.wheels
        if folder is None:
            self._give(404, b"", "text/plain")
        elif wanted:
            name = wanted[1].replace("-", "_")
            found = sorted(path.name for path in folder.glob(f"{name}-*.whl"))
            links = "".join(f'<a href="/whl/cpu/{each}">{each}</a>\n' for each in found)
            page = f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode()
            self._give(200 if found else 404, page if found else b"", "text/html")
        else:
            path = folder / unquote(self.path).rpartition("/")[2]
            if path.suffix == ".whl" and path.is_file():
                self._give(200, path.read_bytes(), "application/zip", _FILE_FOREVER)
            else:
                self._give(404, b"", "text/plain")

    def _describe(self, index: str, name: str, version: str) -> None:
        try:
            told = described(index, name, version)
        except (OSError, zipfile.BadZipFile, tarfile.TarError):
            told = None
        content = json.dumps(told).encode() if told else b""
        self._give(200 if told else 404, content, "application/json")


@cache
def described(index: str, name: str, version: str) -> Mapping[str, Any] | None:
    """Return what the JSON of a release says, read from its files; None where there are none."""
    request = urllib.request.Request(f"https://{index}/simple/{name}/", headers={"Accept": _PAGES})
    with urllib.request.urlopen(request, timeout=120) as answer:
        listed = json.load(answer)["files"]
    files = [each for each in listed if _version_of(each["filename"], name) == version]
    if not files:
        return None
    wheels = [each for each in files if each["filename"].endswith(".whl")]
    about = _metadata(min(wheels or files, key=lambda each: int(each.get("size") or 0)))
    return {
        "info": {
            "name": about["Name"] or name,
            "version": version,
            "summary": about["Summary"] or "",
            "platform": "",
            "requires_dist": about.get_all("Requires-Dist"),
            "requires_python": about["Requires-Python"],
            "yanked": False,
        },
        "urls": [_file(each) for each in files],
    }


def _file(listed: Mapping[str, Any]) -> Mapping[str, Any]:
    is_wheel = listed["filename"].endswith(".whl")
    return {
        "filename": listed["filename"],
        "packagetype": "bdist_wheel" if is_wheel else "sdist",
        "url": listed["url"],
        "digests": dict(listed["hashes"]),
        "size": listed.get("size"),
        "requires_python": listed.get("requires-python"),
        "yanked": bool(listed.get("yanked")),
    }


def _version_of(filename: str, name: str) -> str | None:
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )
    from packaging.version import InvalidVersion

    try:
        if filename.endswith(".whl"):
            return str(parse_wheel_filename(filename)[1])
        return str(parse_sdist_filename(filename)[1])
    except (InvalidSdistFilename, InvalidWheelFilename, InvalidVersion):
        return None


def _metadata(listed: Mapping[str, Any]) -> Message:
    with urllib.request.urlopen(listed["url"], timeout=120) as answer:
        content = io.BytesIO(answer.read())
    if listed["filename"].endswith(".whl"):
        with zipfile.ZipFile(content) as wheel:
            names = wheel.namelist()
            path = next(each for each in names if each.endswith(".dist-info/METADATA"))
            return BytesParser().parsebytes(wheel.read(path))
    with tarfile.open(fileobj=content) as archive:
        members = [each for each in archive.getmembers() if each.name.endswith("/PKG-INFO")]
        stream = archive.extractfile(min(members, key=lambda each: each.name.count("/")))
        return BytesParser().parsebytes(stream.read() if stream else b"")


def _names() -> Names:
    """Return the hosts of pip's own index, of the files that it links to, and of PyTorch's."""
    from pip._internal.models.index import PyPI

    request = urllib.request.Request(f"{PyPI.simple_url}/pip/", headers={"Accept": _PAGES})
    with urllib.request.urlopen(request, timeout=120) as answer:
        files = json.load(answer)["files"][0]["url"]
    hosts = [urlsplit(url).hostname or "" for url in (PyPI.simple_url, files, INDEX)]
    return Names(*hosts)


def _certify(folder: Path, names: Sequence[str]) -> None:
    """Make an authority for this run, and its certificate for ``names``."""
    alternatives = ",".join(f"DNS:{name}" for name in names)
    extensions = folder / "extensions"
    extensions.write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\n")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    authority = ("-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=index stand-in", "-days", "7")
    request = ("-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=index")
    issuer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "7")
    signed = ("-in", "server.csr", "-out", "server.pem", "-extfile", "extensions")
    for command in (
        ("req", "-x509", *new_key, *authority, "-addext", "keyUsage=keyCertSign"),
        ("req", *new_key, *request),
        ("x509", "-req", *issuer, *signed),
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
