"""The life of a pull request, on a real git server and a GitHub that keeps to its description."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mega_optimizer.errors import PublishError
from mega_optimizer.publish.marker import read_marker
from mega_optimizer.publish.wishes import Wishes
from tests.publish.github_api import Account
from tests.publish.target import BOTH, DOCKERFILE, FILES, TOKEN, git

if TYPE_CHECKING:
    from mega_optimizer.publish.outcome import Published
    from tests.publish.github_server import GitHubServer
    from tests.publish.target import Target

BRANCH = "mega-optimize/test"


def published(target: Target, *rules: str, wishes: Wishes | None = None) -> Published:
    outcome = target.publish(*rules, wishes=wishes).pull_request
    assert outcome is not None
    return outcome


def tip(target: Target, branch: str = BRANCH) -> str:
    return target.bare.git("rev-parse", f"refs/heads/{branch}")


def test_the_first_run_opens_a_pull_request(target: Target, github: GitHubServer) -> None:
    outcome = published(target, *BOTH)
    assert outcome.operation == "created"
    (pull,) = github.pulls
    assert outcome.number == pull.number
    assert pull.head == f"acme:{BRANCH}"
    assert pull.base == "main"
    marker = read_marker(pull.body)
    assert marker is not None
    assert set(marker.rules) == set(BOTH)
    expected = DOCKERFILE.replace("pip install", "pip install --no-cache-dir").strip()
    assert target.bare.git("show", f"{BRANCH}:Dockerfile") == expected
    rules = target.bare.git("log", "--format=%(trailers:key=Mega-Optimize-Rule)", f"main..{BRANCH}")
    assert sorted(rules.split()) == sorted(
        word for rule in BOTH for word in ("Mega-Optimize-Rule:", rule)
    )


def test_the_users_tree_is_left_alone(target: Target) -> None:
    (target.root / "main.py").write_text("half a thought")
    published(target)
    assert git(target.root, "status", "--porcelain") == "M main.py"
    assert git(target.root, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert target.bare.git("show", f"{BRANCH}:main.py") == FILES["main.py"].strip()


def test_the_second_run_with_nothing_new_writes_nothing(
    target: Target, github: GitHubServer
) -> None:
    published(target)
    before = tip(target)
    github.requests.clear()
    assert published(target).operation == "unchanged"
    assert github.writes == []
    assert tip(target) == before


def test_a_base_that_moves_on_elsewhere_changes_nothing(
    target: Target, github: GitHubServer
) -> None:
    published(target)
    target.commit_and_push({"Dockerfile": f"# Ours\n\n{DOCKERFILE}", "NEWS": "1.0\n"})
    github.requests.clear()
    assert published(target).operation == "unchanged"
    assert github.writes == []


def test_a_branch_that_conflicts_is_made_anew(target: Target, github: GitHubServer) -> None:
    published(target)
    target.commit_and_push({"Dockerfile": f"# Ours\n{DOCKERFILE}"})
    github.pulls[0].mergeable = False
    assert published(target).operation == "updated"
    assert target.bare.git("merge-base", BRANCH, "main") == tip(target, "main")


def test_changed_rules_update_the_same_pull_request(target: Target, github: GitHubServer) -> None:
    published(target, BOTH[0])
    title = github.pulls[0].title
    outcome = published(target, *BOTH)
    assert outcome.operation == "updated"
    (pull,) = github.pulls
    assert BOTH[1] in pull.body
    assert pull.title != title
    assert target.bare.git("rev-list", "--count", f"main..{BRANCH}") == "2"


def test_a_title_that_a_person_wrote_stays(target: Target, github: GitHubServer) -> None:
    published(target, BOTH[0])
    github.pulls[0].title = "Make it small"
    published(target, *BOTH)
    assert github.pulls[0].title == "Make it small"


def test_what_a_person_closed_stays_closed(target: Target, github: GitHubServer) -> None:
    published(target)
    github.pulls[0].state = "closed"
    github.requests.clear()
    outcome = published(target)
    assert outcome.operation == "blocked"
    assert outcome.url is not None
    assert "closed" in outcome.reason
    assert github.writes == []
    assert len(github.pulls) == 1


def test_another_plan_than_the_closed_one_is_shown(target: Target, github: GitHubServer) -> None:
    published(target, BOTH[0])
    github.pulls[0].state = "closed"
    assert published(target, *BOTH).operation == "created"
    assert [pull.state for pull in github.pulls] == ["closed", "open"]


def test_after_a_squash_merge_the_left_over_branch_is_used_again(
    target: Target, github: GitHubServer
) -> None:
    published(target, BOTH[0])
    github.pulls[0].state, github.pulls[0].merged_at = "closed", "2026-11-23T10:00:00Z"
    target.commit_and_push({"Dockerfile": target.bare.git("show", f"{BRANCH}:Dockerfile") + "\n"})
    assert published(target, *BOTH).operation == "created"
    assert target.bare.git("rev-list", "--count", f"main..{BRANCH}") == "1"


def test_a_commit_by_a_person_is_left_alone_with_one_comment(
    target: Target, github: GitHubServer
) -> None:
    published(target, BOTH[0])
    theirs = target.commit_to_branch(BRANCH, "Grace @hopper")
    for _ in range(2):
        outcome = published(target, *BOTH)
        assert outcome.operation == "blocked"
        assert "Grace" in outcome.reason
    assert tip(target) == theirs
    (comment,) = github.pulls[0].comments
    assert "Grace" in comment
    assert "@hopper" not in comment
    assert BOTH[1] not in github.pulls[0].body


def test_the_one_comment_is_found_behind_many_others(target: Target, github: GitHubServer) -> None:
    published(target, BOTH[0])
    target.commit_to_branch(BRANCH)
    github.pulls[0].comments = ["+1"] * 150
    published(target, *BOTH)
    published(target, *BOTH)
    assert len(github.pulls[0].comments) == 151


def test_a_commit_by_a_person_needs_no_comment_when_there_is_nothing_new(
    target: Target, github: GitHubServer
) -> None:
    published(target)
    target.commit_to_branch(BRANCH)
    assert published(target).operation == "unchanged"
    assert github.pulls[0].comments == []


def test_our_commit_that_a_person_changed_is_theirs(target: Target, github: GitHubServer) -> None:
    published(target, BOTH[0])
    message = target.bare.git("log", "-1", "--format=%B", BRANCH)
    tree = target.bare.git("rev-parse", "main^{tree}")
    who = ["-c", "user.name=Grace", "-c", "user.email=g@example.com"]
    theirs = target.bare.git(*who, "commit-tree", tree, "-p", "main", "-m", message)
    target.bare.git("update-ref", f"refs/heads/{BRANCH}", theirs)
    assert published(target, *BOTH).operation == "blocked"
    assert tip(target) == theirs


def test_a_branch_of_a_person_under_our_name_is_not_overwritten(
    target: Target, github: GitHubServer
) -> None:
    target.bare.git("branch", BRANCH, "main")
    theirs = target.commit_to_branch(BRANCH)
    outcome = published(target)
    assert (outcome.operation, outcome.url) == ("blocked", None)
    assert tip(target) == theirs
    assert github.writes == []


def test_a_branch_that_changes_meanwhile_is_not_overwritten(
    target: Target, github: GitHubServer
) -> None:
    published(target, BOTH[0])
    github.before_push = lambda: target.commit_to_branch(BRANCH)
    with pytest.raises(PublishError, match="changed meanwhile: run again"):
        published(target, *BOTH)
    assert target.bare.git("log", "-1", "--format=%s", BRANCH) == "My own touch"


def test_a_run_that_stopped_after_the_push_is_completed(
    target: Target, github: GitHubServer
) -> None:
    github.accounts[TOKEN].may_open = False
    with pytest.raises(PublishError, match="may not open pull requests"):
        published(target)
    before = tip(target)
    github.accounts[TOKEN].may_open = True
    assert published(target).operation == "created"
    assert tip(target) == before


def test_a_run_that_stopped_before_the_body_was_updated_is_completed(
    target: Target, github: GitHubServer
) -> None:
    published(target, BOTH[0])
    github.accounts[TOKEN].may_open = False
    with pytest.raises(PublishError, match="may not open pull requests"):
        published(target, *BOTH)
    github.accounts[TOKEN].may_open = True
    assert published(target, *BOTH).operation == "updated"
    assert BOTH[1] in github.pulls[0].body


def test_nothing_to_change_opens_nothing(target: Target, github: GitHubServer) -> None:
    target.commit_and_push({"Dockerfile": DOCKERFILE.replace("install", "install --no-cache-dir")})
    github.requests.clear()
    assert target.publish().pull_request is None
    assert github.requests == []


def test_draft_signoff_and_base(target: Target, github: GitHubServer) -> None:
    target.commit_and_push({"NEWS": "2.0\n"}, branch="next")
    wishes = Wishes(base="next", group="test", draft=True, signoff=True)
    environment = target.environment(GITHUB_ACTIONS="true")
    outcome = target.publish(wishes=wishes, environment=environment).pull_request
    assert outcome is not None
    (pull,) = github.pulls
    assert pull.draft
    assert (pull.base, pull.head) == ("next", f"acme:{BRANCH}-to-next")
    message = target.bare.git("log", "-1", "--format=%B", f"{BRANCH}-to-next")
    assert "Signed-off-by: github-actions[bot] <" in message


def test_without_push_permission_a_fork_is_used(target: Target, github: GitHubServer) -> None:
    github.accounts[TOKEN].pushes.clear()
    github.fork_answers_missing = 3
    assert published(target).operation == "created"
    assert target.clock.slept[-3:] == [2, 4, 8]
    (pull,) = github.pulls
    assert pull.head == f"robot:{BRANCH}"
    assert tip(target) == ""
    fork = github.repositories["robot/shop"]
    assert fork.git("rev-list", "--count", f"main..{BRANCH}") == "1"
    github.requests.clear()
    assert published(target).operation == "unchanged"
    assert github.writes == []
    assert published(target, *BOTH).operation == "updated"
    assert fork.git("rev-list", "--count", f"main..{BRANCH}") == "2"


def test_the_token_of_an_app_is_not_asked_for_its_user(
    target: Target, github: GitHubServer
) -> None:
    """What GitHub says a person may do is always "no" for ``GITHUB_TOKEN`` in Actions."""
    github.accounts["ghs_app"] = Account("app[bot]", pushes={"acme/shop"}, has_user=False)
    environment = target.environment(GITHUB_TOKEN="ghs_app")
    outcome = target.publish(environment=environment).pull_request
    assert outcome is not None
    assert outcome.operation == "created"
