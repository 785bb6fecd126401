from __future__ import annotations

import pytest

from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.python import (
    PythonFacts,
    is_migration,
    is_test,
    python_facts,
)


def facts_of(source: str | bytes) -> PythonFacts:
    content = source.encode() if isinstance(source, str) else source
    facts = python_facts("app/main.py", content)
    assert isinstance(facts, PythonFacts), facts
    return facts


def problem_of(source: bytes, path: str = "app/main.py") -> Problem:
    problem = python_facts(path, source)
    assert isinstance(problem, Problem)
    return problem


@pytest.mark.parametrize(
    ("source", "code", "line"),
    [
        (b"x = 1\ny = '\0'\n", "control-character", 2),
        (b"x = 1\n\x1a", "control-character", 2),
        (b"def f():\n    \x0c    return 1\n", "form-feed", 2),
        (b"x = 1\ry = 2\r", "carriage-return", 1),
        (b"print 'x'\n", "syntax-error", 1),
        (b"x = 1\ntry:\n    f()\nexcept A, B:\n    pass\n", "syntax-error", 4),
        (b"if x:\n\ty = 1\n        z = 2\n", "syntax-error", 3),
        (b"x = '\xff'\n", "syntax-error", 1),
        (b"from {{ cookiecutter.slug }} import x\n", "templated", 1),
        (b"NAME = '{{ cookiecutter.name }}'\n", "templated", 1),
        (b"x = {{ name }}\n", "templated", 1),
        (b"x = 1\n{% if celery %}\ny = 2\n{% endif %}\n", "templated", 2),
        (b"x = 1\n# {% if celery %}\ny = 2\n", "templated", 1),
        (b"x = " + b"(" * 1500 + b"1" + b")" * 1500, "too-deep", 1),
        (b"x = " + b"-" * 20_000 + b"1", "too-deep", 1),
        (b"x = " + b" + ".join([b"a"] * 20_000), "too-deep", 1),
        (b"x" + b".a" * 20_000, "too-deep", 1),
    ],
)
def test_what_cannot_be_understood_is_a_problem(source: bytes, code: str, line: int) -> None:
    problem = problem_of(source)
    assert (problem.code, problem.line) == (code, line)


def test_newer_syntax_names_the_python_that_cannot_read_it() -> None:
    assert "cannot read line 1" in problem_of(b"type X = ]\n").message


def test_path_of_a_template_is_templated() -> None:
    assert problem_of(b"x = 1\n", "{{ cookiecutter.slug }}/main.py").code == "templated"


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\xef\xbb\xbfx = 1\n",
        b"# coding: latin-1\nx = '\xe9'\n",
        b"x = 1\r\ny = 2\r\n",
        b"x = '\\d'\n",
        b"\x0c\nclass A:\n    pass\n",
        b'HTML = """\n{% for x in y %}{{ x }}{% endfor %}\n"""\n',
        b"x = f'{{literal}} {y}'\n",
        b"x = " + b" + ".join([b"1"] * 2000),
        b"x = " + b"f(" * 90 + b")" * 90,
    ],
)
def test_valid_source_is_understood(source: bytes, recwarn: pytest.WarningsRecorder) -> None:
    facts_of(source)
    assert not list(recwarn)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import json\njson.dumps(1)", "json.dumps"),
        ("import os.path\nos.path.join(1)", "os.path.join"),
        ("import numpy as np\nnp.linalg.inv(1)", "numpy.linalg.inv"),
        ("from a.b import c\nc(1)", "a.b.c"),
        ("from a.b import c as d\nd(1)", "a.b.c"),
        ("from . import db\ndb.connect(1)", ".db.connect"),
        ("from ..core.db import connect\nconnect(1)", "..core.db.connect"),
        ("from a import b\nfrom a import b\nb(1)", "a.b"),
        ("from x import *\nfrom a import b\nb(1)", "a.b"),
        ("def f():\n    from a import b\n    b(1)", "a.b"),
        ("with x:\n    from a import b\nb(1)", "a.b"),
        ("def g(): ...\ng(1)", ":g"),
        ("class A: ...\nA(1)", ":A"),
        ("app = f()\napp.get(1)", ":app.get"),
        ("def f():\n    app = make\n    app.get(1)", ":f.app.get"),
        ("int(1)", "builtins.int"),
        # not known
        ("from a import b\nfrom x import *\nb(1)", None),
        ("from x import *\nint(1)", None),
        ("try:\n    from a import b\nexcept ImportError:\n    b = None\nb(1)", None),
        ("try:\n    from a import b\nexcept ImportError:\n    from c import b\nb(1)", None),
        ("if x:\n    from a import b\nb(1)", None),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import b\nb(1)", None),
        ("from a import b\nb = wrap(2)\nb(1)", None),
        ("from a import b\ndef f(b):\n    b(1)", None),
        ("from a import b\nfor b in x: b(1)", None),
        ("from a import b\nwith x as b: b(1)", None),
        ("from a import b\ntry: ...\nexcept E as b: b(1)", None),
        ("from a import b\nlambda b: b(1)", None),
        ("from a import b\n[b(1) for b in x]", None),
        ("from a import b\nif (b := x): b(1)", None),
        ("from a import b\nmatch x:\n    case {'k': b}:\n        b(1)", None),
        ("from a import b\ndef f():\n    global b\n    b = x\nb(1)", None),
        ("import json\njson.dumps = fast\njson.dumps(1)", None),
        ("app = f()\napp = wrap(app)\napp.get(1)", None),
        ("def g(): ...\ndef g(): ...\ng(1)", None),
    ],
)
def test_names_resolve_to_exactly_one_thing_or_none(source: str, name: str | None) -> None:
    (call,) = [
        call
        for call in facts_of(source).calls
        if call.positional and call.positional[0].constant == 1
    ]
    assert call.name == name


