"""The composite action: valid, without the findings of a security linter, and its steps run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.publish.target import FILES, git

CHECKOUT = Path(__file__).resolve().parent.parent
ACTION = CHECKOUT / "action.yml"
PROGRAMS = Path(sys.executable).parent
STEPS = {step["name"]: step for step in YAML(typ="safe").load(ACTION)["runs"]["steps"]}


def run_step(
    name: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the script of a step as a runner does, with the mega-optimize that is tested here."""
    programs = folder / "runner" / "mega-optimizer" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    if not (programs / "mega-optimize").exists():
        (programs / "mega-optimize").symlink_to(PROGRAMS / "mega-optimize")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT")}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]],
        cwd=folder,
        env={**kept, "RUNNER_TEMP": str(folder / "runner"), "LEVEL": "", "ARGS": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "my shop"
    root.mkdir()
    for name, content in FILES.items():
        (root / name).write_text(content)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "--all")
    git(root, "commit", "-q", "-m", "One")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.github-actions"],
        ["zizmor", "--offline", "--no-progress", "--persona=pedantic"],
    ],
    ids=["schema", "security"],
)
def test_it_is_valid(command: list[str]) -> None:
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:], ACTION], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_sees_no_token_and_says_whether_something_would_change(workspace: Path) -> None:
    assert "GITHUB_TOKEN" not in STEPS["Check"]["env"]
    environment = {"TARGET": "my shop", "MODE": "check", "ARGS": "--offline --sizes off"}
    done = run_step("Check", workspace, environment)
    assert done.returncode == 1, done.stderr
    assert "Would change" in done.stdout
    environment["ARGS"] += " --select json"
    assert run_step("Check", workspace, environment).returncode == 0


def test_another_mode_is_refused(workspace: Path) -> None:
    done = run_step("Check", workspace, {"TARGET": "my shop", "MODE": "both"})
    assert done.returncode == 2
    assert done.stdout == "::error::mode must be pr or check, not both\n"


def test_the_level_is_one_word(workspace: Path) -> None:
    environment = {"TARGET": "my shop", "MODE": "check", "LEVEL": "safe --pr"}
    done = run_step("Check", workspace, environment)
    assert done.returncode == 2
    assert "'safe --pr' is not one of" in done.stderr
