"""Make the facts about a file out of what the walk collected."""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING

from mega_optimizer.repository.python.facts import (
    Assignment,
    Call,
    Class,
    Function,
    Parameter,
    PythonFacts,
    Route,
    Store,
)
from mega_optimizer.repository.python.walk import with_defaults

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mega_optimizer.repository.python.names import NameTable
    from mega_optimizer.repository.python.walk import FunctionNode, Scope, Walk

HTTP_METHODS = frozenset({"get", "post", "put", "delete", "patch", "options", "head", "trace"})
ROUTE_DECORATORS = HTTP_METHODS | {"api_route", "websocket"}


def build_facts(path: str, walk: Walk, names: NameTable) -> PythonFacts:
    """Return the facts that ``walk`` collected, with names resolved by ``names``."""
    functions = [_function(walk, each, names) for each in walk.functions]
    return PythonFacts(
        path=path,
        imports=tuple(walk.imports),
        calls=tuple(_calls(walk, names)),
        functions=tuple(functions),
        classes=tuple(
            Class(
                scope.member(node.name),
                node.lineno,
                tuple(names.value(base, scope) for base in node.bases),
                tuple(names.value(each, scope) for each in node.decorator_list),
            )
            for node, scope in walk.classes
        ),
        assignments=tuple(
            Assignment(text, names.value(value, scope), scope.path, line)
            for text, value, scope, line in walk.assignments
        ),
        stores=tuple(
            Store(
                text,
                names.resolve(text, scope, patched=True),
                key.value if isinstance(key, ast.Constant) else None,
                None if value is None else names.value(value, scope),
                scope.path,
                line,
            )
            for text, key, value, scope, line in walk.stores
        ),
        routes=tuple(_routes(functions)),
        loads={scope: frozenset(texts) for scope, texts in walk.loads.items()},
        bindings={name: names.resolve(name, walk.module) for name in walk.module.bindings},
        bound_names=frozenset(names.all_bound()),
        has_main_guard=walk.has_main_guard,
    )


def _calls(walk: Walk, names: NameTable) -> Iterable[Call]:
    ordinals: defaultdict[tuple[str, str], int] = defaultdict(int)
    for node, scope in walk.calls:
        value = names.value(node, scope)
        key = (scope.path, value.text)
        yield Call(value, scope.path, ordinals[key], node.lineno, node.col_offset + 1)
        ordinals[key] += 1


def _function(walk: Walk, seen: tuple[FunctionNode, Scope, Scope], names: NameTable) -> Function:
    node, scope, inner = seen
    return Function(
        path=inner.path,
        line=node.lineno,
        is_async=isinstance(node, ast.AsyncFunctionDef),
        is_generator=inner in walk.generators,
        decorators=tuple(names.value(each, scope) for each in node.decorator_list),
        parameters=tuple(
            Parameter(
                argument.arg,
                None if argument.annotation is None else names.value(argument.annotation, scope),
                None if default is None else names.value(default, scope),
            )
            for argument, default in with_defaults(node.args)
        ),
        annotation=None if node.returns is None else names.value(node.returns, scope),
        returns=tuple(
            None if each is None else names.value(each, inner) for each in walk.returns[inner]
        ),
        global_names=frozenset(walk.globals[inner]),
        waits=inner.path in walk.waiting,
    )


def _routes(functions: list[Function]) -> Iterable[Route]:
    for function in functions:
        for decorator in function.decorators:
            owner_text, dot, method = decorator.text.rpartition(".")
            if decorator.kind != "call" or not dot or method not in ROUTE_DECORATORS:
                continue
            owner = decorator.name.rpartition(".")[0] if decorator.name else None
            first = next(
                (a.value for a in decorator.arguments if a.keyword in (None, "path")), None
            )
            path = first.constant if first is not None else None
            methods: tuple[str, ...] = (method.upper(),)
            if method == "api_route":
                listed = decorator.argument("methods")
                parts = [a.value.constant for a in listed.arguments] if listed else ["GET"]
                methods = tuple(str(part).upper() for part in parts)
            yield Route(
                owner,
                owner_text,
                methods,
                path if isinstance(path, str) else None,
                function,
                decorator,
                function.line,
            )
