from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.index import (
    is_example,
    is_generated,
    is_vendored,
    scan_files,
)
from tests.repository.test_git_index import git


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x\n")


def test_a_walk_honours_gitignore_files_at_every_depth(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b.log", "keep.log", "build/x.py", "deep/b.log", "deep/gen/y.py")
    write(tmp_path, "deep/only.txt", "only.txt", "deep/keep/z.py")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/build/\n")
    (tmp_path / "deep" / ".gitignore").write_text("gen/\n/only.txt\n!b.log\n")
    assert list(scan_files(tmp_path).paths) == [
        ".gitignore",
        "a.py",
        "deep/.gitignore",
        "deep/b.log",
        "deep/keep/z.py",
        "keep.log",
        "only.txt",
    ]


def test_a_walk_skips_what_was_installed_and_what_tools_keep(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "__pycache__/a.pyc", "node_modules/x/setup.py", ".venv/lib/x.py")
    write(tmp_path, "env/pyvenv.cfg", "env/lib/x.py", ".tox/x.py", "lib/site-packages/x.py")
    write(tmp_path, "clone/.git/config", "clone/b.py")
    assert list(scan_files(tmp_path).paths) == ["a.py", "clone/b.py"]


def test_a_walk_never_leaves_through_a_symlink(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.py", "root/a.py", "root/pkg/b.py")
    root = tmp_path / "root"
    (root / "away").symlink_to("../outside")
    (root / "up").symlink_to(".")
    (root / "secret.py").symlink_to("../outside/secret.py")
    (root / "b.py").symlink_to("pkg/b.py")
    (root / "picture.png").symlink_to("pkg/b.py")
    os.mkfifo(root / "pipe.py")
    files = scan_files(root)
    assert list(files.paths) == ["a.py", "pkg/b.py"]
    assert [(problem.path, problem.code) for problem in files.problems] == [
        ("away", "outside-root"),
        ("b.py", "symlink"),
        ("secret.py", "outside-root"),
    ]


def test_tracked_symlinks_are_problems_and_not_files(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.py", "root/docker/Dockerfile", "root/pkg/a.py")
    root = tmp_path / "root"
    (root / "Dockerfile").symlink_to("docker/Dockerfile")
    (root / "secret.py").symlink_to("../outside/secret.py")
    git(root, "init", "-q")
    git(root, "add", ".")
    # What was a folder when it was added is a way out now.
    (root / "pkg" / "a.py").unlink()
    (root / "pkg").rmdir()
    (root / "pkg").symlink_to("../outside")
    write(tmp_path, "outside/a.py")
    files = scan_files(root)
    assert list(files.paths) == ["docker/Dockerfile"]
    assert [(problem.path, problem.code) for problem in files.problems] == [
        ("Dockerfile", "symlink"),
        ("pkg/a.py", "outside-root"),
        ("secret.py", "outside-root"),
    ]
    with pytest.raises(UnreadableFile):
        files.read("pkg/a.py")


def test_templated_paths_are_left_out_with_one_problem_for_each_template(tmp_path: Path) -> None:
    write(tmp_path, "hooks/post.py", "{{cookiecutter.slug}}/a.py", "{{cookiecutter.slug}}/b/c.py")
    write(tmp_path, "pkg/{{name}}.py")
    files = scan_files(tmp_path)
    assert list(files.paths) == ["hooks/post.py"]
    assert [(problem.path, problem.code, problem.message) for problem in files.problems] == [
        ("pkg/{{name}}.py", "templated", "the name is a template"),
        ("{{cookiecutter.slug}}", "templated", "a template of 2 files"),
    ]


@pytest.mark.parametrize("tracked", [False, True])
def test_names_that_no_report_can_show_are_left_out(tmp_path: Path, tracked: bool) -> None:
    for name in (b"latin-\xe9.py", b"new\nline.py", "größe.py".encode()):
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).touch()
    if tracked:
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", ".")
    files = scan_files(tmp_path)
    assert list(files.paths) == ["größe.py"]
    assert [problem.code for problem in files.problems] == ["odd-name", "odd-name"]
    assert all(problem.path.isprintable() for problem in files.problems)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[str]:
    """A folder in 1,499 others; pytest's own cleaning would run out of recursion on it."""
    path = "/".join(["d"] * 1500)
    here = os.open(tmp_path, os.O_RDONLY)
    for part in path.split("/"):
        os.mkdir(part, dir_fd=here)
        inner = os.open(part, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("a.py", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    yield path
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


@pytest.mark.parametrize("tracked", [False, True])
def test_folders_may_nest_deeply(tmp_path: Path, deep: str, tracked: bool) -> None:
    if tracked:
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", ".")
    files = scan_files(tmp_path)
    assert list(files.paths) == [f"{deep}/a.py"]
    assert files.read(f"{deep}/a.py") == b""


def test_excluded_patterns_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "legacy/b.py", "pkg/c_old.py", "pkg/legacy/d.py")
    assert list(scan_files(tmp_path, ["/legacy", "*_old.py"]).paths) == ["a.py", "pkg/legacy/d.py"]


def test_files_are_read_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    files = scan_files(tmp_path)
    (tmp_path / "a.py").write_bytes(b"later\n")
    assert files.read("a.py") == b"later\n"
    assert "a.py" in files
    assert "b.py" not in files


def test_predicates_tell_what_is_not_the_code_of_a_service() -> None:
    assert is_vendored("third_party/x.py")
    assert is_vendored("app/vendor/x/y.py")
    assert not is_vendored("app/vendors.py")
    assert not is_vendored("vendor.py")
    assert is_generated("api/demo_pb2.py")
    assert is_generated("api/demo_pb2_grpc.py")
    assert not is_generated("api/pb2.py")
    assert is_example("docs/conf.py")
    assert not is_example("app/docs.py")
