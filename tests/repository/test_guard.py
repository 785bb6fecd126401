from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.guard import MAX_OTHER_BYTES, MAX_PYTHON_BYTES, Guard


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "app").mkdir(parents=True)
    (root / "app" / "main.py").write_bytes(b"print(1)\r\n")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.py").write_bytes(b"KEY = 1\n")
    return root


def refusal(guard: Guard, path: str) -> str:
    with pytest.raises(UnreadableFile) as refused:
        guard.read(path)
    with pytest.raises(UnreadableFile) as refused_for_writing:
        guard.resolve_for_writing(path)
    assert refused.value.code == refused_for_writing.value.code
    return refused.value.code


def test_reads_the_bytes_of_a_file_and_lets_it_be_written(tree: Path) -> None:
    guard = Guard(tree)
    assert guard.read("app/main.py") == b"print(1)\r\n"
    assert guard.resolve_for_writing("app/main.py") == tree.resolve() / "app/main.py"


def test_a_new_file_may_be_written_into_a_folder_that_exists(tree: Path) -> None:
    assert Guard(tree).resolve_for_writing("app/.dockerignore").name == ".dockerignore"


def test_a_new_file_is_not_written_into_a_folder_that_does_not_exist(tree: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"no such file|folder does not exist"):
        Guard(tree).resolve_for_writing("nowhere/new.py")


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "app/", "app/.", "app/..", "app//main.py", "./app/main.py"),
        *("../secret/key.py", "app/../../secret/key.py", "/etc/passwd", "app/main.py\0"),
    ],
)
def test_a_path_that_is_not_plainly_below_the_root_is_outside(tree: Path, path: str) -> None:
    guard = Guard(tree)
    guard.read("app/main.py")  # the folder app is known by now
    assert refusal(guard, path) == "outside-root"


def test_symlinks_are_refused_with_where_they_lead(tree: Path) -> None:
    (tree / "inside.py").symlink_to("app/main.py")
    (tree / "outside.py").symlink_to("../secret/key.py")
    (tree / "dangling.py").symlink_to("nowhere.py")
    (tree / "folder").symlink_to("app")
    (tree / "away").symlink_to("../secret")
    guard = Guard(tree)
    assert refusal(guard, "inside.py") == "symlink"
    assert refusal(guard, "dangling.py") == "symlink"
    assert refusal(guard, "outside.py") == "outside-root"
    assert refusal(guard, "folder/main.py") == "symlink"
    assert refusal(guard, "away/key.py") == "outside-root"


def test_a_link_to_itself_is_refused(tree: Path) -> None:
    (tree / "loop.py").symlink_to("loop.py")
    assert refusal(Guard(tree), "loop.py") == "symlink"


def test_a_folder_that_becomes_a_symlink_is_refused_for_writing(tree: Path) -> None:
    guard = Guard(tree)
    guard.read("app/main.py")
    (tree / "app").rename(tree / "old")
    (tree / "app").symlink_to("../secret")
    with pytest.raises(UnreadableFile, match="leaves the repository"):
        guard.resolve_for_writing("app/key.py")


def test_a_root_that_is_a_symlink_itself_is_fine(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    assert Guard(tmp_path / "link").read("app/main.py")


def test_pipes_sockets_and_folders_are_not_files_and_do_not_block(tree: Path) -> None:
    os.mkfifo(tree / "pipe.py")
    guard = Guard(tree)
    assert refusal(guard, "pipe.py") == "not-a-file"
    assert refusal(guard, "app") == "not-a-file"


def test_a_socket_is_not_read() -> None:
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{short}/s.py")
        with pytest.raises(UnreadableFile):
            Guard(Path(short)).read("s.py")


def test_a_missing_file_says_so(tree: Path) -> None:
    for path in ("app/other.py", "app/main.py/x.py", "nowhere/x.py"):
        with pytest.raises(UnreadableFile) as refused:
            Guard(tree).read(path)
        assert refused.value.code == "missing-file"


@pytest.mark.parametrize(
    ("name", "limit"), [("big.py", MAX_PYTHON_BYTES), ("big.yaml", MAX_OTHER_BYTES)]
)
def test_a_file_over_its_limit_is_not_read(tree: Path, name: str, limit: int) -> None:
    (tree / name).write_bytes(b"#" * limit)
    assert len(Guard(tree).read(name)) == limit
    (tree / name).write_bytes(b"#" * (limit + 1))
    with pytest.raises(UnreadableFile) as refused:
        Guard(tree).read(name)
    assert refused.value.code == "too-large"


def test_a_lock_file_may_be_larger_than_other_files(tree: Path) -> None:
    (tree / "uv.lock").write_bytes(b"#" * (MAX_OTHER_BYTES + 1))
    assert Guard(tree).read("uv.lock")


def test_an_empty_file_is_empty(tree: Path) -> None:
    (tree / "app" / "__init__.py").touch()
    assert Guard(tree).read("app/__init__.py") == b""
