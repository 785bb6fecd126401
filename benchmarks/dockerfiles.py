"""Check every Python Dockerfile of real repositories: rewritten, or left alone for a stated reason.

    python -m benchmarks.dockerfiles FOLDER [--output FILE] [--resolve]

FOLDER holds checkouts, one folder a tree. The container rules run at level ``review``, without an
index unless ``--resolve`` is given. Of each rewritten Dockerfile: hadolint finds nothing new (but
that Debian packages are not pinned, where a rule has to install one), the
instructions that BuildKit's parser lists differ only in the kinds that its rules say they change,
our model reads the same list, and a second run changes nothing. Exit status 1 where one does not
hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import dockerfile as buildkit

from mega_optimizer.engine.plan import Options
from mega_optimizer.engine.planner import make_plan
from mega_optimizer.repository.dockerfile import Dockerfile, is_python_stage, parse_dockerfile
from mega_optimizer.repository.scan import open_repository, scan
from mega_optimizer.rules import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.engine.plan import Plan

# What each rule says that it changes; those that are not named may change everything.
CHANGES = {
    "containers/alpine-base": {"FROM", "RUN"},
    "containers/apt-lists": {"RUN"},
    "containers/apt-recommends": {"RUN"},
    "containers/build-tools": {"FROM", "RUN"},
    "containers/copy-chown": {"ADD", "COPY", "RUN"},
    "containers/cpu-torch": {"RUN"},
    "containers/cuda-runtime": {"FROM"},
    "containers/exec-form": {"CMD", "ENTRYPOINT"},
    "containers/layer-order": {"ADD", "COPY", "RUN"},
    "containers/pip-cache": {"RUN"},
    "containers/slim-base": {"FROM", "RUN"},
}
# Debian packages are not pinned: mirrors drop a version as soon as the next one is there.
NOT_PINNED = "DL3008"


@dataclass(slots=True)
class Checked:
    """One Dockerfile: what was done to it, by which rules, or why not; and what went wrong."""

    tree: str
    path: str
    rules: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    findings_before: Counter[str] = field(default_factory=Counter)
    findings_after: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def gone(self) -> list[str]:
        """The hadolint codes that are found less often than before."""
        return sorted(self.findings_before - self.findings_after)


def hadolint(content: bytes) -> Counter[str]:
    """Return how often hadolint finds what."""
    command = [str(Path(sys.executable).parent / "hadolint"), "--no-fail", "--format", "json", "-"]
    done = subprocess.run(command, input=content, capture_output=True, check=True)
    return Counter(each["code"] for each in json.loads(done.stdout or b"[]"))


def instructions(content: bytes) -> list[tuple[str, int, tuple[str, ...], tuple[str, ...]]]:
    """Return what BuildKit's parser lists: keyword, line, flags and values."""
    text = content.decode("utf-8", "replace")
    return [
        (command.cmd.upper(), command.start_line, tuple(command.flags), tuple(command.value))
        for command in buildkit.parse_string(text)
    ]


def changed_kinds(before: bytes, after: bytes) -> set[str]:
    """Return the keywords of the instructions that one of the two lists has and the other not."""
    ours, theirs = (
        Counter((kind, flags, values) for kind, _, flags, values in instructions(content))
        for content in (before, after)
    )
    return {kind for kind, _, _ in (ours - theirs) + (theirs - ours)}


def check_rewritten(checked: Checked, before: bytes, after: bytes) -> None:
    """Note what does not hold of a rewritten Dockerfile."""
    checked.findings_before, checked.findings_after = hadolint(before), hadolint(after)
    new = checked.findings_after.keys() - checked.findings_before.keys() - {NOT_PINNED}
    checked.faults += (f"hadolint newly finds {code}" for code in sorted(new))
    allowed: set[str] = set()
    for rule in checked.rules:
        allowed |= CHANGES.get(rule, changed_kinds(before, after))
    for kind in sorted(changed_kinds(before, after) - allowed):
        checked.faults.append(f"{kind} changed, of which no rule speaks")
    model = parse_dockerfile(checked.path, after)
    if not isinstance(model, Dockerfile):
        checked.faults.append(f"it can no longer be read: {model.message}")
    elif [(each.keyword, each.line, each.values) for each in model.instructions] != [
        (kind, line, values) for kind, line, _, values in instructions(after)
    ]:
        checked.faults.append("our model reads another list than BuildKit")


