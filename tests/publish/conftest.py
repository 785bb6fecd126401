from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.publish.contract import NotFetched, contract
from tests.publish.github_api import Account
from tests.publish.github_server import GitHubServer
from tests.publish.target import TOKEN, Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def without_git_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git hooks that run the tests export variables that would lead git astray."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def github(tmp_path: Path) -> Iterator[GitHubServer]:
    """A GitHub whose every request and answer has kept to GitHub's description."""
    try:
        judge = contract()
    except NotFetched as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"GitHub's API description could not be fetched: {error}")
    folder = tmp_path / "github"
    folder.mkdir()
    with GitHubServer(folder, judge) as server:
        server.add_repository("acme/shop")
        server.accounts[TOKEN] = Account("robot", pushes={"acme/shop"})
        yield server
    assert server.violations == []


@pytest.fixture
def target(tmp_path: Path, github: GitHubServer) -> Target:
    """A checkout of acme/shop, pushed, with something to optimize."""
    return Target(tmp_path, github)
