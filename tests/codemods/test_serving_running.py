"""Rewritten services under the servers that they name: same answers, processes, graceful ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from mega_optimizer.engine.plan import Options
from mega_optimizer.engine.planner import make_plan
from mega_optimizer.engine.resolve import child_environment
from mega_optimizer.repository.dockerfile import environment_at, parse_dockerfile
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.launch.container import start_instructions
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.scan import scan
from mega_optimizer.rules import load_rules, pick
from tests.services.environment import installed
from tests.services.programs import free_port

PACKAGES = ("flask", "gunicorn", "fastapi", "uvicorn", "httpx", "joblib")
START_UP = 60  # seconds

FLASK = """
import os
import pathlib
import time

from flask import Flask, abort, jsonify, request

app = Flask(__name__)


@app.route("/pid")
def pid():
    return str(os.getpid())


@app.route("/echo", methods=["POST"])
def echo():
    return jsonify(request.get_json()), 201


@app.route("/broken")
def broken():
    abort(418, description="short and stout")


@app.route("/slow")
def slow():
    pathlib.Path("started").touch()
    while not pathlib.Path("release").exists():
        time.sleep(0.01)
    return "done"


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]))
"""
FASTAPI = """
import os

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/pid")
async def pid() -> int:
    return os.getpid()


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]))
"""
MODEL = """
import os
import pathlib
import time

import joblib
from flask import Flask

app = Flask(__name__)
model = joblib.load("model.joblib")
loaded_by = os.getpid()


@app.get("/pid")
def pid():
    return {"of": os.getpid(), "loaded by": loaded_by, "model": model}


@app.get("/slow")
def slow():
    pathlib.Path("started").touch()
    while not pathlib.Path("release").exists():
        time.sleep(0.01)
    return "done"
"""
MIDDLEWARE = """
import json
import time

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

app = FastAPI()
seen = []


class Tag(BaseHTTPMiddleware):
    def __init__(self, app, name="tag"):
        super().__init__(app)
        self.name = name

    async def dispatch(self, request, call_next):
        request.state.tag = request.headers.get("x-tag", "none")
        response = await call_next(request)
        response.headers.append("X-Order", self.name)
        return response


@app.middleware("http")
async def refuse(request: Request, call_next):
    if request.url.path == "/public":
        return await call_next(request)
    if request.headers.get("x-key") == "wrong":
        return JSONResponse({"detail": "no"}, status_code=403)
    return await call_next(request)


@app.middleware("http")
async def log(request: Request, call_next):
    started = time.perf_counter()
    response = await call_next(request)
    seen.append((request.method, request.url.path, response.status_code))
    response.headers["X-Took"] = str(time.perf_counter() - started >= 0)
    response.headers.append("X-Order", "log")
    return response


app.add_middleware(Tag, name="outer")


@app.get("/tag")
def tag(request: Request):
    return {"tag": request.state.tag}


@app.get("/public")
def public():
    return {}


@app.get("/stream")
def stream():
    return StreamingResponse(iter([b"one", b"two"]), headers={"X-Order": "route"})


@app.get("/error")
def error():
    raise RuntimeError("on purpose")


@app.post("/body")
async def body(request: Request):
    return {"length": len(await request.body())}


@app.get("/seen")
def all_seen():
    return seen
"""
ASK = """
import json

from starlette.testclient import TestClient

from main import app

client = TestClient(app, raise_server_exceptions=False)
REQUESTS = [
    ("GET", "/tag", {"headers": {"x-tag": "blue"}}), ("GET", "/public", {}), ("GET", "/stream", {}),
    ("GET", "/tag", {"headers": {"x-key": "wrong"}}), ("GET", "/error", {}), ("GET", "/none", {}),
    ("GET", "/public", {"headers": {"x-key": "wrong"}}), ("POST", "/body", {"content": b"x" * 99}),
    ("HEAD", "/tag", {}), ("GET", "/seen", {}),
]
answers = [client.request(method, path, **options) for method, path, options in REQUESTS]
print(json.dumps([[a.status_code, a.headers.multi_items(), a.text] for a in answers]))
"""


def dockerfile(*command: str) -> str:
    return (
        "FROM python:3.12-slim\nWORKDIR /srv\nCOPY requirements.txt .\n"
        f"RUN pip install -r requirements.txt\nCOPY . .\nCMD {json.dumps(command)}\n"
    )


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the servers and frameworks into an environment of their own; give its programs."""
    return installed(tmp_path_factory.mktemp("venv"), *PACKAGES).parent


