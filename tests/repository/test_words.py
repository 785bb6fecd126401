"""The word index answers as a search of every file would."""

from __future__ import annotations

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


def test_only_python_files_count() -> None:
    files = MemoryFiles({"a.txt": b"word", "a.py": b"word"}, {"link.py": "symlink"})
    assert files.holding(b"word") == {"a.py"}
