"""What a service asks: a server on the loopback interface that counts, and can be held."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Upstream:
    """Its ``calls`` are paths and bodies; while ``gate`` is closed, it answers nobody."""

    port: int
    status: int = 200
    patience: float = 120  # seconds; a loaded machine takes a few
    calls: list[tuple[str, object]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def await_call(self) -> None:
        """Return when one more call has arrived."""
        assert self.arrived.acquire(timeout=self.patience), "nobody asked"

    def fresh(self) -> None:
        """Forget what was asked, and answer as at first."""
        self.status = 200
        self.calls.clear()
        self.gate.set()
        while self.arrived.acquire(blocking=False):
            pass


@contextmanager
def upstream(answer: object = None) -> Iterator[Upstream]:
    """Answer every call with ``answer`` as JSON; without one, with its path and number."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            about.calls.append((self.path, json.loads(sent) if sent else None))
            said = answer or {"path": self.path, "call": len(about.calls)}
            body = json.dumps(said).encode()
            about.arrived.release()
            about.gate.wait(about.patience)
            with suppress(OSError):  # who asked may be gone
                self.send_response(about.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_POST = respond

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    about = Upstream(server.server_port)
    about.gate.set()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield about
    finally:
        about.gate.set()
        server.shutdown()
        server.server_close()
