from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mega_optimizer.repository.git_index import (
    GitState,
    UnreadableRepository,
    find_checkout,
    git_state,
)
from mega_optimizer.repository.index import scan_files


def git(folder: Path, *arguments: str) -> str:
    """Run git as the owner of the repository would, with nothing of this machine's settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", *identity, "-c", "protocol.file.allow=always", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def checkout(folder: Path, *options: str) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", *options)
    (folder / "app").mkdir()
    (folder / "app" / "main.py").write_bytes(b"print(1)\n")
    (folder / "setup.py").write_bytes(b"x = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def state_of(folder: Path) -> GitState:
    state = git_state(folder)
    assert state is not None
    return state


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return checkout(tmp_path / "repository")


def test_a_committed_file_is_clean(repository: Path) -> None:
    state = state_of(repository)
    assert state.status("app/main.py") == "clean"
    assert state.commit == git(repository, "rev-parse", "HEAD")
    assert not state.locked


def test_each_way_of_differing_has_its_own_name(repository: Path) -> None:
    for name in ("staged", "modified", "partly", "gone", "kept"):
        (repository / f"{name}.py").write_bytes(b"x = 1\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "more")
    (repository / "staged.py").write_bytes(b"x = 2\n")
    (repository / "partly.py").write_bytes(b"x = 2\n")
    (repository / "added.py").write_bytes(b"x = 2\n")
    git(repository, "add", ".")
    (repository / "partly.py").write_bytes(b"x = 3\n")
    (repository / "modified.py").write_bytes(b"x = 3\n")
    (repository / "gone.py").unlink()
    (repository / "new.py").touch()
    (repository / "announced.py").touch()
    git(repository, "add", "-N", "announced.py")
    (repository / "kept.py").write_bytes(b"x = 9\n")
    git(repository, "update-index", "--assume-unchanged", "kept.py")
    state = state_of(repository)
    assert {
        name: state.status(f"{name}.py")
        for name in (
            *("staged", "modified", "partly", "gone", "added"),
            *("new", "announced", "kept", "setup"),
        )
    } == {
        "staged": "staged",
        "modified": "modified",
        "partly": "partly-staged",
        "gone": "missing",
        "added": "staged",
        "new": "untracked",
        "announced": "staged",
        "kept": "modified",
        "setup": "clean",
    }


def test_a_file_in_conflict_says_so(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "other")
    (repository / "setup.py").write_bytes(b"x = 2\n")
    git(repository, "commit", "-q", "-am", "other")
    git(repository, "checkout", "-q", "main")
    (repository / "setup.py").write_bytes(b"x = 3\n")
    git(repository, "commit", "-q", "-am", "ours")
    with pytest.raises(subprocess.CalledProcessError):
        git(repository, "merge", "other")
    assert state_of(repository).status("setup.py") == "conflict"


def test_a_symlink_is_never_clean(repository: Path) -> None:
    (repository / "link.py").symlink_to("setup.py")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "link")
    assert state_of(repository).status("link.py") == "modified"


def test_line_endings_that_git_converts_do_not_modify(repository: Path) -> None:
    (repository / "setup.py").write_bytes(b"x = 1\r\n")
    (repository / ".gitattributes").write_bytes(b"*.py text\n")
    git(repository, "add", ".gitattributes")
    assert state_of(repository).status("setup.py") == "clean"


def test_line_endings_that_git_does_not_convert_modify(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (repository / "setup.py").write_bytes(b"x = 1\r\n")
    assert state_of(repository).status("setup.py") == "modified"


def test_before_the_first_commit_nothing_is_clean(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").touch()
    git(tmp_path, "add", ".")
    state = state_of(tmp_path)
    assert state.commit is None
    assert state.status("a.py") == "staged"


def test_an_empty_repository_tracks_nothing(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").touch()
    assert state_of(tmp_path).status("a.py") == "untracked"
    assert list(scan_files(tmp_path).paths) == ["a.py"]


@pytest.mark.parametrize("detached", [False, True])
def test_the_commit_is_found_where_references_are_packed(repository: Path, detached: bool) -> None:
    git(repository, "pack-refs", "--all")
    git(repository, "gc", "-q")
    if detached:
        git(repository, "checkout", "-q", "--detach")
    state = state_of(repository)
    assert state.commit == git(repository, "rev-parse", "HEAD")
    assert state.status("setup.py") == "clean"


def test_a_subfolder_has_paths_of_its_own(repository: Path) -> None:
    assert list(scan_files(repository / "app").paths) == ["main.py"]
    assert state_of(repository / "app").status("main.py") == "clean"
    assert state_of(repository / "app").status("setup.py") == "untracked"


def test_a_subfolder_named_like_a_pattern_is_taken_literally(repository: Path) -> None:
    for folder in ("[a]pp", "star*"):
        (repository / folder).mkdir()
        (repository / folder / "x.py").touch()
    git(repository, "add", ".")
    assert list(scan_files(repository / "[a]pp").paths) == ["x.py"]
    assert list(scan_files(repository / "star*").paths) == ["x.py"]


def test_an_untracked_folder_inside_a_checkout_is_walked(repository: Path) -> None:
    (repository / "scratch").mkdir()
    (repository / "scratch" / "a.py").touch()
    assert list(scan_files(repository / "scratch").paths) == ["a.py"]
    assert git_state(repository / "scratch") is None


def test_a_linked_worktree_has_its_own_index(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", "-b", "feature", str(tmp_path / "tree"))
    (tmp_path / "tree" / "feature.py").touch()
    git(tmp_path / "tree", "add", ".")
    git(tmp_path / "tree", "commit", "-q", "-m", "feature")
    assert "feature.py" in scan_files(tmp_path / "tree")
    assert "feature.py" not in scan_files(repository)
    state = state_of(tmp_path / "tree")
    assert state.commit == git(tmp_path / "tree", "rev-parse", "HEAD")
    assert state.status("feature.py") == "clean"


def test_a_submodule_is_left_out_of_its_parent_and_read_on_its_own(
    repository: Path, tmp_path: Path
) -> None:
    parent = checkout(tmp_path / "parent")
    git(parent, "submodule", "--quiet", "add", str(repository), "module")
    git(parent, "commit", "-q", "-m", "module")
    assert list(scan_files(parent).paths) == [".gitmodules", "app/main.py", "setup.py"]
    assert list(scan_files(parent / "module").paths) == ["app/main.py", "setup.py"]
    assert state_of(parent / "module").status("setup.py") == "clean"


def test_repositories_with_sha256_are_read(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "modern", "--object-format=sha256")
    assert "app/main.py" in scan_files(folder)
    assert state_of(folder).status("app/main.py") == "clean"


def test_a_split_index_is_read(repository: Path) -> None:
    git(repository, "update-index", "--split-index")
    (repository / "later.py").touch()
    git(repository, "add", ".")
    assert list((repository / ".git").glob("sharedindex.*"))
    assert list(scan_files(repository).paths) == ["app/main.py", "later.py", "setup.py"]
    assert state_of(repository).status("setup.py") == "clean"


def test_a_sparse_index_is_read(repository: Path) -> None:
    for folder in ("one", "two"):
        (repository / folder).mkdir()
        (repository / folder / "x.py").touch()
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "folders")
    git(repository, "sparse-checkout", "set", "--cone", "--sparse-index", "one")
    assert list(scan_files(repository).paths) == ["one/x.py", "setup.py"]
    assert state_of(repository).status("one/x.py") == "clean"


def test_a_damaged_index_is_one_clear_message(repository: Path) -> None:
    (repository / ".git" / "index").write_bytes(b"nonsense")
    with pytest.raises(UnreadableRepository, match=r"repository: git cannot read this checkout"):
        scan_files(repository)


def test_a_locked_index_can_be_read_and_is_reported(repository: Path) -> None:
    (repository / ".git" / "index.lock").touch()
    assert "setup.py" in scan_files(repository)
    assert state_of(repository).locked


def test_without_git_the_message_says_what_to_do(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnreadableRepository, match="install git"):
        scan_files(repository)


def test_a_deleted_file_is_not_listed(repository: Path) -> None:
    (repository / "setup.py").unlink()
    assert list(scan_files(repository).paths) == ["app/main.py"]


def test_variables_that_a_hook_exports_do_not_mislead(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = checkout(tmp_path / "other")
    (other / "other.py").touch()
    git(other, "add", ".")
    for name, value in {
        "GIT_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git" / "index",
        "GIT_OBJECT_DIRECTORY": other / ".git" / "objects",
        "GIT_COMMON_DIR": other / ".git",
        "GIT_PREFIX": "app/",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": f"touch {tmp_path}/ran",
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor=touch {tmp_path}/ran'",
        "GIT_TRACE": tmp_path / "trace",
        "GIT_LITERAL_PATHSPECS": "1",
    }.items():
        monkeypatch.setenv(name, str(value))
    assert list(scan_files(repository).paths) == ["app/main.py", "setup.py"]
    assert state_of(repository / "app").status("main.py") == "clean"
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "trace").exists()


def test_nothing_that_hostile_settings_name_is_run(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    ran.mkdir()
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\ntouch "{ran}/$1"\ncat\n')
    program.chmod(0o755)
    (repository / ".gitattributes").write_text("*.py filter=evil diff=evil merge=evil\n")
    git(repository, "add", ".gitattributes")
    for hook in ("pre-commit", "post-index-change", "post-checkout", "fsmonitor-watchman"):
        path = repository / ".git" / "hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch {ran}/hook-{hook}\n")
        path.chmod(0o755)
    included = tmp_path / "included"
    included.write_text(f"[core]\n\tfsmonitor = {program} included\n")
    for key, value in {
        "core.fsmonitor": f"{program} fsmonitor",
        "core.hooksPath": str(repository / ".git" / "hooks"),
        "core.sshCommand": f"{program} ssh",
        "core.pager": f"{program} pager",
        "core.editor": f"{program} editor",
        "core.askPass": f"{program} askpass",
        "core.gitProxy": f"{program} proxy",
        "core.alternateRefsCommand": f"{program} alternates",
        "core.worktree": str(tmp_path),
        "filter.evil.clean": f"{program} clean",
        "filter.evil.smudge": f"{program} smudge",
        "filter.evil.process": f"{program} process",
        "diff.external": f"{program} diff",
        "diff.evil.textconv": f"{program} textconv",
        "diff.evil.command": f"{program} diff-command",
        "merge.evil.driver": f"{program} merge",
        "alias.ls-files": f"!{program} alias",
        "alias.ls-tree": f"!{program} alias",
        "credential.helper": f"!{program} credential",
        "gpg.program": f"{program} gpg",
        "pager.ls-files": f"{program} pager-ls",
        "trace2.eventTarget": str(ran / "trace2"),
        "remote.origin.url": f"ext::{program} remote",
        "remote.origin.promisor": "true",
        "extensions.partialClone": "origin",
        f"includeIf.gitdir:{repository}/.path": str(included),
        "include.path": str(included),
    }.items():
        git(repository, "config", key, value)
    for left in ran.iterdir():  # what `git config` itself set off
        left.unlink()
    (repository / "setup.py").write_bytes(b"x = 2\n")

    files = scan_files(repository)
    state = state_of(repository)
    statuses = {path: state.status(path) for path in files.paths}

    assert statuses == {
        ".gitattributes": "staged",
        "app/main.py": "clean",
        "setup.py": "modified",
    }
    assert list(ran.iterdir()) == []
    # The trap is armed: git itself falls into it.
    subprocess.run(["git", "status"], cwd=repository, check=False, capture_output=True)
    assert list(ran.iterdir())


def test_reading_leaves_the_git_folder_as_it_was(repository: Path) -> None:
    git(repository, "update-index", "--split-index")

    def snapshot() -> list[tuple[str, int]]:
        found = sorted((repository / ".git").rglob("*"))
        return [(str(path), path.stat().st_mtime_ns) for path in found]

    before = snapshot()
    scan_files(repository)
    state_of(repository).status("setup.py")
    assert snapshot() == before


def test_outside_of_any_checkout_there_is_no_state(tmp_path: Path) -> None:
    assert find_checkout(tmp_path) is None
    assert git_state(tmp_path) is None


def test_a_git_file_that_names_no_folder_is_no_checkout(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere/at/all\n")
    (tmp_path / "a.py").touch()
    assert list(scan_files(tmp_path).paths) == ["a.py"]
