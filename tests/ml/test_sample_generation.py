"""The generating services of the sample keep passing their own tests after the rewrite.

They run on whatever torch the index gives for its version, in one environment: it is gigabytes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_sample_repository import (
    NEED_TORCH,
    add,
    copy_of_the_sample,
    install,
    optimize,
    results,
    run,
)

Results = dict[str, dict[str, str]]

pytestmark = pytest.mark.ml
# An index of CPU builds that a rule adds, and where it says so in the version.
CPU_INDEX = re.compile(
    r"^(?:--(?:extra-)?index-url .*|--index-strategy .*)\n|\+cpu\b", re.MULTILINE
)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_sample(tmp_path_factory.mktemp("before"))


@pytest.fixture(scope="module", params=["safe", "review"])
def after(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    copy = copy_of_the_sample(tmp_path_factory.mktemp("after"))
    optimize(copy, request.param, *(f"--service={service}" for service in NEED_TORCH))
    return copy


@pytest.fixture(scope="module")
def python(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the environment, with what the first service declares."""
    return install(before / "services" / NEED_TORCH[0], tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="module")
def expected(before: Path, python: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Run the tests of the services as they are."""
    return {service: outcomes(before, service, python, tmp_path_factory) for service in NEED_TORCH}


def outcomes(
    checkout: Path, service: str, python: Path, folders: pytest.TempPathFactory
) -> dict[str, str]:
    folder = checkout / "services" / service
    requirements = folder / "requirements.txt"
    requirements.write_text(CPU_INDEX.sub("", requirements.read_text()))
    add(folder, python)
    return results(folder, python, folders.mktemp(service) / "report.xml", {})


@pytest.mark.parametrize("service", NEED_TORCH)
def test_own_tests_give_the_same_results(
    after: Path,
    expected: Results,
    service: str,
    python: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    assert f"services/{service}/" in run("git", "status", "--porcelain", folder=after)
    assert set(expected[service].values()) == {"passed"}
    assert outcomes(after, service, python, tmp_path_factory) == expected[service]
