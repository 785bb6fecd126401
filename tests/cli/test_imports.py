"""Start-up is fast because heavy modules load when they are used, not before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = {"libcst", "httpx", "git", "rich", "jinja2", "ruamel", "tree_sitter", "typer", "tomlkit"}


def modules_after(arguments: list[str], folder: Path) -> set[str]:
    """Run the command line on ``arguments`` and return the top-level modules that it loaded."""
    program = (
        "import json, os, sys\n"
        "from mega_optimizer.__main__ import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        "os.write(int(os.environ['REPORT']), json.dumps(sorted(sys.modules)).encode())\n"
    )
    reading, writing = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, "REPORT": str(writing)},
        pass_fds=[writing],
        capture_output=True,
        check=True,
    )
    os.close(writing)
    assert not done.stderr
    with os.fdopen(reading, "rb") as report:
        return {name.split(".")[0] for name in json.load(report)}


def test_version_loads_nothing_heavy(tmp_path: Path) -> None:
    assert not modules_after(["--version"], tmp_path) & HEAVY


def test_hook_on_a_file_without_a_hit_loads_neither_libcst_nor_typer(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("def double(x: int) -> int:\n    return 2 * x\n")
    loaded = modules_after(["hook", "plain.py"], tmp_path)
    assert not loaded & (HEAVY - {"ruamel"})


def test_rules_load_neither_libcst_nor_httpx(tmp_path: Path) -> None:
    assert not modules_after(["rules"], tmp_path) & {"libcst", "httpx", "git", "rich", "jinja2"}


def test_no_rule_loads_libcst_before_it_has_something_to_rewrite(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("fastapi==0.115.6\n")
    (tmp_path / "main.py").write_text("from fastapi import FastAPI\n\napp = FastAPI()\n")
    loaded = modules_after(["--check", "--offline", "--sizes", "off", "."], tmp_path)
    assert not loaded & {"libcst", "httpx", "git", "jinja2"}
