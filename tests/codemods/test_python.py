from __future__ import annotations

import libcst as cst
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mega_optimizer.codemods.finding import apply_edits
from mega_optimizer.codemods.python import (
    edits_between,
    parse_module,
    replace_calls,
    with_keyword,
    without_keyword,
)
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.python import PythonFacts, python_facts


def parsed(source: bytes) -> cst.Module:
    tree = parse_module("a.py", source)
    assert isinstance(tree, cst.Module), tree
    return tree


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"x = 1",
        b"\xef\xbb\xbfx = 1\r\n",
        b"# coding: latin-1\nx = '\xe9'\n",
        b"if x:\n\ty = 1\r\n",
    ],
)
def test_trees_give_back_their_bytes(source: bytes) -> None:
    assert parsed(source).bytes == source


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (b"x = " + b"(" * 1500 + b"1" + b")" * 1500, "too-deep"),
        (b"print 'x'", "syntax-error"),
        (b"x = {{ name }}", "templated"),
        (b"x = '\0'", "control-character"),
    ],
)
def test_what_ast_refuses_never_reaches_libcst(source: bytes, code: str) -> None:
    problem = parse_module("a.py", source)
    assert isinstance(problem, Problem)
    assert problem.code == code


def test_long_expression_is_parsed_or_refused() -> None:
    tree = parse_module("a.py", b"x = " + b" + ".join([b"1"] * 2000))
    assert isinstance(tree, cst.Module) or tree.code == "too-deep"


def test_edits_are_small_and_apart() -> None:
    old = b"import a\nx = f(1)\ny = 2\nz = g()\n"
    new = b"import a\nimport b\nx = f(1)\ny = 2\nz = g(h)\n"
    edits = edits_between("p", old, new)
    assert [(e.start, e.end, e.replacement) for e in edits] == [
        (9, 9, b"import b\n"),
        (30, 30, b"h"),
    ]


def test_two_fixes_of_one_snapshot_compose() -> None:
    old = b"import a\nx = f()\ny = f()\n"
    one = edits_between("p", old, b"import a\nimport b\nx = f(b)\ny = f()\n")
    two = edits_between("p", old, b"import a\nimport b\nx = f()\ny = f(b)\n")
    assert apply_edits(old, [*one, *two]) == b"import a\nimport b\nx = f(b)\ny = f(b)\n"


@given(
    st.lists(st.sampled_from([b"a\n", b"b\n", b"\n", b"ab\r\n", b"c"])).map(b"".join),
    st.lists(st.sampled_from([b"a\n", b"b\n", b"\n", b"ab\r\n", b"c"])).map(b"".join),
)
def test_edits_lead_from_old_to_new(old: bytes, new: bytes) -> None:
    assert apply_edits(old, edits_between("p", old, new)) == new


def rewritten(source: str, add: bool = True) -> str:
    facts = python_facts("a.py", source.encode())
    assert isinstance(facts, PythonFacts)

    def change(column: int, node: cst.Call) -> cst.Call:
        if add:
            return with_keyword(node, "k", cst.Name("v"), column)
        return without_keyword(node, "k")

    calls = {
        call: (lambda node, column=call.column: change(column, node))
        for call in facts.called("m.f")
    }
    tree = replace_calls(parsed(source.encode()), calls)
    assert tree is not None
    return tree.code.removeprefix("from m import f\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("f()\n", "f(k=v)\n"),
        ("f(1)\n", "f(1, k=v)\n"),
        ("f(1,)\n", "f(1, k=v,)\n"),
        ("f(\n    a=1,\n    b=2,\n)\n", "f(\n    a=1,\n    b=2,\n    k=v,\n)\n"),
        ("f(\n    a=1,\n    b=2\n)\n", "f(\n    a=1,\n    b=2,\n    k=v\n)\n"),
        (
            "f(\n    a=1,  # x\n    b=2,  # y\n)\n",
            "f(\n    a=1,  # x\n    b=2,  # y\n    k=v,\n)\n",
        ),
        ("f(\n    a=1  # x\n)\n", "f(\n    a=1,  # x\n    k=v\n)\n"),
        ("f(\n    a=1, b=2\n)\n", "f(\n    a=1, b=2, k=v\n)\n"),
        ("f(a=1,\n  b=2)\n", "f(a=1,\n  b=2,\n  k=v)\n"),
        ("f(\n    # x\n    a=1,\n)\n", "f(\n    # x\n    a=1,\n    k=v,\n)\n"),
        ("f(\n    # x\n)\n", "f(\n    # x\n    k=v,\n)\n"),
        (f"f({'x' * 81})\n", f"f(\n    {'x' * 81},\n    k=v,\n)\n"),
    ],
)
def test_keyword_is_added_in_the_layout_of_the_call(before: str, after: str) -> None:
    assert rewritten(f"from m import f\n{before}") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("f(k=v)\n", "f()\n"),
        ("f(1, k=v)\n", "f(1)\n"),
        ("f(k=v, a=1)\n", "f(a=1)\n"),
        ("f(\n    a=1,  # x\n    k=v,\n)\n", "f(\n    a=1,  # x\n)\n"),
        ("f(\n    a=1,  # x\n    k=v\n)\n", "f(\n    a=1  # x\n)\n"),
        ("f(\n    a=1,\n    k=v,  # why\n    b=2,\n)\n", "f(\n    a=1,\n    b=2,\n)\n"),
        ("f(\n    k=v,\n)\n", "f()\n"),
    ],
)
def test_keyword_is_removed_and_the_rest_stays(before: str, after: str) -> None:
    assert rewritten(f"from m import f\n{before}", add=False) == after


def test_calls_are_found_again_in_their_scope() -> None:
    source = (
        "from m import f\n@f()\ndef g(x=f()):\n    f()\n    return f() if f() else {f(): f()}\n"
        "class C(f()):\n    y = f()\n    def g(self): return [f() for _ in f()]\n"
    )
    facts = python_facts("a.py", source.encode())
    assert isinstance(facts, PythonFacts)
    calls = facts.called("m.f")
    numbered = {
        call: (lambda node, n=number: node.with_changes(args=[cst.Arg(cst.Integer(str(n)))]))
        for number, call in enumerate(calls)
    }
    tree = replace_calls(parsed(source.encode()), numbered)
    assert tree is not None
    again = python_facts("a.py", tree.bytes)
    assert isinstance(again, PythonFacts)
    # each call carries the number of the call that the facts knew at its line and column order
    assert [call.positional[0].constant for call in again.called("m.f")] == list(range(len(calls)))
    lines = [call.line for call in calls]
    assert lines == [call.line for call in again.called("m.f")]
