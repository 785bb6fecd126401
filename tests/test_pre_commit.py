"""The hook for pre-commit, in an environment that pre-commit itself builds from this checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mega_optimizer.cli.prefilter import ARTIFACT
from tests.publish.target import DOCKERFILE, FILES, git

CHECKOUT = Path(__file__).resolve().parent.parent
MANIFEST = CHECKOUT / ".pre-commit-hooks.yaml"
PRE_COMMIT = Path(sys.executable).parent / "pre-commit"
# What pip says where it cannot reach an index.
NO_INDEX = re.compile(
    r"NewConnectionError|ConnectTimeout|Could not find a version|No matching dist"
)


def pre_commit(*arguments: str | Path, folder: Path, home: Path) -> tuple[int, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        [PRE_COMMIT, *arguments],
        cwd=folder,
        env={**kept, "PRE_COMMIT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if NO_INDEX.search(done.stdout):
        if os.environ.get("CI"):
            pytest.fail(done.stdout)
        pytest.skip("no package index: pre-commit cannot build the environment of the hook")
    return done.returncode, done.stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What git tracks or would track here, committed, as a release would be."""
    copy = tmp_path / "source"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0")[:-1]:
        if (CHECKOUT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((CHECKOUT / name).read_bytes())
    git(copy, "init", "-q")
    git(copy, "add", "--all", "--force")
    git(copy, "commit", "-q", "-m", "Release")
    return copy


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    root.mkdir()
    for name, content in FILES.items():
        (root / name).write_text(content)
    (root / "notes.txt").write_text("nothing of interest\n")
    git(root, "init", "-q")
    git(root, "add", "--all")
    git(root, "commit", "-q", "-m", "One")
    return root


def test_the_manifest_is_valid(tmp_path: Path) -> None:
    status, told = pre_commit("validate-manifest", MANIFEST, folder=tmp_path, home=tmp_path)
    assert status == 0, told


@pytest.mark.parametrize(
    ("path", "is_wanted"),
    [
        ("app/main.py", True),
        ("Dockerfile", True),
        ("docker/api.Dockerfile", True),
        ("requirements-dev.txt", True),
        ("requirements/base.in", True),
        ("pyproject.toml", True),
        ("Pipfile", True),
        ("docker-compose.override.yml", True),
        ("environment.yaml", True),
        (".dockerignore", False),
        ("README.md", False),
        ("main.pyx", False),
        ("src/app.js", False),
    ],
)
def test_the_hook_gets_the_files_that_it_looks_at(path: str, is_wanted: bool) -> None:
    (hook,) = YAML(typ="safe").load(MANIFEST)
    assert bool(re.search(hook["files"], path)) == is_wanted
    if is_wanted and not path.endswith(".py"):
        assert ARTIFACT.search(path)


def test_the_hook_rewrites_and_then_passes(source: Path, shop: Path, tmp_path: Path) -> None:
    command = ("try-repo", source, "mega-optimize", "--all-files", "--verbose")
    status, told = pre_commit(*command, folder=shop, home=tmp_path / "home")
    assert status == 1, told
    assert "files were modified by this hook" in told
    assert re.search(r"^Dockerfile:\d+: containers/", told, re.MULTILINE)
    assert (shop / "Dockerfile").read_text() != DOCKERFILE
    git(shop, "add", "--all")
    status, told = pre_commit(*command, folder=shop, home=tmp_path / "home")
    assert status == 0, told
    assert "Passed" in told
