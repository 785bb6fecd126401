from __future__ import annotations

import pytest

from mega_optimizer.engine.suppressions import suppressions
from mega_optimizer.repository.place import Place

RULE = "containers/pip-cache"


def covered(text: str, line: int, end_line: int | None = None) -> bool:
    place = Place("f", line, end_line=end_line)
    return any(each.covers(RULE, place) for each in suppressions("f", text.encode()))


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("x  # mega-optimize: ignore[containers/pip-cache] why\n", 1, True),
        ("# mega-optimize: ignore[containers/pip-cache]\nx\n", 2, True),
        ("# mega-optimize: ignore[containers]\nx\n", 2, True),
        ("# mega-optimize: ignore[serving/uvloop, containers/pip-cache]\nx\n", 2, True),
        ("# mega-optimize: ignore[containers/pip-cache]\n\nx\n", 3, False),
        ("x\n# mega-optimize: ignore[containers/pip-cache]\n", 1, False),
        ("# mega-optimize: ignore[serving/uvloop]\nx\n", 2, False),
        ("x\n\n\n# mega-optimize: ignore-file[containers/pip-cache]\n", 1, True),
        ("# mega-optimize: ignore-file[json]\nx\n", 2, False),
        ("mega-optimize: ignore[containers/pip-cache]\nx\n", 2, False),
        ("# mega-optimize: ignore\nx\n", 2, False),
    ],
)
def test_a_comment_covers(text: str, line: int, expected: bool) -> None:
    assert covered(text, line) is expected


def test_a_comment_on_any_line_of_the_finding_covers_it() -> None:
    text = "call(\n    a,\n)  # mega-optimize: ignore[containers/pip-cache]\n"
    assert covered(text, 1, end_line=3)
