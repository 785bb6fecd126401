"""CPU seconds of a whole run on the trial repositories, beside those of ruff on the same files.

    make bench TREES=FOLDER
    python -m benchmarks.engine --rules TREE

FOLDER holds a checkout for each repository that ``trials/repositories.json`` names
(``owner+name``). Each program runs as a process of its own, without caches, in turn, and its CPU
time is that which the operating system counted. Ruff (rules UP and PERF) reads Python only; it is
what a user would call fast. Findings are counted, so that doing nothing does not win.

The second table is for those who write rules: what each takes on each tree, in this process, one
after the other. ``first`` holds what a rule is the first to ask for (facts, searches), ``again`` is
what it takes when all of that is known, for every rule and every further snapshot.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import process_time
from typing import TYPE_CHECKING

from mega_optimizer.__main__ import OBJECTS_BETWEEN_COLLECTIONS
from mega_optimizer.engine.plan import Options
from mega_optimizer.engine.planner import make_plan
from mega_optimizer.pipeline import read_target
from mega_optimizer.rules import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.rules import Rule

OURS = ["--check", "--level", "review", "--sizes", "off", "--offline", "--no-cache"]
# A rule that takes more on a tree of two thousand modules should find a cheaper first question.
MUCH_S = 0.1
LITTLE_S = 0.01
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


def rule_rows(tree: Path) -> Iterator[str]:
    """Yield a row for each rule that takes more than a little on ``tree``, the dearest first."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, 100, 100)
    rules = load_rules()
    start = process_time()
    files, repository, _ = read_target(tree)
    scanned = process_time() - start
    spent: dict[str, list[float]] = {rule.id: [] for rule in rules}

    def plan(rules: list[Rule]) -> float:
        start = process_time()
        make_plan(files, repository, rules, Options(level="review"))
        return process_time() - start

    for _ in ("first", "again"):
        without = min(plan([]) for _ in range(3))
        for rule in rules:
            spent[rule.id].append(max(plan([rule]) - without, 0.0))
    yield f"| {tree.name} | (scan) | {scanned:.2f} | |"
    for rule_id, (first, again) in sorted(spent.items(), key=lambda each: -each[1][0]):
        if first >= LITTLE_S:
            mark = " !" if max(first, again) >= MUCH_S else ""
            yield f"| {tree.name} | {rule_id}{mark} | {first:.2f} | {again:.2f} |"
    first, again = (sum(each[turn] for each in spent.values()) for turn in (0, 1))
    yield f"| {tree.name} | (all {len(rules)} rules) | {first:.2f} | {again:.2f} |"


def print_rules(trees: Sequence[Path]) -> None:
    print(f"CPU seconds of each rule; ! is {MUCH_S} or more")
    print("| tree | rule | first | again |\n|---|---|---|---|")
    for tree in trees:
        for each in rule_rows(tree):
            print(each, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="CPU seconds on trial repositories.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".trials"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rules", action="store_true", help="only each rule's share of FOLDER")
    given = parser.parse_args()
    if given.rules:
        print_rules([given.folder])
        return 0
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
    print()
    print_rules(trees)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
