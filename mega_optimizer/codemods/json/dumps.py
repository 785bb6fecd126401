"""Calls of ``json.dumps`` whose text only becomes the body of a response or a value in Redis."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.json.values import Frame
from mega_optimizer.repository.python.walk import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.json.tree import FunctionNode, ModuleTree
    from mega_optimizer.codemods.json.values import Values
    from mega_optimizer.codemods.program import Program

DUMPS = "json.dumps"
BODIES = {
    "fastapi.Response": "content", "fastapi.responses.Response": "content",
    "starlette.responses.Response": "content", "flask.Response": "response",
    "flask.wrappers.Response": "response", "werkzeug.wrappers.Response": "response",
    "django.http.HttpResponse": "content",
}  # fmt: skip
# Methods of Redis clients, and where the first value stands.
VALUES = {
    "set": 1, "setex": 2, "psetex": 2, "setnx": 1, "getset": 1, "lpush": 1, "rpush": 1,
    "hset": 2, "publish": 1,
}  # fmt: skip
WRITTEN = rb"\bdumps\s*\("
TAKEN = rb"\b(?:Http)?Response\b|\.(?:%s)\s*\(" % "|".join(VALUES).encode()
TAKEN_LITERALS = (b"Response", *(f".{each}".encode() for each in VALUES))
UTF8 = ("utf-8", "utf8", "UTF-8")


@dataclass(frozen=True, slots=True)
class Dump:
    """One call. ``whole`` is what is replaced: the call, or ``json.dumps(…).encode()``."""

    frame: Frame
    call: ast.Call
    whole: ast.Call
    sink: str


def modules_with_dumps(program: Program) -> Iterator[str]:
    """Yield the modules of the service that write JSON, and something that may take it."""
    writing = tuple(program.containing(WRITTEN, program.product, b"dumps"))
    yield from program.containing(TAKEN, writing, *TAKEN_LITERALS)


def dumps_of(context: Context, values: Values, path: str) -> Iterator[tuple[ast.Call, Dump | None]]:
    """Yield the calls in the functions of a module, None with those that go elsewhere."""
    facts = context.program.facts(path)
    lines = {each.line for each in facts.calls if each.name == DUMPS} if facts else set()
    tree = values.tree(path) if lines else None  # a second tree costs more than the facts
    if tree is None:
        return
    for name, function in tree.functions.items():
        if lines.isdisjoint(range(function.lineno, (function.end_lineno or 0) + 1)):
            continue
        frame = Frame(tree, function, name)
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = dotted(node.func)
            if called is None or tree.facts.resolve(called) != DUMPS:
                continue
            if tree.function_around(node) is function:
                yield node, _dump(values, frame, function, node)


def _dump(values: Values, frame: Frame, function: FunctionNode, call: ast.Call) -> Dump | None:
    parents = frame.tree.source.parents
    whole, method = call, parents.get(call)
    if isinstance(method, ast.Attribute):
        encoded = parents.get(method)
        if method.attr != "encode" or not isinstance(encoded, ast.Call) or not _is_utf8(encoded):
            return None
        whole = encoded
    used: ast.expr = whole
    statement = parents.get(whole)
    if isinstance(statement, ast.Assign) and statement.value is whole:
        target = statement.targets[0]
        if len(statement.targets) != 1 or not isinstance(target, ast.Name):
            return None
        scope = frame.tree.scope(function)
        reads = scope.reads.get(target.id, [])
        alone = len(scope.bindings.get(target.id, [])) == 1 and target.id not in scope.shared
        if not alone or len(reads) != 1:
            return None
        used = reads[0]
    sink = _sink(values, frame, used)
    return Dump(frame, call, whole, sink) if sink else None


def _is_utf8(call: ast.Call) -> bool:
    if not call.args and not call.keywords:
        return True
    only = call.args[0] if len(call.args) == 1 and not call.keywords else None
    return isinstance(only, ast.Constant) and only.value in UTF8


def _sink(values: Values, frame: Frame, node: ast.expr) -> str:
    """Return what takes ``node``: the body of a response or a value in Redis; else ``""``."""
    parents = frame.tree.source.parents
    parent = parents.get(node)
    keyword = parent.arg if isinstance(parent, ast.keyword) else None
    call = parents.get(parent) if isinstance(parent, ast.keyword) else parent
    if not isinstance(call, ast.Call):
        return ""
    name = frame.tree.facts.resolve(ast.unparse(call.func)) or ""
    if name in BODIES:
        first = bool(call.args) and call.args[0] is node
        return "the body of a response" if first or keyword == BODIES[name] else ""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in VALUES:
        return ""
    position = VALUES[call.func.attr]
    placed = position < len(call.args) and node in call.args[position:]
    if (placed or keyword == "value") and is_redis(values, frame, call.func.value):
        return "a value in Redis"
    return ""


def is_redis(values: Values, frame: Frame, node: ast.expr, depth: int = 3) -> bool:
    """Whether an expression is a client of the package redis."""
    if depth == 0:
        return False
    if isinstance(node, ast.Await):
        return is_redis(values, frame, node.value, depth)
    if isinstance(node, ast.Call):
        return _makes_redis(values, frame.tree, node, depth)
    if not isinstance(node, ast.Name):
        return False
    function = frame.function
    if function is not None:
        named = (*function.args.args, *function.args.kwonlyargs, *function.args.posonlyargs)
        for each in named:
            if each.arg == node.id:
                return _is_redis_class(frame.tree, each.annotation)
    scope = frame.tree.scope(function or frame.tree.source.tree)
    bound = scope.bindings.get(node.id, [])
    if not bound and function is not None:
        return is_redis(values, Frame(frame.tree, None), node, depth - 1)
    return len(bound) == 1 and any(
        is_redis(values, frame, value, depth - 1) for value in _values(bound[0], node.id)
    )


def _values(statement: ast.AST, name: str) -> Iterator[ast.expr]:
    if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
        yield statement.value
    elif isinstance(statement, ast.With | ast.AsyncWith):
        for item in statement.items:
            if isinstance(item.optional_vars, ast.Name) and item.optional_vars.id == name:
                yield item.context_expr


def _is_redis_class(tree: ModuleTree, annotation: ast.expr | None) -> bool:
    if annotation is None:
        return False
    if isinstance(annotation, ast.Subscript):
        return _is_redis_class(tree, annotation.value)
    return (tree.facts.resolve(ast.unparse(annotation)) or "").partition(".")[0] == "redis"


def _makes_redis(values: Values, tree: ModuleTree, call: ast.Call, depth: int) -> bool:
    name = tree.facts.resolve(ast.unparse(call.func))
    if name is None:
        return False
    if name.partition(".")[0] == "redis":
        return True
    found = values.program.definition(tree.path, name)
    home = values.tree(found.path) if found is not None else None
    function = home.functions.get(found.name) if home is not None and found is not None else None
    return home is not None and function is not None and _is_redis_class(home, function.returns)
