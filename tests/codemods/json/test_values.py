"""What is read of a function holds for what it really returns."""

from __future__ import annotations

import pytest

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.json.shape import Shape, first_unknown
from mega_optimizer.codemods.json.values import Values
from mega_optimizer.codemods.program import Definition
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.service import Service

PROVEN = {
    "literals": "def f(): return {'a': 1, 'b': [True, None, 'x', 1.5]}",
    "comprehension": "def f(): return [{'n': n, 'half': n / 2} for n in range(9)]",
    "filled list": (
        "def f():\n    x = []\n    for n in range(3):\n        x.append({'n': n})\n    return x"
    ),
    "filled dict": (
        "def f():\n    x = {}\n    for n in range(3):\n        x[f'{n}'] = n\n    return x"
    ),
    "nested puts": (
        "def f():\n    x = [{'a': 1}]\n    for y in x:\n        y['b'] = 'z'\n    return x"
    ),
    "alias": "def f():\n    x = {'a': 1}\n    y = x\n    y['b'] = None\n    return x",
    "update": "def f():\n    x = {'a': 1}\n    x.update({'b': 'c'}, d=None)\n    return x",
    "helper": "def g(n: int): return {'n': n}\ndef f(): return [g(n) for n in range(3)]",
    "argument": "def g(x, y): return [x, y]\ndef f(): return g('a', 1)",
    "module state": "X = [1]\ndef g(): X.append('a')\ndef f():\n    g()\n    return X",
    "branches": "def f(x: str = ''):\n    if x:\n        return []\n    return {'a': x or 'b'}",
    "parsed": 'import json\ndef f(): return [json.loads(\'{"a": [1, {"b": null}]}\')]',
    "items of parsed": (
        "import json\ndef f(): return {k: v for k, v in json.loads('{\"a\": [1]}').items()}"
    ),
    "zip and enumerate": (
        "def f(): return [[i, a, b] for i, (a, b) in enumerate(zip('ab', [1, 2]))]"
    ),
    "sorted keys": "X = {'b': 1, 'a': 2}\ndef f(): return sorted(X.keys())",
    "augmented": "def f():\n    n = 0\n    for x in 'abc':\n        n += 1\n    return [n]",
    "merged": "def f(): return [*[1, 2], *'ab']",
    "slice": "X = ['a', 'b']\ndef f(): return X[:1]",
    "own rebinding": "def g(x):\n    x = str(x)\n    return [x]\ndef f(): return g(1)",
}
LOST = {
    "object put in": "def f():\n    x = []\n    x.append(object())\n    return x",
    "put through an alias": "def f():\n    x = []\n    y = x\n    y.append(object())\n    return x",
    "put in a loop": (
        "def f():\n    x = [{}]\n    for y in x:\n        y['b'] = object()\n    return x"
    ),
    "put in a comprehension": (
        "def f():\n    x = [[]]\n    [y.append(object()) for y in x]\n    return x"
    ),
    "put below": "def f():\n    x = {'a': []}\n    x['a'].append(object())\n    return x",
    "put by another function": (
        "X = []\ndef g(): X.append(object())\ndef f():\n    g()\n    return X"
    ),
    "put after a look-up": (
        "X = {'a': {}}\ndef g():\n    y = X.get('a')\n    y['b'] = object()\n"
        "def f():\n    g()\n    return X"
    ),
    "put by whom it is handed to": "import m\ndef f():\n    x = []\n    m.fill(x)\n    return x",
    "number keys": "def f(): return {n: 'a' for n in range(3)}",
    "global": "X = []\ndef g():\n    global X\n    X = object()\ndef f():\n    g()\n    return X",
    "nonlocal": (
        "def f():\n    x = []\n    def g():\n        nonlocal x\n        x = object()\n"
        "    g()\n    return x"
    ),
    "rebound argument": "def g(x):\n    x = object()\n    return [x]\ndef f(): return g('a')",
    "shadowed": "def str(x): return object()\ndef f(): return [str(1)]",
    "set": "def f(): return {1, 2}",
    "yielded": "def g():\n    yield 1\ndef f(): return g()",
    "recursion": "def f(n=3): return [f(n - 1)] if n else object()",
    "hook": "import json\ndef f(): return [json.loads('1.5', parse_float=object)]",
    "setdefault": "def f():\n    x = {}\n    x.setdefault('a', object())\n    return x",
    "loop variable after": "def f():\n    for x in [object()]:\n        pass\n    return [x]",
    "float that may be a Decimal": "def f(x: float = 1.5): return [x]",
}


def read(source: str) -> Shape:
    files = MemoryFiles({"m.py": source.encode()})
    context = Context(Service("s", "", modules=("m.py",)), files)
    return Values(context.program).returns(Definition("m.py", "f"))


def conforms(value: object, shape: Shape) -> bool:
    """Whether a value is one of those that the shape stands for."""
    if shape.parsed:
        return True
    match value:
        case None:
            return "none" in shape.leaves
        case bool():
            return "bool" in shape.leaves
        case str():
            return "str" in shape.leaves
        case int():
            return bool(shape.leaves & {"int", "int64"})
        case float():
            return bool(shape.leaves & {"float", "finite"})
        case list():
            item = shape.item
            return item is not None and all(conforms(each, item) for each in value)
        case dict():
            held = shape.value
            return held is not None and all(
                isinstance(key, str) and conforms(each, held) for key, each in value.items()
            )
    return False


@pytest.mark.parametrize("source", PROVEN.values(), ids=PROVEN)
def test_what_is_proven_is_returned(source: str) -> None:
    shape = read(source)
    assert first_unknown(shape) == ""
    names: dict[str, object] = {}
    exec(source, names)
    assert conforms(names["f"](), shape)  # type: ignore[operator]


@pytest.mark.parametrize("source", LOST.values(), ids=LOST)
def test_what_may_be_anything_is_not_proven(source: str) -> None:
    assert first_unknown(read(source)) != ""
