"""Run the own test suites of public repositories before and after the rewrite.

    python -m benchmarks.suites FOLDER

FOLDER holds checkouts (``owner+name``). Each suite runs in an environment of its own, on the files
as they are and on what ``--level review`` makes of them; the outcome of every test is compared.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from mega_optimizer.engine.resolve import child_environment


@dataclass(frozen=True, slots=True)
class Suite:
    """How to run the tests of one repository; ``outcome`` finds a test and its result."""

    tree: str
    install: tuple[str, ...]
    command: tuple[str, ...]
    outcome: re.Pattern[str]


SUITES = (
    Suite(
        "mher+flower",
        ("-r", "requirements/default.txt", "pytest", "redis"),
        ("-m", "pytest", "tests/unit", "-v", "--tb=no", "-p", "no:cacheprovider"),
        re.compile(r"^(\S+::\S+.*?) (PASSED|FAILED|ERROR|SKIPPED)", re.MULTILINE),
    ),
    Suite(
        "miguelgrinberg+microblog",
        ("-r", "requirements.txt",),
        ("-m", "unittest", "-v", "tests"),
        re.compile(r"^(\w+ \(\S+\)).* (ok|FAIL|ERROR|skipped.*)$", re.MULTILINE),
    ),
)  # fmt: skip


def outcomes(suite: Suite, tree: Path, folder: Path) -> dict[str, str]:
    """Install and run the suite on ``tree``; return test → outcome."""
    environment = dict(child_environment(os.environ))
    python = folder / "venv" / "bin" / "python"
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder / "venv"], check=True)
    install: list[str | Path] = [uv, "pip", "install", "-q", "--python", python, *suite.install]
    subprocess.run(install, cwd=tree, env=environment, check=True)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run(
        [python, *suite.command],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    found = dict(suite.outcome.findall(done.stdout))
    if not found:
        raise SystemExit(f"{suite.tree}: no test ran\n{done.stdout[-2000:]}")
    return found


def rewritten(tree: Path, folder: Path) -> tuple[Path, list[str]]:
    """Return a copy of ``tree`` that level review has rewritten, and the rules that did it."""
    copy = folder / tree.name
    subprocess.run(["cp", "-R", f"{tree}/.", str(copy)], check=True)
    options = ["--level", "review", "--sizes", "off", "--allow-dirty"]
    subprocess.run(
        [sys.executable, "-m", "mega_optimizer", "optimize", str(copy), *options],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    changed = subprocess.run(
        ["git", "-C", str(copy), "status", "--porcelain"],
        capture_output=True,
        text=True,
        check=True,
    )
    return copy, [line[3:] for line in changed.stdout.splitlines()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    different = 0
    print(
        "| repository | files rewritten | tests | outcomes before | after |\n|---|---|---|---|---|"
    )
    for suite in SUITES:
        tree = given.folder / suite.tree
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            before = outcomes(suite, tree, Path(one))
            copy, changed = rewritten(tree, Path(other))
            after = outcomes(suite, copy, Path(other))
        different += before != after
        cells = [
            suite.tree.replace("+", "/"),
            ", ".join(changed) or "none",
            str(len(before)),
            counted(before),
            counted(after) if before != after else "the same",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    return 1 if different else 0


def counted(found: dict[str, str]) -> str:
    results = list(found.values())
    return ", ".join(f"{results.count(name)} {name}" for name in sorted(set(results)))


if __name__ == "__main__":
    raise SystemExit(main())
