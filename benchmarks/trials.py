"""Try all rules on real repositories: what changes, what is skipped, and how long it takes.

    python -m benchmarks.trials FOLDER [--write]

FOLDER holds checkouts (or unpacked sdists), one folder a tree. Each tree is planned at level
``review`` twice, the second time upon the result of the first, which must change nothing.
Verdicts stand in ``trials/<name>.jsonl``, one line a finding that is applied; what has no verdict
yet, or another verdict than right, is listed. ``--write`` renews the table of ``docs/trials.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent.parent
TABLE = HERE / "docs" / "trials.md"


@dataclass(frozen=True, slots=True)
class Trial:
    """One tree: the result of the first run, what a second run changed, and CPU seconds."""

    name: str
    document: dict[str, Any]
    changed_again: list[str]
    cpu_s: float

    @property
    def applied(self) -> list[dict[str, Any]]:
        return [each for each in self.document["findings"] if each["status"] == "would-apply"]


def optimize(tree: Path, *options: str) -> tuple[str, float]:
    """Run the command line on ``tree``; return its stdout and CPU seconds."""
    command = [sys.executable, "-m", "mega_optimizer", "optimize", str(tree), *options]
    before = getrusage(RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = getrusage(RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{tree}: exit status {done.returncode}\n{done.stderr}")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, seconds


def try_tree(tree: Path) -> Trial:
    options = ["--level", "review", "--sizes", "off"]
    text, cpu_s = optimize(tree, *options, "--check", "--format", "json")
    diff, _ = optimize(tree, *options, "--diff")
    changed_again: list[str] = []
    if diff:
        with TemporaryDirectory() as folder:
            copy = Path(folder) / tree.name
            subprocess.run(["cp", "-R", f"{tree}/.", str(copy)], check=True)
            subprocess.run(
                ["git", "apply", "--unsafe-paths", "--directory", str(copy), "-"],
                input=diff,
                text=True,
                cwd=folder,
                check=True,
            )
            if (copy / ".git").exists():
                subprocess.run(["git", "-C", str(copy), "add", "--all"], check=True)
            again, _ = optimize(copy, *options, "--check", "--format", "json")
            changed_again = [
                path for each in json.loads(again)["changes"] for path in each["paths"]
            ]
    return Trial(tree.name, json.loads(text), changed_again, cpu_s)


def verdicts(name: str) -> dict[str, dict[str, str]]:
    path = HERE / "trials" / f"{name}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {each["fingerprint"]: each for each in map(json.loads, lines)}


def row(trial: Trial) -> str:
    document = trial.document
    changes = Counter(each["rule"] for each in trial.applied)
    skips = Counter(each["code"] for each in document["findings"] if each["status"] == "skipped")
    commit = (document["repository"]["commit"] or "sdist")[:10]
    cells = [
        trial.name.replace("+", "/"),
        commit,
        str(len(document["services"])),
        ", ".join(f"{rule} {count}" for rule, count in changes.most_common()) or "none",
        ", ".join(f"{code} {count}" for code, count in skips.most_common()) or "none",
        "none" if not trial.changed_again else " ".join(trial.changed_again),
        f"{trial.cpu_s:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def table(trials: list[Trial]) -> str:
    head = "| tree | commit | services | changes by rule | skips by code | second run | CPU s |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(row, trials)]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is not a folder")
    trials = [try_tree(tree) for tree in sorted(given.folder.iterdir()) if tree.is_dir()]
    text = table(trials)
    print(text)
    unread = 0
    for trial in trials:
        known = verdicts(trial.name)
        for each in trial.applied:
            verdict = known.get(each["fingerprint"], {}).get("verdict", "unread")
            if verdict != "right":
                unread += 1
                print(f"{verdict}: {trial.name} {each['path']}:{each['line']} {each['rule']}")
    if given.write:
        start = TABLE.read_text().index("| tree |")
        TABLE.write_text(TABLE.read_text()[:start] + text)
    return 1 if unread or any(trial.changed_again for trial in trials) else 0


if __name__ == "__main__":
    raise SystemExit(main())
