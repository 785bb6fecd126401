"""The services of the sample repository keep passing their own tests after the rewrite.

Where a service's tests can use a real PostgreSQL or Redis, they do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from mega_optimizer.engine.resolve import child_environment
from tests.services.postgres import postgresql
from tests.services.redis import redis_server

SAMPLE = Path(__file__).resolve().parent.parent / "fixtures" / "sample_repo"
# They need torch; tests/ml runs theirs.
NEED_TORCH = ("image-generation", "moderation", "video-generation")
SERVICES = sorted({path.name for path in (SAMPLE / "services").iterdir()}.difference(NEED_TORCH))


def run(*command: str | Path, folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_of_the_sample(folder: Path) -> Path:
    copy = folder / "sample"
    shutil.copytree(SAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run("git", "init", "--quiet", folder=copy)
    run("git", "add", "--all", folder=copy)
    run("git", *identity, "commit", "--quiet", "--message", "Sample", folder=copy)
    return copy


def optimize(copy: Path, level: str, *options: str) -> None:
    options = ("--level", level, "--offline", "--sizes", "off", *options)
    run(sys.executable, "-m", "mega_optimizer", "optimize", copy, *options, folder=copy)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_sample(tmp_path_factory.mktemp("before"))


@pytest.fixture(scope="module", params=["safe", "review"])
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory, level: str) -> Path:
    copy = copy_of_the_sample(tmp_path_factory.mktemp("after"))
    optimize(copy, level)
    assert run("git", "status", "--porcelain", folder=copy)
    return copy


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    with postgresql() as database, redis_server() as redis:
        yield {"TEST_DATABASE_URL": database.url, "TEST_REDIS_URL": redis.url}


def install(service: Path, folder: Path) -> Path:
    """Make an environment with what ``service`` declares below ``folder``; return its Python."""
    python = folder / "venv" / "bin" / "python"
    run(
        find_uv_bin(),
        "venv",
        "--quiet",
        "--python",
        sys.executable,
        folder / "venv",
        folder=service,
    )
    add(service, python)
    return python


def add(service: Path, python: Path) -> None:
    """Install what ``service`` declares into the environment of ``python``."""
    requirements = [
        f"--requirement={name}" for name in ("requirements.txt", "requirements-dev.txt")
    ]
    installed = subprocess.run(
        [find_uv_bin(), "pip", "install", "--quiet", "--python", python, *requirements],
        cwd=service,
        env=dict(child_environment(os.environ)),
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip(f"the package index does not answer: {installed.stderr.strip()[-200:]}")
    assert installed.returncode == 0, installed.stderr


def results(service: Path, python: Path, report: Path, servers: dict[str, str]) -> dict[str, str]:
    """Run the tests of ``service``, and return test id → outcome."""
    environment = dict(child_environment(os.environ)) | servers
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    options = ["--quiet", "-p", "no:cacheprovider", f"--junitxml={report}"]
    run(python, "-m", "pytest", *options, folder=service, environment=environment)
    return {
        f"{case.get('classname')}::{case.get('name')}": next(
            (child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed"
        )
        for case in ElementTree.parse(report).iter("testcase")
    }


@pytest.mark.parametrize("service", SERVICES)
def test_own_tests_give_the_same_results(
    before: Path, after: Path, servers: dict[str, str], service: str, tmp_path: Path
) -> None:
    outcomes = []
    for name, checkout in (("before", before), ("after", after)):
        folder = checkout / "services" / service
        python = install(folder, tmp_path / name)
        outcomes.append(results(folder, python, tmp_path / f"{name}.xml", servers))
    assert "passed" in outcomes[0].values()
    assert outcomes[1] == outcomes[0]


def test_every_service_is_rewritten(after: Path) -> None:
    changed = run("git", "status", "--porcelain", folder=after)
    assert all(f"services/{service}/" in changed for service in SERVICES)


def test_second_run_changes_nothing(after: Path, level: str) -> None:
    run("git", "add", "--all", folder=after)
    first = run("git", "diff", "HEAD", folder=after)
    optimize(after, level, "--allow-dirty")
    assert run("git", "diff", "HEAD", folder=after) == first
