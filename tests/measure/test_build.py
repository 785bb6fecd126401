"""What a build is given: the tracked files with their modes and links, and nothing else."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from mega_optimizer.config import read_settings
from mega_optimizer.engine.plan import Options
from mega_optimizer.engine.planner import make_plan
from mega_optimizer.errors import ConfigurationError
from mega_optimizer.measure.build import content_digests, image_sources, lay_out, run_environment
from mega_optimizer.repository.index import scan_files
from mega_optimizer.repository.scan import open_repository
from mega_optimizer.rules import load_rules


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def checkout(folder: Path) -> Path:
    folder.mkdir()
    (folder / "bin").mkdir()
    (folder / "app.py").write_bytes(b"x = 1\r\n")
    (folder / "bin" / "run").write_bytes(b"#!/bin/sh\n")
    (folder / "bin" / "run").chmod(0o755)
    (folder / "link").symlink_to("app.py")
    (folder / "outside").symlink_to("/etc/passwd")
    (folder / "large.bin").write_bytes(b"\0" * 3_000_000)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "One")
    (folder / "untracked.env").write_text("SECRET=1\n")
    return folder


def laid_out(root: Path, folder: Path, overlay: dict[str, bytes] | None = None) -> Path:
    folder.mkdir()
    lay_out(scan_files(root), overlay or {}, folder)
    return folder


def test_tracked_files_keep_their_bytes_modes_and_links(tmp_path: Path) -> None:
    folder = laid_out(checkout(tmp_path / "target"), tmp_path / "context")

    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert names == ["app.py", "bin", "bin/run", "large.bin", "link", "outside"]
    assert (folder / "app.py").read_bytes() == b"x = 1\r\n"
    assert stat.S_IMODE((folder / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "app.py").stat().st_mode) == 0o644
    assert os.readlink(folder / "link") == "app.py"
    assert os.readlink(folder / "outside") == "/etc/passwd"
    assert (folder / "large.bin").stat().st_size == 3_000_000


def test_a_tracked_file_that_became_a_link_is_left_out(tmp_path: Path) -> None:
    target = checkout(tmp_path / "target")
    (target / "app.py").unlink()
    (target / "app.py").symlink_to("/etc/passwd")
    (target / "bin" / "run").unlink()
    (target / "bin").rmdir()
    (target / "bin").symlink_to("/usr/bin")

    folder = laid_out(target, tmp_path / "context")

    assert not os.path.lexists(folder / "app.py")
    assert not os.path.lexists(folder / "bin")


def test_the_plan_lies_over_the_files_and_modes_stay(tmp_path: Path) -> None:
    overlay = {"bin/run": b"#!/bin/sh\nexec true\n", "new/file": b"new"}

    folder = laid_out(checkout(tmp_path / "target"), tmp_path / "context", overlay)

    assert (folder / "bin/run").read_bytes() == overlay["bin/run"]
    assert stat.S_IMODE((folder / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "new/file").stat().st_mode) == 0o644


def test_equal_files_make_equal_contexts(tmp_path: Path) -> None:
    target = checkout(tmp_path / "target")
    one, two = laid_out(target, tmp_path / "one"), laid_out(target, tmp_path / "two")

    assert content_digests(one) == content_digests(two)
    times = {path.lstat().st_mtime for folder in (one, two) for path in folder.rglob("*")}
    assert len(times) == 1


def test_outside_of_git_the_scanned_files_are_laid_out(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "target" / "run.sh").chmod(0o700)

    folder = laid_out(tmp_path / "target", tmp_path / "context")

    assert stat.S_IMODE((folder / "run.sh").stat().st_mode) == 0o755


def test_each_image_is_built_once_with_constant_arguments(tmp_path: Path) -> None:
    files = {
        "Dockerfile": (
            "FROM python:3.11\nCOPY . .\nRUN pip install -r requirements.txt\n"
            'CMD ["uvicorn", "app:app"]\n'
        ),
        "requirements.txt": "uvicorn==0.34.0\n",
        "app.py": "app = None\n",
        "docker-compose.yml": (
            "services:\n"
            "  web:\n    build: {context: ., args: {A: '1', B: '${UNKNOWN}'}}\n"
            "    environment: {HOST: '${HOST:-db}', WORD: '${WORD}', PRICE: '$$5', EMPTY: }\n"
            "  worker:\n    build: .\n    command: python worker.py\n"
        ),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    disk, repository = open_repository(tmp_path)
    plan = make_plan(disk, repository, load_rules(), Options())

    sources = image_sources(plan, disk)

    (source,) = sources
    assert dict(source.arguments) == {"A": "1"}
    assert run_environment(source.service) == {"HOST": "db", "PRICE": "$5"}


def test_a_dockerfile_of_another_service_makes_no_image(tmp_path: Path) -> None:
    """Both services have the root as their context; only one Dockerfile is changed."""
    for name, options in (("one", ""), ("two", " --no-cache-dir")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "requirements.txt").write_text("flask\n")
        (tmp_path / name / "main.py").write_text("print()\n")
        (tmp_path / name / "Dockerfile").write_text(
            f"FROM example.com/python:1\nCOPY {name} .\n"
            f'RUN pip install{options} -r requirements.txt\nCMD ["python", "main.py"]\n'
        )
    (tmp_path / "docker-compose.yml").write_text(
        "services:\n"
        "  one: {build: {context: ., dockerfile: one/Dockerfile}}\n"
        "  two: {build: {context: ., dockerfile: two/Dockerfile}}\n"
    )
    disk, repository = open_repository(tmp_path)
    rules = tuple(rule for rule in load_rules() if rule.id == "containers/pip-cache")

    plan = make_plan(disk, repository, rules, Options())

    assert set(plan.changed()) == {"one/Dockerfile"}
    (source,) = image_sources(plan, disk)
    assert source.dockerfile == "one/Dockerfile"


def test_a_target_cannot_ask_for_its_own_build(tmp_path: Path) -> None:
    """Only the command line runs what a target says; its configuration cannot."""
    (tmp_path / ".mega-optimize.yaml").write_text("sizes: build\n")

    with pytest.raises(ConfigurationError, match="sizes must be one of auto, estimate, off"):
        read_settings(tmp_path)
