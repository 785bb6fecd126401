"""The checkout that the scenarios start from, and runs of ``--pr`` on it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mega_optimizer.config import Settings
from mega_optimizer.pipeline import Request, run
from mega_optimizer.publish.run import run_and_publish
from mega_optimizer.publish.wishes import Wishes

if TYPE_CHECKING:
    from pathlib import Path

    from mega_optimizer.pipeline import Result
    from tests.publish.github_server import GitHubServer

# Of the form that GitHub gives out, and worth nothing.
TOKEN = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
DOCKERFILE = (
    "FROM python:3.11-slim\nWORKDIR /app\nCOPY . .\n"
    'RUN pip install -r requirements.txt\nCMD ["uvicorn", "main:app"]\n'
)
FILES = {
    "Dockerfile": DOCKERFILE,
    "requirements.txt": "fastapi==0.115.6\nuvicorn==0.34.0\n",
    "main.py": "import fastapi\n\napp = fastapi.FastAPI()\n",
}
BOTH = ("containers/pip-cache", "containers/dockerignore")


@dataclass
class Clock:
    """A clock that does not wait: it counts how long it would have."""

    time: float = 1_763_892_000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com", *arguments]
    environment = {key: value for key, value in os.environ.items() if key[:4] != "GIT_"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


class Target:
    """A checkout whose origin is acme/shop on ``github``."""

    def __init__(self, folder: Path, github: GitHubServer) -> None:
        self.github = github
        self.bare = github.repositories["acme/shop"]
        self.root = folder / "shop"
        self.root.mkdir()
        self.clock = Clock()
        self.told: list[str] = []
        git(self.root, "init", "-q", "-b", "main")
        git(self.root, "remote", "add", "origin", f"{github.url}/acme/shop.git")
        self.commit_and_push(FILES)

    def commit_and_push(self, files: dict[str, str], branch: str = "main") -> None:
        for name, content in files.items():
            (self.root / name).write_text(content)
        git(self.root, "add", "--all")
        git(self.root, "commit", "-q", "-m", "Work")
        git(self.root, "push", "-q", str(self.bare.path), f"HEAD:refs/heads/{branch}")

    def commit_to_branch(self, branch: str, author: str = "Grace") -> str:
        """Commit to ``branch`` on the forge as a person would; return the new tip."""
        tip = self.bare.git("rev-parse", f"refs/heads/{branch}")
        tree = self.bare.git("rev-parse", f"{tip}^{{tree}}")
        who = ["-c", f"user.name={author}", "-c", "user.email=g@example.com"]
        made = self.bare.git(*who, "commit-tree", tree, "-p", tip, "-m", "My own touch")
        self.bare.git("update-ref", f"refs/heads/{branch}", made)
        return made

    def environment(self, **more: str) -> dict[str, str]:
        return {"GITHUB_TOKEN": TOKEN, "GITHUB_SERVER_URL": self.github.url, **more}

    def publish(
        self,
        *rules: str,
        wishes: Wishes | None = None,
        environment: dict[str, str] | None = None,
        root: Path | None = None,
        remote: str = "origin",
    ) -> Result:
        """Do what ``--pr --select RULES --group test`` does, with a clock that does not wait."""
        settings = replace(
            Settings(), select=rules or BOTH[:1], sizes="off", offline=True, level="review"
        )
        named = root or self.root

        def analyse(folder: Path) -> Result:
            return run(Request(root=folder, settings=settings, mode="check", clone_of=named))

        return run_and_publish(
            named,
            analyse,
            wishes or Wishes(group="test"),
            remote,
            self.environment() if environment is None else environment,
            self.told.append,
            self.clock,
        )
