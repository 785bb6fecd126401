"""Version gates where no lock and no image say what a service runs with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mega_optimizer.codemods.context import Context
from mega_optimizer.engine.gate import closed_gate
from mega_optimizer.engine.resolve import newest_python
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.service import Service
from mega_optimizer.rules import Rule
from tests.engine.local_index import add_wheel, resolver, serve

PROJECT = b"""[project]
name = "shop"
version = "1"
requires-python = ">=3.8"
dependencies = ["web"]
"""


def needing(wanted: str) -> Rule:
    return Rule(
        id="test/gate",
        title="",
        level="safe",
        because="",
        why="",
        folder=Path(),
        artifacts=(),
        gain={},
        versions=(("web", wanted),),
    )


@pytest.mark.parametrize(
    ("wanted", "code"),
    [("<1.5", "version-excluded"), ("<3", None), (">=1", None), (">=1.5", "version-excluded")],
)
def test_an_upper_bound_holds_for_new_pythons_too(
    wanted: str, code: str | None, tmp_path: Path
) -> None:
    """Web 2 needs a newer Python than the lowest that the project allows, which is given web 1."""
    add_wheel(tmp_path / "index", "web", "1.0", python=">=3.8")
    add_wheel(tmp_path / "index", "web", "2.0", python=">=3.10")
    files = MemoryFiles({"pyproject.toml": PROJECT})
    context = Context(Service("shop", "", manifests=("pyproject.toml",)), files)
    with serve(tmp_path / "index") as address:
        closed = closed_gate(needing(wanted), context, resolver(tmp_path / "home", address))
    assert (closed[0] if closed else None) == code


def test_the_newest_python_is_one_that_the_project_allows() -> None:
    from packaging.specifiers import SpecifierSet

    assert newest_python(SpecifierSet(">=3.8,<3.10")) == "3.9"
