from __future__ import annotations

import tomllib
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mega_optimizer.repository.dependencies.toml import toml_spans

DOCUMENT = b"""\xef\xbb\xbf# head
title = "a # not a comment"
[a."b.c".d] # comment
x = [ "1", '2', # three, four ]
  \"\"\"3
]\"\"\", '''4''''', ]
y = { p = 1, q = { r = [true] } }
z.w = 1979-05-27 07:32:00
[[t]]
n = 1
[[t]]
n = 2.5e3 # last
[t.sub]
"k" = -inf"""


def values(node: object, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Any]:
    found: dict[tuple[str | int, ...], Any] = {}
    items = node.items() if isinstance(node, dict) else enumerate(cast("list[object]", node))
    for key, value in items:
        found[(*path, key)] = value
        if isinstance(value, dict | list):
            found |= values(value, (*path, key))
    return found


def assert_spans_hold_the_values(content: bytes) -> None:
    expected = values(tomllib.loads(content.decode("utf-8-sig")))
    spans = toml_spans(content)
    for path, span in spans.items():
        text = content[span.start : span.end].decode()
        assert tomllib.loads(f"v = {text}")["v"] == expected[path], path
    leaves = {path for path, value in expected.items() if not isinstance(value, dict | list)}
    assert leaves <= spans.keys()


@pytest.mark.parametrize("content", [DOCUMENT, DOCUMENT.replace(b"\n", b"\r\n"), b"", b"a=1"])
def test_spans_hold_the_values_that_tomllib_reads(content: bytes) -> None:
    assert_spans_hold_the_values(content)


TEXTS = st.text(alphabet="ab\"'\\#[]{},= \n\té", max_size=6)


@given(st.recursive(TEXTS | st.integers(), lambda inner: st.lists(inner, max_size=4), max_leaves=8))
def test_spans_of_arrays_of_awkward_strings(value: object) -> None:
    tomlkit = pytest.importorskip("tomlkit")
    assert_spans_hold_the_values(tomlkit.dumps({"t": {"v": value, 'a"b': 1}}).encode())