def written(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def rewritten(folder: Path, files: Mapping[str, str], rule: str) -> Path:
    """Write ``files`` as ``rule`` changes them into ``folder``."""
    before = MemoryFiles({name: text.encode() for name, text in files.items()})
    options = Options(named=frozenset({rule}), propagate_errors=True)
    plan = make_plan(before, scan(before, "example"), pick(load_rules(), [rule]), options)
    assert plan.changed()
    return written(folder, {name: plan.result.read(name).decode() for name in files})


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    process: subprocess.Popen[bytes]

    def children(self) -> set[int]:
        """Return the processes that the server has forked."""
        pid = self.process.pid
        return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@contextmanager
def started(folder: Path, programs: Path, **settings: str) -> Iterator[Server]:
    """Start what the Dockerfile in ``folder`` starts, with the variables that it sets."""
    parsed = parse_dockerfile("Dockerfile", (folder / "Dockerfile").read_bytes())
    assert not isinstance(parsed, Problem)
    _, command = start_instructions(parsed, parsed.stages[-1])
    assert command is not None
    assert command.exec_form is not None
    set_here = environment_at(parsed, parsed.stages[-1], arguments=False)
    environment = dict(child_environment(os.environ))
    environment |= {name: value for name, value in set_here.items() if value is not None}
    port = free_port()
    environment |= {"PORT": str(port), "PATH": f"{programs}:/usr/bin:/bin", **settings}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [word.text for word in command.exec_form],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(url) or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield Server(url, process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/pid", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def until(condition: object) -> None:
    """Ask again and again, for as long as a start may take."""
    assert callable(condition)
    end = time.monotonic() + START_UP
    while not condition():
        assert time.monotonic() < end, "nothing happened for too long"
        time.sleep(0.02)


def both(seen: set[str], another: str) -> set[str]:
    """Return ``seen`` with ``another`` in it."""
    seen.add(another)
    return seen


def told(url: str) -> list[tuple[int, str, str]]:
    """Return what a few requests are answered, the name of the server left out."""
    with httpx.Client(base_url=url, timeout=30) as client:
        found = [
            client.post("/echo", json={"a": [1, None]}),
            client.post("/echo", content=b"{"),
            client.get("/broken"),
            client.get("/missing"),
            client.head("/pid"),
            client.request("OPTIONS", "/echo"),
        ]
    return [(each.status_code, each.headers["content-type"], each.text) for each in found]


@pytest.fixture
def flask_files() -> dict[str, str]:
    return {
        "Dockerfile": dockerfile("python", "main.py"),
        "requirements.txt": "flask\n",
        "main.py": FLASK,
    }


def test_flask_answers_alike_under_gunicorn(
    programs: Path, tmp_path: Path, flask_files: dict[str, str]
) -> None:
    before = written(tmp_path / "before", flask_files)
    after = rewritten(tmp_path / "after", flask_files, "serving/production-server")
    with started(before, programs) as server:
        expected = told(server.url)
        assert "Werkzeug" in httpx.get(f"{server.url}/pid").headers["server"]
    with started(after, programs) as server:
        assert told(server.url) == expected
        assert "gunicorn" in httpx.get(f"{server.url}/pid").headers["server"]
        assert "WEB_CONCURRENCY=2" in (after / "Dockerfile").read_text()
        until(lambda: len(server.children()) == 2)


def test_gunicorn_ends_a_request_in_flight(
    programs: Path, tmp_path: Path, flask_files: dict[str, str]
) -> None:
    folder = rewritten(tmp_path / "after", flask_files, "serving/production-server")
    with started(folder, programs) as server, ThreadPoolExecutor() as pool:
        answer = pool.submit(httpx.get, f"{server.url}/slow", timeout=60)
        until((folder / "started").exists)
        os.kill(server.process.pid, signal.SIGTERM)
        (folder / "release").touch()
        assert answer.result().text == "done"
        assert server.process.wait(timeout=60) == 0


def test_eight_processes_answer(
    programs: Path, tmp_path: Path, flask_files: dict[str, str]
) -> None:
    folder = rewritten(tmp_path / "after", flask_files, "serving/production-server")
    with started(folder, programs, WEB_CONCURRENCY="8") as server, ThreadPoolExecutor(16) as pool:
        until(lambda: len(server.children()) == 8)
        seen: set[str] = set()

        def asked() -> bool:
            answers = pool.map(lambda _: httpx.get(f"{server.url}/pid", timeout=30), range(32))
            seen.update(answer.raise_for_status().text for answer in answers)
            # Which process takes a connection is the kernel's choice; one may take many.
            return len(seen) > 1

        until(asked)
        assert {int(each) for each in seen} <= server.children()


def test_eight_processes_share_a_model_and_end_their_requests(
    programs: Path, tmp_path: Path
) -> None:
    files = {
        "Dockerfile": dockerfile("gunicorn", "--workers", "8", "main:app"),
        "requirements.txt": "flask\ngunicorn\njoblib\n",
        "main.py": MODEL,
    }
    folder = rewritten(tmp_path / "after", files, "serving/preload")
    make = "import joblib; joblib.dump([1, 2], 'model.joblib')"
    subprocess.run([programs / "python", "-c", make], cwd=folder, check=True)
    with started(folder, programs) as server, ThreadPoolExecutor() as pool:
        until(lambda: len(server.children()) == 8)
        for _ in range(16):
            told = httpx.get(f"{server.url}/pid").json()
            assert told["of"] in server.children()
            assert (told["loaded by"], told["model"]) == (server.process.pid, [1, 2])
        answer = pool.submit(httpx.get, f"{server.url}/slow", timeout=60)
        until((folder / "started").exists)
        os.kill(server.process.pid, signal.SIGTERM)
        (folder / "release").touch()
        assert answer.result().text == "done"
        assert server.process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    "command", [("uvicorn", "main:app"), ("python", "main.py")], ids=["command", "program"]
)
def test_uvicorn_serves_with_two_processes(
    programs: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    files = {
        "Dockerfile": dockerfile(*command),
        "requirements.txt": "fastapi\nuvicorn\n",
        "main.py": FASTAPI if command[0] == "python" else FASTAPI.split("\n\nif __name__")[0],
    }
    folder = rewritten(tmp_path / "after", files, "serving/workers")
    if command[0] == "uvicorn":
        text = (folder / "Dockerfile").read_text()
        started_by_shell = re.sub(
            r"CMD \[.*\]", 'CMD ["sh", "-c", "exec uvicorn main:app --port $PORT"]', text
        )
        (folder / "Dockerfile").write_text(started_by_shell)
    seen: set[str] = set()
    with started(folder, programs) as server:
        until(lambda: len(both(seen, httpx.get(f"{server.url}/pid").text)) == 2)
        os.kill(server.process.pid, signal.SIGTERM)
        server.process.wait(timeout=60)
    assert str(server.process.pid) not in seen


def test_pure_middleware_answers_alike(programs: Path, tmp_path: Path) -> None:
    files = {"requirements.txt": "fastapi\n", "main.py": MIDDLEWARE}
    before = written(tmp_path / "before", {**files, "ask.py": ASK})
    after = rewritten(tmp_path / "after", files, "serving/asgi-middleware")
    (after / "ask.py").write_text(ASK)
    assert "BaseHTTPMiddleware" not in (after / "main.py").read_text()
    assert ".middleware(" not in (after / "main.py").read_text()
    told_by = [
        subprocess.run(
            [programs / "python", "ask.py"], cwd=folder, capture_output=True, text=True, check=False
        )
        for folder in (before, after)
    ]
    assert told_by[0].returncode == 0, told_by[0].stderr
    assert json.loads(told_by[1].stdout) == json.loads(told_by[0].stdout)