def test_class_scope_is_not_seen_from_methods() -> None:
    source = "from a import b\nclass C:\n    b = 1\n    def f(self):\n        b(1)\n"
    assert facts_of(source).calls[0].name == "a.b"


def test_calls_are_counted_in_source_order_within_their_scope() -> None:
    source = (
        "from m import f\n"
        "@f(0)\n"
        "def g(x=f(1)):\n"
        "    f(2)\n"
        "    return f(4) if f(5) else {f(6): f(7)}\n"
        "class C:\n"
        "    def g(self):\n"
        "        f(8)\n"
    )
    seen = [(c.scope, c.ordinal, c.positional[0].constant) for c in facts_of(source).called("m.f")]
    assert seen == [
        ("", 0, 0),
        ("", 1, 1),
        ("g", 0, 2),
        ("g", 1, 4),
        ("g", 2, 5),
        ("g", 3, 6),
        ("g", 4, 7),
        ("C.g", 0, 8),
    ]


def test_arguments_keep_their_kind() -> None:
    (call,) = facts_of("from m import f\nf(1, *a, key=x.y, **b)").calls
    assert [(a.keyword, a.star, a.value.kind) for a in call.arguments] == [
        (None, "", "constant"),
        (None, "*", "name"),
        ("key", "", "name"),
        (None, "**", "name"),
    ]
    assert call.unpacks
    assert len(call.positional) == 1


def test_routes() -> None:
    source = """
from fastapi import APIRouter, FastAPI
app = FastAPI()
router = APIRouter()

@app.get("/items", response_model=list[Item])
async def items(): return []

@router.api_route("/both", methods=["GET", "POST"])
def both() -> Item: ...

@app.websocket("/ws")
async def ws(socket): ...

def create():
    inner = FastAPI()
    @inner.get("/x")
    def x(): ...

@other()
@cache.get
def no_route(): ...
"""
    routes = facts_of(source).routes
    assert [(r.owner, r.methods, r.path, r.handler.path, r.handler.is_async) for r in routes] == [
        (":app", ("GET",), "/items", "items", True),
        (":router", ("GET", "POST"), "/both", "both", False),
        (":app", ("WEBSOCKET",), "/ws", "ws", True),
        (":create.inner", ("GET",), "/x", "create.x", False),
    ]
    assert routes[0].response_model is not None
    assert routes[0].response_model.text == "list"
    assert routes[1].handler.annotation is not None


def test_functions() -> None:
    source = """
import functools
class A:
    @functools.lru_cache(maxsize=1)
    def f(self, x: int = 1, *args, y=None, **kw):
        global state
        yield x
        def inner(): return 5
        return 3
"""
    function = facts_of(source).function("A.f")
    assert function is not None
    assert function.is_generator
    assert [p.name for p in function.parameters] == ["self", "x", "args", "y", "kw"]
    assert function.parameters[1].default is not None
    assert function.decorators[0].name == "functools.lru_cache"
    assert [value.constant for value in function.returns if value] == [3]
    assert function.global_names == {"state"}


def test_assignments_and_stores() -> None:
    source = "import os\nURL = 'x'\nos.environ['KEY'] = 'v'\nobj.a.b = 2\nx, y = 1, 2\n"
    facts = facts_of(source)
    assert facts.assigned("URL") is not None
    assert facts.assigned("x") is None
    assert [(s.text, s.name, s.key) for s in facts.stores] == [
        ("os.environ", "os.environ", "KEY"),
        ("obj.a.b", None, None),
    ]


def test_a_variable_assigned_twice_has_no_value() -> None:
    assert facts_of("x = 1\nx = 2\n").assigned("x") is None


def test_main_guard() -> None:
    assert facts_of("if __name__ == '__main__':\n    f()\n").has_main_guard
    assert not facts_of("if name == '__main__':\n    f()\n").has_main_guard


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tests/a.py", True),
        ("app/test_a.py", True),
        ("app/a_test.py", True),
        ("conftest.py", True),
        ("app/tests.py", True),
        ("app/latest.py", False),
        ("app/attest/a.py", False),
    ],
)
def test_tests_are_known_by_their_path(path: str, expected: bool) -> None:
    assert is_test(path) is expected


def test_migrations_are_known_by_their_path() -> None:
    assert is_migration("alembic/env.py")
    assert is_migration("app/migrations/0001.py")
    assert not is_migration("app/alembic.py")


@pytest.mark.parametrize(
    ("body", "waits"),
    [
        ("await f()", True),
        ("async for x in y: pass", True),
        ("async with x: pass", True),
        ("return [x async for x in y]", True),
        ("async def inner():\n        await f()", False),
        ("return [x for x in y]", False),
    ],
)
def test_what_a_coroutine_waits_for(body: str, waits: bool) -> None:
    function = facts_of(f"async def f():\n    {body}\n").function("f")
    assert function is not None
    assert function.waits is waits


def test_arguments_keep_their_order_around_keywords() -> None:
    (call,) = facts_of("f(1, *a, x=2, *b, **c)\n").calls
    written = [(each.star, each.keyword, each.value.text) for each in call.arguments]
    assert written == [
        ("", None, ""),
        ("*", None, "a"),
        ("", "x", ""),
        ("*", None, "b"),
        ("**", None, "c"),
    ]