def check_tree(tree: Path, *, resolve: bool) -> Iterator[Checked]:
    """Yield each Python Dockerfile of ``tree``."""
    resolver = None
    if resolve:
        from mega_optimizer.engine.resolve import Resolver, default_cache

        resolver = Resolver(cache=default_cache())
    rules = [rule for rule in load_rules() if rule.id.startswith("containers/")]
    options = Options(level="review", resolver=resolver)
    files, repository = open_repository(tree)
    plan = make_plan(files, repository, rules, options)
    again = make_plan(plan.result, scan(plan.result, tree.name), rules, options)
    changed, changed_again = plan.changed(), again.changed()
    shipped = {service.dockerfile for service in repository.services}
    for path in files.paths:
        if "dockerfile" not in path.lower().rpartition("/")[2]:
            continue
        content = files.read(path)
        model = parse_dockerfile(path, content)
        if not isinstance(model, Dockerfile):
            if b"python" in content and model.code != "syntax-error":
                yield Checked(tree.name, path, codes=[model.code])
            continue
        if not any(is_python_stage(model, stage) for stage in model.stages):
            continue
        checked = Checked(tree.name, path, *_of_plan(plan, path))
        if path in changed and changed[path][1] is not None:
            check_rewritten(checked, content, changed[path][1] or b"")
        elif not checked.codes:
            checked.codes = ["nothing-to-do" if path in shipped else "no-service"]
        if path in changed_again:
            checked.faults.append("a second run changes it again")
        yield checked


def _of_plan(plan: Plan, path: str) -> tuple[list[str], list[str]]:
    """Return the rules that changed ``path``, and the codes of what was skipped there."""
    rules = {each.rule for each in plan.changes if path in each.before}
    codes = {f"{each.rule.partition('/')[2]}: {each.code}" for each in plan.findings
             if each.place.path == path and each.status == "skipped"}  # fmt: skip
    return sorted(rules), sorted(codes)


def row(checked: Checked) -> str:
    """Return a line of the table."""
    short = ", ".join(rule.partition("/")[2] for rule in checked.rules) or "none"
    more = sorted((checked.findings_after - checked.findings_before).items())
    found = f"{checked.findings_before.total()} → {checked.findings_after.total()}"
    found += "".join(f", {code} +{count}" for code, count in more)
    cells = [
        checked.tree.replace("+", "/"),
        checked.path,
        short,
        found if checked.rules else "",
        "; ".join(checked.codes) or "none",
        "; ".join(checked.faults) or "none",
    ]
    return "| " + " | ".join(cells).replace("\n", " ") + " |"


def table(all_checked: list[Checked]) -> str:
    """Return the table, and what it comes to."""
    head = "| tree | Dockerfile | rewritten by | hadolint | left alone, because | faults |"
    lines = [head, "|---|---|---|---|---|---|", *map(row, all_checked), ""]
    rewritten = [each for each in all_checked if each.rules]
    faults = sum(len(each.faults) for each in all_checked)
    gone = Counter(code for each in rewritten for code in each.gone)
    codes = ", ".join(f"{code} in {count}" for code, count in gone.most_common()) or "none"
    lines.append(
        f"{len(all_checked)} Python Dockerfiles: {len(rewritten)} rewritten, "
        f"{len(all_checked) - len(rewritten)} left alone for a stated reason, {faults} faults. "
        f"What hadolint no longer finds: {codes}."
    )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Check all trees of a folder and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--resolve", action="store_true", help="ask the package index")
    given = parser.parse_args()
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is not a folder")
    trees = [tree for tree in sorted(given.folder.iterdir()) if tree.is_dir()]
    all_checked = [each for tree in trees for each in check_tree(tree, resolve=given.resolve)]
    text = table(all_checked)
    print(text)
    if given.output:
        about = f"# Every Python Dockerfile of the trial repositories\n\n{__doc__}\n"
        given.output.write_text(about + text)
    return 1 if any(each.faults for each in all_checked) else 0


if __name__ == "__main__":
    raise SystemExit(main())
