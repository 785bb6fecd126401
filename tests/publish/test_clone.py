"""The clone is of the commit, whatever the checkout looks like, and nothing of the target runs."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from mega_optimizer.errors import PublishError
from mega_optimizer.publish.clone import clone_of
from mega_optimizer.publish.wishes import Wishes
from mega_optimizer.repository.git_index import find_checkout
from tests.publish.target import DOCKERFILE, FILES, git

if TYPE_CHECKING:
    from pathlib import Path

    from tests.publish.github_server import GitHubServer
    from tests.publish.target import Target

BRANCH = "mega-optimize/test"


def test_a_shallow_checkout_serves(target: Target, github: GitHubServer, tmp_path: Path) -> None:
    target.commit_and_push({"NEWS": "1.0\n"})
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{target.bare.path}", str(shallow))
    git(shallow, "remote", "set-url", "origin", f"{github.url}/acme/shop.git")
    target.publish(root=shallow)
    assert target.bare.git("rev-list", "--count", f"main..{BRANCH}") == "1"
    assert target.bare.git("merge-base", "main", BRANCH) == target.bare.git("rev-parse", "main")


def test_a_linked_worktree_serves(target: Target, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(target.root, "worktree", "add", "-q", "--detach", str(tree))
    assert target.publish(root=tree).pull_request is not None
    assert target.bare.git("rev-list", "--count", f"main..{BRANCH}") == "1"


def test_a_folder_of_the_checkout_serves(target: Target) -> None:
    (target.root / "a b").mkdir()
    target.commit_and_push({f"a b/{name}": content for name, content in FILES.items()})
    result = target.publish(root=target.root / "a b", wishes=Wishes())
    branch = "mega-optimize/containers-pip-cache-a-b"
    assert target.bare.git("diff", "--name-only", "main", branch) == "a b/Dockerfile"
    assert result.root == target.root / "a b"


def test_a_new_folder_that_was_not_committed_is_refused(target: Target) -> None:
    shutil.copytree(target.root, target.root / "new", ignore=shutil.ignore_patterns(".git"))
    with pytest.raises(PublishError, match="is not in commit"):
        target.publish(root=target.root / "new")


def test_line_endings_that_git_converts_stay_as_they_are(target: Target) -> None:
    target.commit_and_push({".gitattributes": "* text eol=crlf\n"})
    target.publish()
    changed = target.bare.git("diff", "--numstat", "main", BRANCH)
    assert changed == "1\t1\tDockerfile"


def test_file_modes_stay_and_ignored_files_can_be_added(target: Target) -> None:
    (target.root / "Dockerfile").chmod(0o755)
    target.commit_and_push({".gitignore": ".dockerignore\n"})
    target.publish("containers/pip-cache", "containers/dockerignore")
    assert target.bare.git("ls-tree", BRANCH, "Dockerfile").startswith("100755")
    assert target.bare.git("ls-tree", "--name-only", BRANCH, ".dockerignore")


def test_nothing_that_the_target_or_the_user_configured_runs(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    command = f"sh -c 'echo $0 >> {ran}; cat'"
    home = tmp_path / "home"
    home.mkdir()
    (target.root / "git").write_text(f"#!/bin/sh\necho git >> {ran}\n")
    (target.root / "git").chmod(0o755)
    target.commit_and_push({".gitattributes": "* filter=evil diff=evil\n"})
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "post-checkout", "pre-push", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\necho {name} >> {ran}\n")
        (hooks / name).chmod(0o755)
    shutil.copytree(hooks, target.root / ".git/hooks", dirs_exist_ok=True)
    settings = {
        "core.fsmonitor": command,
        "core.sshCommand": command,
        "core.hooksPath": str(hooks),
        "core.gitProxy": command,
        "filter.evil.smudge": command,
        "filter.evil.clean": command,
        "filter.evil.required": "true",
        "diff.evil.textconv": command,
        "credential.helper": f"!{command}",
        "gpg.program": command,
        "commit.gpgSign": "true",
        "uploadpack.packObjectsHook": command,
        "init.templateDir": str(hooks),
        "push.recurseSubmodules": "on-demand",
    }
    for file in (target.root / ".git/config", home / ".gitconfig"):
        for name, value in settings.items():
            git(tmp_path, "config", "--file", str(file), name, value)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")
    result = target.publish()
    assert result.pull_request is not None
    assert result.pull_request.operation == "created"
    assert not ran.exists()


def test_a_repository_with_sha256_names_can_be_cloned(tmp_path: Path) -> None:
    root = tmp_path / "modern"
    root.mkdir()
    git(root, "init", "-q", "--object-format=sha256")
    (root / "Dockerfile").write_text(DOCKERFILE)
    git(root, "add", "--all")
    git(root, "commit", "-q", "-m", "One")
    checkout = find_checkout(root)
    assert checkout is not None
    with clone_of(checkout, root) as clone:
        assert (clone.root / "Dockerfile").read_text() == DOCKERFILE
        assert clone.root.name == "modern"
        folder = clone.top
    assert not folder.exists()
