"""The first look of the hook: most files hold nothing that a rule could want."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ARTIFACT = re.compile(
    r"dockerfile|containerfile|procfile|pipfile|requirements|pyproject\.toml|setup\.cfg|"
    r"\.dockerignore|environment\.ya?ml|compose.*\.ya?ml",
    re.IGNORECASE,
)


def nothing_to_look_at(arguments: Sequence[str]) -> bool:
    """Whether none of the files in ``arguments`` can interest a rule.

    Options (what begins with ``-``) are passed over. What cannot be read is of interest, so that
    it is reported.
    """
    paths = [Path(argument) for argument in arguments if not argument.startswith("-")]
    modules = [path for path in paths if path.suffix == ".py"]
    if not paths or any(_may_be_artifact(path) for path in paths):
        return False
    if not modules:
        return True
    literals = _literals()
    return all(_holds_none_of(literals, path) for path in modules)


def _may_be_artifact(path: Path) -> bool:
    return path.suffix != ".py" and ARTIFACT.search(path.name) is not None


def _literals() -> re.Pattern[bytes]:
    from mega_optimizer.rules import load_rules

    every = {literal for rule in load_rules() for literal in rule.literals}
    return re.compile(b"|".join(re.escape(literal) for literal in sorted(every)))


def _holds_none_of(literals: re.Pattern[bytes], path: Path) -> bool:
    try:
        return path.is_file() and literals.search(path.read_bytes()) is None
    except OSError:
        return False
