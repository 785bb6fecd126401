"""The environment of the programs: ``.venvs/benchmarks-ml``, made from ``requirements.txt``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

from mega_optimizer.engine.resolve import child_environment

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / ".venvs" / "benchmarks-ml"


def python(torch_index: str | None = None) -> Path:
    """Make the environment where it is missing or older than its requirements.

    ``torch_index`` is an index that is asked before the default one, for builds of PyTorch.
    """
    interpreter, made = FOLDER / "bin" / "python", FOLDER / ".made"
    requirements = HERE / "requirements.txt"
    if made.exists() and made.stat().st_mtime >= requirements.stat().st_mtime:
        return interpreter
    run("venv", "--quiet", "--clear", "--python", sys.executable, str(FOLDER))
    index = ["--index", torch_index] if torch_index else []
    run("pip", "install", "--quiet", "--python", str(interpreter), *index, "-r", str(requirements))
    made.touch()
    return interpreter


def run(*arguments: str) -> None:
    subprocess.run([find_uv_bin(), *arguments], env=dict(child_environment(os.environ)), check=True)
