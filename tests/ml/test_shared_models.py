"""Eight concurrent requests get from shared models what they get one after another.

The programs run on the code that ``ml/model-cache`` made of the sample, a hundred times over;
without the lock that the rule wrote, they find other results or errors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mega_optimizer.engine.resolve import child_environment
from tests.test_sample_repository import copy_of_the_sample, install, optimize

pytestmark = pytest.mark.ml
PROGRAMS = Path(__file__).resolve().parent / "programs"
ROUNDS = "100"
# service, program, the module that takes turns, its lock
SHARED = [
    pytest.param(
        "image-generation", "shared_pipeline.py", "app/pipeline.py", "_pipeline_lock", id="pipeline"
    ),
    pytest.param(
        "video-generation",
        "shared_tokenizer.py",
        "video/generator.py",
        "models.tokenizer_lock",
        id="tokenizer",
    ),
]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = copy_of_the_sample(tmp_path_factory.mktemp("shared"))
    optimize(copy, "review", "--select", "ml/model-cache")
    return copy / "services"


@pytest.fixture(scope="module")
def python(services: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(services / "image-generation", tmp_path_factory.mktemp("environment"))


def run_program(folder: Path, program: str, python: Path) -> subprocess.CompletedProcess[str]:
    environment = dict(child_environment(os.environ)) | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [python, PROGRAMS / program, ROUNDS],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("service", "program", "module", "lock"), SHARED)
def test_threads_get_what_one_got(
    services: Path, python: Path, service: str, program: str, module: str, lock: str
) -> None:
    assert f"with {lock}:" in (services / service / module).read_text()
    done = run_program(services / service, program, python)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("service", "program", "module", "lock"), SHARED)
def test_without_the_lock_they_do_not(
    services: Path,
    python: Path,
    service: str,
    program: str,
    module: str,
    lock: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / service
    shutil.copytree(services / service, folder)
    text = (folder / module).read_text()
    (folder / module).write_text(text.replace(f"with {lock}:", "if True:"))
    done = run_program(folder, program, python)
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    # what threads did to each other, not a mistake of this test
    expected = ("another image", "another text", "IndexError", "Already borrowed", "size of tensor")
    assert any(each in told for each in expected), told
