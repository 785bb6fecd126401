"""CPU seconds of a whole run on the trial repositories, beside those of ruff on the same files.

    make bench TREES=FOLDER

FOLDER holds a checkout for each repository that ``trials/repositories.json`` names
(``owner+name``). Each program runs as a process of its own, without caches, in turn, and its CPU
time is that which the operating system counted. Ruff (rules UP and PERF) reads Python only; it is
what a user would call fast. Findings are counted, so that doing nothing does not win.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

OURS = ["--check", "--level", "review", "--sizes", "off", "--offline", "--no-cache"]
RUFF = ["check", "--no-cache", "--isolated", "--select", "UP,PERF", "--exit-zero", "--quiet"]


def cpu_seconds(command: list[str]) -> tuple[float, str]:
    """Run ``command`` and return the CPU seconds that it and its children took, and its stdout."""
    before = getrusage(RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = getrusage(RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, done.stdout


def python_files(tree: Path) -> int:
    return sum(1 for _ in tree.rglob("*.py"))


def row(tree: Path, rounds: int) -> str:
    binaries = Path(sys.executable).parent
    ours = [str(binaries / "mega-optimize"), str(tree), *OURS, "--format", "json"]
    ruff = [str(binaries / "ruff"), *RUFF, str(tree)]
    times: dict[str, list[float]] = {"ours": [], "ruff": []}
    findings = 0
    for _ in range(rounds):
        spent, text = cpu_seconds(ours)
        times["ours"].append(spent)
        findings = len(json.loads(text)["findings"])
        times["ruff"].append(cpu_seconds(ruff)[0])
    told = [
        f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})"  # noqa: RUF001
        for each in times.values()
    ]
    return f"| {tree.name} | {python_files(tree)} | {findings} | {told[0]} | {told[1]} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="CPU seconds on trial repositories.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".trials"))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    trees = sorted(path for path in given.folder.glob("*") if path.is_dir())
    if not trees:
        print(
            f"{given.folder} holds no checkouts. Clone the repositories that "
            "trials/repositories.json names, at their commits, into OWNER+NAME below it, "
            "or say where they are: make bench TREES=FOLDER",
            file=sys.stderr,
        )
        return 2
    print(f"CPU seconds, median (least–most) of {given.rounds} runs")  # noqa: RUF001
    print("| tree | .py files | findings | mega-optimize | ruff UP,PERF |\n|---|---|---|---|---|")
    for tree in trees:
        print(row(tree, given.rounds), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
