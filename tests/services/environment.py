"""A virtual environment of a test's own, with what a service declares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from mega_optimizer.engine.resolve import child_environment


def installed(folder: Path, *packages: str | Path) -> Path:
    """Install ``packages`` into a new environment; return its interpreter.

    A path is a file of requirements. Skips, but in CI, where the package index does not answer.
    """
    uv, python = find_uv_bin(), folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    given = [f"--requirement={each}" if isinstance(each, Path) else each for each in packages]
    done = subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, *given],
        env=child_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"the package index does not answer: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return python
