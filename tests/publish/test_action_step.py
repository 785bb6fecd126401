"""The step of the composite action that opens the pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.publish.target import TOKEN
from tests.test_action import run_step

if TYPE_CHECKING:
    from pathlib import Path

    from tests.publish.github_server import GitHubServer
    from tests.publish.target import Target


def test_it_opens_a_pull_request(target: Target, github: GitHubServer, tmp_path: Path) -> None:
    environment = {
        "TARGET": str(target.root),
        "LEVEL": "review",
        "ARGS": "--offline --sizes off --select containers",
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_SERVER_URL": github.url,
        "GITHUB_API_URL": f"{github.url}/api/v3",
        "GITHUB_REPOSITORY": "acme/shop",
        "GITHUB_ACTIONS": "true",
    }
    done = run_step("Open or update the pull request", tmp_path, environment)
    assert done.returncode == 0, done.stderr
    assert "Pull request created" in done.stdout
    assert len(github.pulls) == 1
