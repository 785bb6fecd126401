"""The little services of examples, before and after their rule, and programs that run in them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mega_optimizer.examples import read_example
from mega_optimizer.rules import load_rules


def written(rule_id: str, example: str, folder: Path) -> tuple[Path, Path]:
    """Write an example; return the folder before the rule and the folder after it."""
    rule = next(each for each in load_rules() if each.id == rule_id)
    found = read_example(rule.folder / "examples" / f"{example}.txtar")
    sides = (("before", dict(found.before)), ("after", {**found.before, **found.after}))
    for side, files in sides:
        for path, content in files.items():
            target = folder / side / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return folder / "before", folder / "after"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A rewritten service: its folder, and the interpreter that has what it declares."""

    folder: Path
    python: Path

    def copy(self, folder: Path, path: str, *changes: tuple[str, str]) -> Checkout:
        """Return a copy in which ``path`` has new text for each old one."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
        text = (folder / path).read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        (folder / path).write_text(text)
        return Checkout(folder, self.python)


class Program:
    """A Python program that runs in a service's folder, with what it prints as JSON lines."""

    def __init__(
        self,
        folder: Path,
        source: str,
        environment: Mapping[str, str],
        python: Path | str = sys.executable,
    ) -> None:
        self._process = subprocess.Popen(
            [python, "-c", f"import json, sys\nsys.path.insert(0, '.')\n{source}"],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> Any:  # noqa: ANN401
        """Return the next line that the program prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the program ended with {self._process.wait()}"
        return json.loads(line)

    def go_on(self) -> None:
        """Let a program continue that waits in ``sys.stdin.readline()``."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Wait until the program has ended by itself, without an error."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=60) == 0


def answers(
    folder: Path,
    source: str,
    environment: Mapping[str, str],
    python: Path | str = sys.executable,
) -> list[Any]:
    """Run a program to its end; return all that it prints."""
    program = Program(folder, source, environment, python)
    assert program._process.stdout is not None
    found = [json.loads(line) for line in program._process.stdout]
    program.end()
    return found
