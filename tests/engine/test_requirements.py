from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.finding import Fix, Skip, apply_edits
from mega_optimizer.engine.requirements import with_requirements
from mega_optimizer.engine.resolve import Resolver
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.service import Service
from tests.engine.local_index import add_wheel, resolver, serve

FIX = Fix(Place("requirements.txt"), "", requires=("orjson>=3.10",), beside="fastapi")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Resolver]:
    add_wheel(tmp_path / "index", "fastapi", "0.115.6")
    add_wheel(tmp_path / "index", "orjson", "3.11.4")
    with serve(tmp_path / "index") as address:
        yield resolver(tmp_path, address)


def declared(text: bytes, asked: Resolver | None) -> bytes:
    """Return the requirements file after ``FIX`` was completed."""
    files = MemoryFiles({"requirements.txt": text})
    context = Context(Service("api", "", manifests=("requirements.txt",)), files)
    edits = with_requirements(FIX, context, asked, stale_locks=False)
    assert isinstance(edits, tuple), edits
    return apply_edits(text, edits)


def test_where_everything_is_pinned_the_new_requirement_is_pinned_too(index: Resolver) -> None:
    assert declared(b"fastapi==0.115.6\n", index) == b"fastapi==0.115.6\norjson==3.11.4\n"


def test_where_something_has_a_range_the_new_requirement_has_one(index: Resolver) -> None:
    text = b"fastapi>=0.115\n"
    assert declared(text, index) == text + b"orjson>=3.10\n"


def test_without_an_index_the_range_stands() -> None:
    text = b"fastapi==0.115.6\n"
    assert declared(text, None) == text + b"orjson>=3.10\n"


def test_a_requirement_that_makes_the_set_unsolvable_is_not_added(index: Resolver) -> None:
    files = MemoryFiles({"requirements.txt": b"fastapi==0.115.6\n"})
    context = Context(Service("api", "", manifests=("requirements.txt",)), files)
    fix = Fix(Place("requirements.txt"), "", requires=("orjson>=99",), beside="fastapi")
    answer = with_requirements(fix, context, index, stale_locks=False)
    assert isinstance(answer, Skip)
    assert answer.code == "dependency-conflict"
