"""A call that is changed alone comes out as it would from the tree of its whole module."""

from __future__ import annotations

import libcst as cst
import pytest

from mega_optimizer.codemods.call_edits import change_calls
from mega_optimizer.codemods.finding import Skip, apply_edits
from mega_optimizer.codemods.python import parse_module, replace_calls, with_keyword
from mega_optimizer.repository.python import Call, PythonFacts, python_facts

SOURCES = [
    b"f(1)\n",
    b"\xef\xbb\xbff(1)\r\ny = f()\r\n",
    b"x = f(\r\n    1,  # one\r\n    # nothing else\r\n)\r\n",
    b"x = f(\n    1,\n    b=2,\n)\ny = f(1, b=2)\n",
    b"class A:\n\tx = f(\n\t\t1\n\t)\n",
    b"def g():\n    return f(f(1), 2)\n",
    b"x = (a\n     .f)\nx = [\n    f\n    (1)\n]\n",
    b"x = (\n    a.b\n    .f(1)\n)\n",
    "é = 1; x = 'é', f('é')\n".encode(),
    b"# coding: latin-1\nx = '\xe9', f('\xe9')\n",
    b"x = f(" + b"'a long argument', " * 6 + b")\n",
    b"class A:\n    x: int = f(" + b"'a long argument', " * 6 + b")\n",
    b"lambda: (f)(1)\n",
]


def changed(node: cst.Call, call: Call) -> cst.Call:
    return with_keyword(node, "index", cst.Name("True"), call.column)


@pytest.mark.parametrize("source", SOURCES)
def test_it_comes_out_as_from_the_whole_tree(source: bytes) -> None:
    facts = python_facts("a.py", source)
    tree = parse_module("a.py", source)
    assert isinstance(facts, PythonFacts)
    assert isinstance(tree, cst.Module)
    changes = {
        call: lambda node, call=call: changed(node, call)
        for call in facts.calls
        if call.text.endswith("f")
    }
    whole = replace_calls(tree, changes)
    assert whole is not None
    edits = change_calls("a.py", source, changes)
    assert not isinstance(edits, Skip)
    assert apply_edits(source, edits) == whole.bytes


def test_a_call_that_is_not_there_is_said() -> None:
    facts = python_facts("a.py", b"f(1)\n")
    assert isinstance(facts, PythonFacts)
    found = change_calls("a.py", b"g(1)\n", {facts.calls[0]: lambda node: node})
    assert isinstance(found, Skip)
    assert found.code == "not-found-again"
