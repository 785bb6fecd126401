"""The word index answers as a search of every file would."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mega_optimizer.engine.workspace import Workspace
from mega_optimizer.repository.files import MemoryFiles

TEXTS = st.lists(st.sampled_from([b"ab", b"a", b"_b", b".", b" ", b"\n", b"\xe9", b"("])).map(
    b"".join
)


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS.filter(bool), TEXTS)
def test_it_finds_what_a_search_of_every_file_finds(
    contents: list[bytes], literal: bytes, changed: bytes
) -> None:
    files = MemoryFiles({f"{number}.py": each for number, each in enumerate(contents)})
    later = Workspace(files).with_changes({"0.py": changed, "new.py": changed})
    for snapshot in (files, later):
        searched = {path for path in snapshot.paths if literal in snapshot.read(path)}
        assert snapshot.holding(literal) == searched
        for _ in range(2):  # searched, then remembered
            matches = snapshot.matching(re.escape(literal))
            assert {path for path in snapshot.paths if matches(path)} == searched


def test_only_python_files_count() -> None:
    files = MemoryFiles({"a.txt": b"word", "a.py": b"word"}, {"link.py": "symlink"})
    assert files.holding(b"word") == {"a.py"}


def test_what_cannot_be_read_matches_nothing() -> None:
    files = MemoryFiles({"a.py": b""}, {"link.py": "symlink"})
    matches = files.matching(b"")
    assert [path for path in files.paths if matches(path)] == ["a.py"]


def test_a_later_snapshot_leaves_the_answers_of_an_earlier_one_alone() -> None:
    earlier = Workspace(MemoryFiles({"a.py": b"old"}))
    assert earlier.matching(b"old")("a.py")
    later = earlier.with_changes({"a.py": b"new"})
    assert not later.matching(b"old")("a.py")
    assert earlier.matching(b"old")("a.py")
