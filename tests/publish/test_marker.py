from __future__ import annotations

import pytest

from mega_optimizer.publish.marker import Marker, patch_hash, read_marker

OLD = b"one\ntwo\nthree\n"
NEW = b"one\nTWO\nthree\n"


def test_a_marker_is_read_back_from_the_end_of_a_body() -> None:
    marker = Marker("abc", ("containers/pip-cache",), "A --> title <!-- ü")
    body = f"Text\n\n{Marker('old')}\n{marker}\n"
    assert read_marker(body) == marker
    assert str(marker).count("-->") == 1


@pytest.mark.parametrize(
    "body",
    [
        None,
        "",
        "no marker",
        "<!-- mega-optimize: {broken} -->",
        '<!-- mega-optimize: {"version": 2, "patch": "x", "rules": [], "title": ""} -->',
        '<!-- mega-optimize: {"version": 1, "patch": 3, "rules": [], "title": ""} -->',
    ],
)
def test_what_is_no_marker(body: str | None) -> None:
    assert read_marker(body) is None


def test_the_hash_does_not_depend_on_where_the_lines_stand() -> None:
    moved = (b"zero\n" + OLD + b"four\n", b"zero\n" + NEW + b"four\n")
    assert patch_hash({"a": moved}) == patch_hash({"a": (OLD, NEW)})


@pytest.mark.parametrize(
    "other",
    [
        {"b": (OLD, NEW)},
        {"a": (OLD, b"one\nTwo\nthree\n")},
        {"a": (OLD, b"one\nTWO \nthree\n")},
        {"a": (None, NEW)},
        {"a": (b"", NEW)},
        {"a": (OLD, NEW), "b": (None, b"")},
    ],
)
def test_other_changes_have_another_hash(other: dict[str, tuple[bytes | None, bytes]]) -> None:
    assert patch_hash(other) != patch_hash({"a": (OLD, NEW)})


def test_a_new_empty_file_differs_from_an_emptied_one() -> None:
    assert patch_hash({"a": (None, b"")}) != patch_hash({"a": (b"", b"")})
