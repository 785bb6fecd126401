from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mega_optimizer.config import Settings
from mega_optimizer.errors import PublishError
from mega_optimizer.publish.commits import is_sealed
from mega_optimizer.publish.identity import (
    NOBODY,
    OF_ACTIONS,
    Identity,
    check_signoff,
    find_identity,
    take_git_variables,
)
from mega_optimizer.publish.scenario import branch_name
from mega_optimizer.publish.wishes import Wishes
from tests.publish.target import git

if TYPE_CHECKING:
    from pathlib import Path

    from tests.publish.target import Target

BRANCH = "mega-optimize/test"


def test_the_message_of_a_commit(target: Target) -> None:
    environment = target.environment(
        GIT_AUTHOR_NAME="Ada", GIT_AUTHOR_EMAIL="ada@example.com", GIT_DIR="/nowhere"
    )
    target.publish(wishes=Wishes(group="test", signoff=True), environment=environment)
    message = target.bare.git("log", "-1", "--format=%B", BRANCH)
    lines = message.splitlines()
    assert lines[0] == "Keep pip's download cache out of the image"
    assert lines[1] == ""
    assert "Where:\n- Dockerfile:4\n" in message
    assert max(len(line) for line in lines) <= 72
    assert lines[-3:-1] == [
        "Mega-Optimize-Rule: containers/pip-cache",
        "Signed-off-by: Ada <ada@example.com>",
    ]
    who = target.bare.git("log", "-1", "--format=%an %ae %cn %ce", BRANCH)
    assert who == "Ada ada@example.com Ada ada@example.com"
    assert target.bare.git("log", "-1", "--format=%cI", BRANCH) == target.bare.git(
        "log", "-1", "--format=%cI", "main"
    )


def test_a_seal_holds_for_its_tree_parents_and_message(target: Target) -> None:
    target.publish()
    told = target.bare.git("log", "-1", "--format=%T%n%P%n%B", BRANCH)
    tree, parent, message = told.split("\n", 2)
    assert is_sealed(message, tree, [parent])
    assert is_sealed(f"{message}\n", tree, [parent])
    assert not is_sealed(message, parent, [parent])
    assert not is_sealed(message, tree, [tree])
    assert not is_sealed(message, tree, [parent, parent])
    assert not is_sealed(f"My {message}", tree, [parent])
    assert not is_sealed(f"{message}\nMine", tree, [parent])
    assert not is_sealed("Mine", tree, [parent])


def test_who_the_commits_are_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert find_identity({}, {}) == NOBODY
    git(tmp_path, "config", "--file", str(tmp_path / ".gitconfig"), "user.name", "Grace")
    assert find_identity({}, {}) == NOBODY
    git(tmp_path, "config", "--file", str(tmp_path / ".gitconfig"), "user.email", "g@example.com")
    assert find_identity({}, {}) == Identity("Grace", "g@example.com")
    assert find_identity({}, {"GITHUB_ACTIONS": "true"}) == OF_ACTIONS
    given = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "a@example.com"}
    assert find_identity(given, {"GITHUB_ACTIONS": "true"}) == Identity("Ada", "a@example.com")


def test_nobody_signs_nothing_off() -> None:
    check_signoff(OF_ACTIONS)
    with pytest.raises(PublishError, match="set GIT_AUTHOR_NAME and GIT_AUTHOR_EMAIL"):
        check_signoff(NOBODY)


def test_variables_of_git_are_taken_out() -> None:
    kept = {"PATH": "/bin", "GITHUB_REF": "y", "GIT_SSL_CAINFO": "/etc/ours.pem"}
    environment = {"GIT_DIR": "x", "GIT_AUTHOR_NAME": "Ada", **kept}
    assert take_git_variables(environment) == {"GIT_DIR": "x", "GIT_AUTHOR_NAME": "Ada"}
    assert environment == kept


@pytest.mark.parametrize(
    ("settings", "wishes", "base", "folder", "expected"),
    [
        (Settings(), Wishes(), "main", ".", "safe"),
        (Settings(level="review"), Wishes(), "main", ".", "review"),
        (Settings(select=("a/b", "c")), Wishes(), "main", ".", "a-b-c"),
        (Settings(services=("web",)), Wishes(), "main", ".", "safe-web"),
        (Settings(), Wishes(), "main", "services/api", "safe-services-api"),
        (Settings(), Wishes(group="team..lock"), "main", ".", "team-lock"),
        (Settings(), Wishes(group="ü"), "main", ".", "changes"),
        (Settings(), Wishes(), "release/1.x", ".", "safe-to-release-1-x"),
    ],
)
def test_the_branch_is_the_same_for_the_same_wishes(
    settings: Settings, wishes: Wishes, base: str, folder: str, expected: str
) -> None:
    assert branch_name(settings, wishes, base, "main", folder) == f"mega-optimize/{expected}"


def test_long_groups_stay_apart() -> None:
    rules = [f"category/rule-{at}" for at in range(20)]
    names = {
        branch_name(replace(Settings(), select=tuple(rules[:end])), Wishes(), "main", "main", ".")
        for end in (19, 20)
    }
    assert len(names) == 2
    assert max(len(name) for name in names) < 100
