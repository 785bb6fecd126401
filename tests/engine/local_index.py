"""A package index on loopback, with tiny wheels, for tests that run the real uv."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from mega_optimizer.engine.resolve import Resolver


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def add_wheel(
    index: Path,
    name: str,
    version: str,
    requires: Sequence[str] = (),
    module: str = "",
    python: str = "",
) -> Path:
    """Write a wheel with one ``module`` into the simple index and return its path."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    lines += [f"Requires-Python: {python}"] if python else []
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.py", module)
        wheel.writestr(f"{info}/RECORD", "")
    return path


@contextmanager
def serve(index: Path) -> Iterator[str]:
    """Serve the folder ``index`` and yield the address of the simple index."""
    index.mkdir(parents=True, exist_ok=True)
    handler = partial(_Quiet, directory=str(index))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def resolver(home: Path, address: str) -> Resolver:
    """Return a resolver that knows the index at ``address`` only, and keeps its cache in home."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_CONFIG_FILE": os.devnull}
    environment |= {"UV_CACHE_DIR": str(home / "uv"), "UV_DEFAULT_INDEX": address}
    return Resolver(environment=environment)
