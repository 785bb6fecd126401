"""What the sample services ask outside of their compose file: metrics, the cluster, a market."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NODES = [{"name": "node-1", "ready": True, "pods": ["a", "b"]}]
METRIC = {"data": {"result": [{"value": [0, "0.75"]}]}}
VOLUMES = {"volumes": [900.0, 950.0, 1000.0, 1080.0, 1150.0, 1200.0, 1290.0]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/volumes/btc"):
            self._answer(200, VOLUMES)
        elif self.path.startswith("/volumes/"):
            self._answer(404, {})
        else:
            self._answer(200, NODES if self.path == "/nodes" else METRIC)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(500 if "flaky" in self.path else 200, {})

    def _answer(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests clean."""


@contextmanager
def upstream() -> Iterator[int]:
    """Serve on the loopback interface; give the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
