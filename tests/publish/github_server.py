"""A GitHub on loopback: its API, and real bare repositories behind ``git http-backend``."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from tests.publish.github_api import API, GitHubApi

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message
    from pathlib import Path

    from tests.publish.contract import Contract


class GitHubServer(GitHubApi):
    """The server. Use it as a context."""

    def __init__(self, folder: Path, contract: Contract) -> None:
        super().__init__(folder, contract)
        # Called once, when a push has been announced.
        self.before_push: Callable[[], object] | None = None
        handler = type("Handler", (_Handler,), {"github": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> GitHubServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def backend(
        self, method: str, target: str, token: str | None, sent: bytes, headers: Message
    ) -> tuple[int, bytes]:
        """Return the status and the whole CGI answer of ``git http-backend``."""
        parts = urlsplit(target)
        name = re.match(r"/([^/]+/[^/]+?)\.git/", parts.path)
        account = self.accounts.get(token or "")
        if account is None:
            return 401, b""
        if name is None or name[1] not in self.repositories:
            return 404, b""
        writes = "receive-pack" in target
        if writes and method == "GET" and self.before_push:
            # After the client has read the branches of the forge through the API.
            before, self.before_push = self.before_push, None
            before()
        if writes and name[1] not in account.pushes:
            return 403, b""
        done = subprocess.run(
            ["git", "http-backend"],
            input=sent,
            capture_output=True,
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(self.folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": method,
                "PATH_INFO": parts.path,
                "QUERY_STRING": parts.query,
                "CONTENT_TYPE": headers.get("Content-Type", ""),
                "GIT_PROTOCOL": headers.get("Git-Protocol", ""),
                "CONTENT_LENGTH": str(len(sent)),
                "REMOTE_USER": account.login,
            },
        )
        return 200, done.stdout


class _Handler(BaseHTTPRequestHandler):
    github: ClassVar[GitHubServer]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        sent = self._sent()
        if self.path.startswith(API):
            answer = self.github.answer(self.command, self.path, self._token(), sent)
            content = json.dumps(answer.content).encode()
            self._reply(
                answer.status, content, {"Content-Type": "application/json", **answer.headers}
            )
            return
        status, output = self.github.backend(
            self.command, self.path, self._token(), sent, self.headers
        )
        if status != 200:
            headers = {"WWW-Authenticate": 'Basic realm="GitHub"'} if status == 401 else {}
            self._reply(status, b"", headers)
            return
        head, _, content = output.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self._reply(int(headers.pop("Status", "200").split()[0]), content, headers)

    def _sent(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            sent = b""
            while size := int(self.rfile.readline(), 16):
                sent += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            return gzip.decompress(sent)
        return sent

    def _token(self) -> str | None:
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            return base64.b64decode(value).decode().partition(":")[2]
        return value or None

    def _reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass
