"""What the user can mend is one line that says how; limits are waited for."""

from __future__ import annotations

from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from mega_optimizer.errors import PublishError
from mega_optimizer.publish.wishes import Wishes
from tests.publish.github_api import Account, Answer, refusal
from tests.publish.target import TOKEN, git

if TYPE_CHECKING:
    from tests.publish.github_server import GitHubServer
    from tests.publish.target import Target

SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes."


def refused(
    target: Target, wishes: Wishes | None = None, environment: dict[str, str] | None = None
) -> str:
    with pytest.raises(PublishError) as caught:
        target.publish(wishes=wishes, environment=environment)
    assert caught.value.exit_status == 3
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_token(target: Target) -> None:
    assert "set GITHUB_TOKEN" in refused(target, environment={})


def test_a_wrong_token(target: Target) -> None:
    told = refused(target, environment=target.environment(GITHUB_TOKEN="ghp_wrong"))
    assert told.startswith("the token was not accepted: set GITHUB_TOKEN")


def test_a_token_that_git_does_not_accept(target: Target, github: GitHubServer) -> None:
    """The API and git may disagree: an organisation can ask for single sign-on."""
    backend = github.backend
    github.backend = lambda *_: (401, b"")  # type: ignore[method-assign]
    assert "the token was not accepted" in refused(target)
    github.backend = backend  # type: ignore[method-assign]


def test_a_token_that_may_not_push(target: Target, github: GitHubServer) -> None:
    """GitHub tells what the user may do, and the token may do less."""
    github.backend = lambda *_: (403, b"")  # type: ignore[method-assign]
    assert "may not push: it needs contents: write" in refused(target)


def test_no_permission_to_open(target: Target, github: GitHubServer) -> None:
    github.accounts[TOKEN].may_open = False
    told = refused(target)
    assert "may not open pull requests in acme/shop" in told
    assert "pull-requests: write" in told


def test_no_permission_to_push_nor_to_fork(target: Target, github: GitHubServer) -> None:
    github.accounts[TOKEN] = Account("robot", may_fork=False)
    assert "may not push to acme/shop, nor fork it" in refused(target)


def test_no_permission_to_push_to_ones_own_repository(target: Target, github: GitHubServer) -> None:
    github.accounts[TOKEN] = Account("acme")
    assert "may not push to acme/shop" in refused(target)


def test_no_permission_and_nobody_to_fork_for(target: Target, github: GitHubServer) -> None:
    github.accounts[TOKEN] = Account("app", has_user=False)
    assert "may not push to acme/shop" in refused(target)


def test_a_missing_base_branch(target: Target) -> None:
    told = refused(target, Wishes(base="release", group="test"))
    assert told == "acme/shop has no branch release: name another with --base"


def test_an_archived_repository(target: Target, github: GitHubServer) -> None:
    github.repositories["acme/shop"].archived = True
    assert "acme/shop is archived" in refused(target)


def test_a_repository_that_is_not_there(target: Target, github: GitHubServer) -> None:
    del github.repositories["acme/shop"]
    assert "acme/shop is not at http" in refused(target)


def test_a_commit_that_was_not_pushed(target: Target, github: GitHubServer) -> None:
    git(target.root, "commit", "-q", "--allow-empty", "-m", "Mine")
    assert "is not on main of acme/shop: push it there first" in refused(target)
    target.commit_and_push({"NEWS": "2.0\n"}, branch="next")
    assert "--base" in refused(target)
    assert github.writes == []


def test_a_folder_without_a_commit(target: Target) -> None:
    git(target.root, "checkout", "-q", "--orphan", "empty")
    assert "has no commit" in refused(target)


def test_a_forge_that_cannot_be_reached(target: Target) -> None:
    environment = target.environment(GITHUB_API_URL="http://127.0.0.1:9")
    assert "127.0.0.1 cannot be reached" in refused(target, environment=environment)


def test_something_else_than_a_forge(target: Target, github: GitHubServer) -> None:
    github.contract = type("Any", (), {"violations": lambda *_: []})()
    github.next_answers["GET"] = deque([Answer(200, "<html>")])
    assert "does not answer as a forge does" in refused(target)


def test_retry_after_is_honoured(target: Target, github: GitHubServer) -> None:
    github.next_answers["POST"] = deque(
        [refusal(429, SECONDARY, Retry_After="17"), refusal(403, SECONDARY, Retry_After="90")]
    )
    target.publish()
    assert len(github.pulls) == 1
    assert target.clock.slept == [17, 90]
    assert target.told == ["the forge limits requests: waiting 90 s"]


def test_retry_after_as_a_date_is_honoured(target: Target, github: GitHubServer) -> None:
    date = formatdate(target.clock.time + 42, usegmt=True)
    github.next_answers["GET"] = deque([refusal(429, SECONDARY, Retry_After=date)])
    target.publish()
    assert target.clock.slept == [42]


def test_the_reset_of_the_primary_limit_is_honoured(target: Target, github: GitHubServer) -> None:
    reset = str(int(target.clock.time) + 300)
    limited = refusal(
        403, "API rate limit exceeded", x_ratelimit_remaining="0", x_ratelimit_reset=reset
    )
    github.next_answers["GET"] = deque([limited])
    target.publish()
    assert target.clock.slept == [301]


def test_a_limit_without_advice_is_waited_for_longer_each_time(
    target: Target, github: GitHubServer
) -> None:
    github.next_answers["POST"] = deque([refusal(403, SECONDARY), refusal(429, "Slow down")])
    target.publish()
    assert target.clock.slept == [60, 120]


def test_a_limit_that_does_not_end_is_given_up(target: Target, github: GitHubServer) -> None:
    github.next_answers["GET"] = deque([refusal(403, SECONDARY)] * 20)
    assert "try again later" in refused(target)
    assert sum(target.clock.slept) < 3661


def test_a_refused_permission_is_not_taken_for_a_limit(
    target: Target, github: GitHubServer
) -> None:
    github.next_answers["POST"] = deque([refusal(403, "Resource not accessible by integration")])
    assert "may not open" in refused(target)
    assert target.clock.slept == []


def test_a_forge_that_is_down_for_a_moment_is_asked_again(
    target: Target, github: GitHubServer
) -> None:
    github.next_answers["GET"] = deque([refusal(502, "Server Error")] * 2)
    target.publish()
    assert target.clock.slept == [1, 2]


def test_a_write_that_failed_is_not_repeated_blindly(target: Target, github: GitHubServer) -> None:
    """It may have been done: the next run looks, and completes what is missing."""
    github.next_answers["POST"] = deque([refusal(502, "Server Error")])
    assert "502" in refused(target)
    assert target.publish().pull_request is not None
    assert len(github.pulls) == 1


def test_writes_are_a_second_apart(target: Target, github: GitHubServer) -> None:
    github.accounts[TOKEN].pushes.clear()  # so that a fork is made, and then the pull request
    target.publish()
    assert target.clock.slept == [1]
