"""A sibling route streams the text of a small language model, on a real server.

The program runs on what ``ml/stream-generation`` made of the sample, with and without models that
are kept; mistakes in the code that the rule writes are seen.
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
PROGRAM = Path(__file__).resolve().parent / "programs" / "streamed_text.py"
SERVICE = "image-generation"
MODULE = "app/text_stream.py"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = copy_of_the_sample(tmp_path_factory.mktemp("streams"))
    optimize(copy, "review", f"--service={SERVICE}")
    return copy / "services" / SERVICE


@pytest.fixture(scope="module")
def python(service: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(service, tmp_path_factory.mktemp("environment"))


def run_program(folder: Path, python: Path) -> subprocess.CompletedProcess[str]:
    environment = dict(child_environment(os.environ)) | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [python, PROGRAM],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_stream_is_the_answer_in_pieces(service: Path, python: Path) -> None:
    done = run_program(service, python)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_it_is_so_where_nothing_else_was_changed(python: Path, tmp_path: Path) -> None:
    copy = copy_of_the_sample(tmp_path)
    optimize(copy, "review", "--select", "ml/stream-generation")
    done = run_program(copy / "services" / SERVICE, python)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "old", "new", "seen"),
    [
        pytest.param(MODULE, "left.set()", "pass", "check_leaving", id="never-stops"),
        pytest.param(MODULE, "hand_on(error)", "hand_on(None)", "check_error", id="no-error"),
        pytest.param(MODULE, "async with _slots:", "if True:", "check_most", id="no-limit"),
        pytest.param(
            "app/prompts.py",
            "max_new_tokens=tokens,\n",
            "max_new_tokens=1,\n",
            "check_text",
            id="other-arguments",
        ),
        pytest.param(
            MODULE, "skip_prompt: bool = False", "skip_prompt: bool = True", "check_text", id="cut"
        ),
    ],
)
def test_mistakes_are_seen(
    service: Path, python: Path, tmp_path: Path, module: str, old: str, new: str, seen: str
) -> None:
    folder = tmp_path / SERVICE
    shutil.copytree(service, folder)
    text = (folder / module).read_text()
    assert old in text
    (folder / module).write_text(text.replace(old, new))
    done = run_program(folder, python)
    assert done.returncode == 1, done.stdout + done.stderr
    assert seen in done.stdout
