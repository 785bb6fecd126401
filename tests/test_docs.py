"""What is written down is true: generated pages, the list of rules, the walk-through."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate import pages

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(("path", "content"), pages().items(), ids=[path.stem for path in pages()])
def test_rule_pages_are_those_of_the_rules(path: Path, content: str) -> None:
    assert path.read_text(encoding="utf-8") == content, "run python -m docs.generate"


def test_no_page_is_left_of_a_rule_that_is_gone() -> None:
    assert set((CHECKOUT / "docs" / "rules").rglob("*.md")) == set(pages())


def test_what_shows_each_failure_is_there() -> None:
    page = (CHECKOUT / "docs" / "failures.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    tests = "".join(path.read_text("utf-8") for path in (CHECKOUT / "tests").rglob("test_*.py"))
    defined = re.findall(r"^(?:async )?(?:def )?(\w+)(?:\(| = )", tests, re.MULTILINE)
    assert len(named) > 20
    assert named <= set(defined)


def test_the_walk_through_of_contributing_works_word_by_word(tmp_path: Path) -> None:
    """Follow "Add a rule in ten minutes" in a copy: its files, its example, its command."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("mega_optimizer", "rules", "templates", "tests"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    steps = re.findall(
        r"`([\w./-]+/timezone[\w./-]*)`:\n\n   ```\w+\n(.*?)\n   ```", text, re.DOTALL
    )
    assert [path for path, _ in steps] == [
        "rules/containers/timezone/rule.yaml",
        "rules/containers/timezone/examples/added.txtar",
        "mega_optimizer/codemods/containers/timezone.py",
    ]
    for path, indented in steps:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        lines = [line.removeprefix("   ") for line in indented.split("\n")]
        (copy / path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/rules"]
    done = subprocess.run(
        [*command, "-k", "timezone and not must_not_fire and not suppression"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
