from __future__ import annotations

import pytest

from mega_optimizer.publish.text import block, code, plain, printable


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("app", "`app`"),
        ("a`b", "`` a`b ``"),
        ("a``b", "``` a``b ```"),
        ("a|b", "`a¦b`"),
        ("a\nb", "`a\\nb`"),
        ("\x1b[31m", "`\\x1b[31m`"),
        ("", ""),
    ],
)
def test_code_spans(given: str, expected: str) -> None:
    assert code(given) == expected


@pytest.mark.parametrize("given", ["@ada", "acme/shop#1", "fixes #12", "GH-7", "https://x.example"])
def test_nobody_is_pinged_and_nothing_is_linked(given: str) -> None:
    for shown in (printable(given), plain(given)):
        assert given not in shown
        assert shown.replace("\u200b", "") == given


@pytest.mark.parametrize("given", ["<!-- x", "</details>", "[a](b)", "**a**", "a|b", "`a`", "&lt;"])
def test_markup_is_shown_as_text(given: str) -> None:
    shown = plain(given)
    for character in "<[*|`&":
        assert f"\\{character}" in shown or character not in given


def test_no_text_ends_a_block() -> None:
    text = "one\n```\n@ada\n````"
    lines = block(text).splitlines()
    assert lines[0] == "`````console"
    assert lines[-1] == "`````"
    assert "`````" not in text
