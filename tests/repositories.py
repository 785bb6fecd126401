"""Small targets in real git repositories, and the installed command line to run on them."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

COMMAND = str(Path(sys.executable).with_name("mega-optimize"))
DOCKERFILE = """\
FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt
COPY . .
CMD ["uvicorn", "main:app", "--host", "0.0.0.0"]
"""
FIXED_RUN = "RUN pip install --no-cache-dir -r requirements.txt\n"
SERVICE = {
    "Dockerfile": DOCKERFILE,
    ".dockerignore": ".git\n**/__pycache__\n.venv\n",
    "requirements.txt": "fastapi==0.115.0\nuvicorn==0.30.0\nsqlalchemy==2.0.30\n",
    "main.py": """\
from fastapi import FastAPI
from sqlalchemy import create_engine, text

app = FastAPI()


@app.get("/items")
def items():
    engine = create_engine("postgresql://db/items")
    with engine.connect() as connection:
        return [row.id for row in connection.execute(text("select id from items"))]
""",
}
# What a run of the safe rules changes in SERVICE.
CHANGED = {"Dockerfile", "main.py", "requirements.txt"}


def below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{path}": content for path, content in files.items()}


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)


def git(folder: Path, *arguments: str) -> str:
    """Run git as the owner of the repository would, with nothing of this machine's settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def committed(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Make ``root`` a git repository in which ``files`` are committed."""
    root.mkdir(parents=True, exist_ok=True)
    write(root, files)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def changed(root: Path) -> set[str]:
    """Return the paths that differ from the last commit, new files included."""
    status = git(root, "status", "--porcelain", "--untracked-files=all", "--no-renames")
    return {line[3:] for line in status.splitlines()}


def mega_optimize(
    *arguments: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    limits: bool = False,
    status: int | None = None,
    command: tuple[str, ...] = (COMMAND,),
    offline: bool = True,
    stdout: int | IO[str] = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run the command line; it never shows a traceback, whatever it is given.

    With ``limits`` root, too, is held to the permissions of files.
    """
    asks_no_index = arguments[:1] in (("rules",), ("explain",), ("config",), ("hook",))
    option = ["--offline"] if offline and not asks_no_index else []
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        [*command, *map(str, arguments), *option],
        cwd=cwd,
        env={**inherited, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=give_up_override if limits else None,
        timeout=60,
        encoding="utf-8",
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert status is None or done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def result_of(
    root: Path,
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    limits: bool = False,
    status: int | None = None,
) -> dict[str, Any]:
    """Return the JSON result of a run on ``root``."""
    given = arguments if "--sizes" in arguments else (*arguments, "--sizes", "off")
    done = mega_optimize(
        *(root, "--format", "json", *given), environment=environment, limits=limits, status=status
    )
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def statuses(result: Mapping[str, Any], path: str) -> set[tuple[str, str, str | None]]:
    """Return (rule, status, code) of the findings in ``path``."""
    return {
        (finding["rule"], finding["status"], finding["code"])
        for finding in result["findings"]
        if finding["path"] == path
    }


def give_up_override() -> None:
    """Give up the capabilities with which root reads and writes what it likes (Linux)."""
    if sys.platform == "linux" and os.geteuid() == 0:
        drop_from_bounding_set, dac_override, dac_read_search = 24, 1, 2
        for capability in (dac_override, dac_read_search):
            ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)
