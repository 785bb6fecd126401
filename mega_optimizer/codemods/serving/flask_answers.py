"""What a handler of Flask answers: its kind, and whether plain JSON says all of it.

``flask.json.provider.DefaultJSONProvider`` writes dates, decimals, UUIDs, dataclasses and objects
with ``__html__`` in a way of its own; all else it leaves to ``json.dumps``. An expression is
*plain* where none of these can come out of it.
"""

from __future__ import annotations

import ast
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts

Function = ast.FunctionDef | ast.AsyncFunctionDef
DEPTH = 4
# Builtins that make a plain value of anything, and those that hand through what they are given.
CONVERTING = frozenset(
    {"str", "int", "float", "bool", "len", "repr", "any", "all", "isinstance", "hash", "range",
     "format", "ord", "chr", "hex"}
)  # fmt: skip
PASSING = frozenset(
    {"round", "abs", "min", "max", "sum", "sorted", "list", "dict", "tuple", "set", "reversed",
     "enumerate", "zip"}
)  # fmt: skip
KNOWN = frozenset(
    {
        "os.getenv", "os.environ.get", "os.getpid", "time.time", "time.perf_counter",
        "time.monotonic", "time.strftime", "socket.gethostname", "platform.node",
        "platform.python_version", "json.loads", "json.dumps", "random.random", "random.randint",
        "random.uniform", "math.sqrt", "math.exp", "math.log", "math.floor", "math.ceil",
    }
)  # fmt: skip
# Methods of other packages' objects that say what they return by their names.
TELLING = frozenset(
    {"isoformat", "strftime", "timestamp", "total_seconds", "hexdigest", "tolist", "item"}
)
READING = frozenset({"print", "len", "str", "repr", "jsonify", "sorted", "sum", "min", "max"})


def always_answers(body: list[ast.stmt]) -> bool:
    """Whether control never falls out of the end of ``body``."""
    last = body[-1]
    if isinstance(last, ast.Return | ast.Raise):
        return True
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        function = last.value.func
        return isinstance(function, ast.Name) and function.id == "abort"
    if isinstance(last, ast.If):
        return bool(last.orelse) and always_answers(last.body) and always_answers(last.orelse)
    if isinstance(last, ast.With):
        swallows = any("suppress" in ast.unparse(each.context_expr) for each in last.items)
        return not swallows and always_answers(last.body)
    if isinstance(last, ast.Try):
        if last.finalbody and always_answers(last.finalbody):
            return True
        tried = always_answers(last.orelse or last.body)
        return tried and all(always_answers(each.body) for each in last.handlers)
    return False


class Kinds:
    """The kinds of the expressions of one module."""

    def __init__(self, source: Source, facts: PythonFacts) -> None:
        self._source = source
        self._facts = facts
        self._open: set[tuple[int, str]] = set()

    @cached_property
    def _functions(self) -> dict[str, Function]:
        found: dict[str, Function] = {}
        for each in self._source.tree.body:
            if isinstance(each, ast.FunctionDef):
                found[each.name] = each
        return {name: each for name, each in found.items() if self._facts.function(name)}

    def kind(
        self, node: ast.expr, scope: Function, depth: int = DEPTH
    ) -> Literal["json", "html"] | None:
        """Return how Flask answers with ``node`` in the function ``scope``, None if unknown."""
        if depth == 0:
            return None
        if isinstance(node, ast.Dict | ast.List | ast.DictComp | ast.ListComp):
            return "json"
        if isinstance(node, ast.JoinedStr):
            return "html"
        if isinstance(node, ast.Constant):
            return "html" if isinstance(node.value, str) else None
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name in ("jsonify", "dict", "list", "sorted"):
                return "json"
            called = self._functions.get(name)
            if called is None or called.decorator_list or not always_answers(called.body):
                return None
            returned = [each.value for each in _returns(called)]
            kinds = {self.kind(each, called, depth - 1) if each else None for each in returned}
            return "json" if kinds == {"json"} else None
        if isinstance(node, ast.Name):
            values = list(_assigned(scope, node.id))
            kinds = {self.kind(each, scope, depth - 1) if each else None for each in values}
            return "json" if kinds == {"json"} else None
        return None

    def is_plain(
        self,
        node: ast.expr,
        scope: Function | None,
        bound: dict[str, bool] | None = None,
        depth: int = DEPTH,
    ) -> bool:
        """Whether ``node`` is plain; ``bound`` says it of names that an expression itself binds."""
        bound = bound or {}

        def plain(*nodes: ast.expr | None) -> bool:
            return all(self.is_plain(each, scope, bound, depth) for each in nodes if each)

        match node:
            case ast.Constant() | ast.JoinedStr() | ast.Compare():
                return True
            case ast.UnaryOp():
                return isinstance(node.op, ast.Not) or plain(node.operand)
            case ast.BinOp():
                return plain(node.left, node.right)
            case ast.BoolOp():
                return plain(*node.values)
            case ast.IfExp():
                return plain(node.body, node.orelse)
            case ast.Dict():
                return plain(*node.values)
            case ast.List() | ast.Tuple() | ast.Set():
                return plain(*node.elts)
            case ast.Starred() | ast.Subscript():
                return plain(node.value)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                inner = self._comprehended(node.generators, scope, bound, depth)
                return self.is_plain(node.elt, scope, inner, depth)
            case ast.DictComp():
                inner = self._comprehended(node.generators, scope, bound, depth)
                return self.is_plain(node.value, scope, inner, depth)
            case ast.Call():
                return self._is_plain_call(node, scope, bound, depth)
            case ast.Attribute():
                return ast.unparse(node) == "request.json"
            case ast.Name():
                return self._is_plain_name(node.id, scope, bound, depth)
        return False

    def _comprehended(
        self,
        generators: list[ast.comprehension],
        scope: Function | None,
        bound: dict[str, bool],
        depth: int,
    ) -> dict[str, bool]:
        inner = dict(bound)
        for each in generators:
            plain = self.is_plain(each.iter, scope, inner, depth)
            inner |= {name: plain for name in _names(each.target)}
        return inner

    def _is_plain_call(
        self, node: ast.Call, scope: Function | None, bound: dict[str, bool], depth: int
    ) -> bool:
        given = [*node.args, *(each.value for each in node.keywords)]

        def all_plain() -> bool:
            return all(self.is_plain(each, scope, bound, depth) for each in given)

        text = ast.unparse(node.func)
        if isinstance(node.func, ast.Name):
            if text in self._functions:
                return self._is_plain_function(node, scope, bound, depth)
            if text in self._facts.bound_names:
                return False
            return text in CONVERTING or (text in PASSING and all_plain())
        if not isinstance(node.func, ast.Attribute):
            return False
        if text == "request.get_json":
            return True
        if text == "request.args.get":
            return all(
                self.is_plain(each, scope, bound, depth)
                for each in (*node.args[1:2], *(k.value for k in node.keywords if k.arg != "type"))
            )
        if text in KNOWN and self._facts.resolve(text) == text:
            return True
        if node.func.attr in TELLING:
            return True
        return self.is_plain(node.func.value, scope, bound, depth) and all_plain()

    def _is_plain_function(
        self, node: ast.Call, scope: Function | None, bound: dict[str, bool], depth: int
    ) -> bool:
        function = self._functions[ast.unparse(node.func)]
        if depth == 0 or function.decorator_list or _is_generator(function):
            return False
        names = [each.arg for each in function.args.args]
        inner = {
            name: self.is_plain(value, scope, bound, depth - 1)
            for name, value in zip(names, node.args, strict=False)
        }
        inner |= {
            each.arg: self.is_plain(each.value, scope, bound, depth - 1)
            for each in node.keywords
            if each.arg
        }
        return all(
            each.value is None or self.is_plain(each.value, function, inner, depth - 1)
            for each in _returns(function)
        )

    def _is_plain_name(
        self, name: str, scope: Function | None, bound: dict[str, bool], depth: int
    ) -> bool:
        key = (id(scope), name)
        if key in self._open:
            return True  # what is put into it decides
        where: ast.AST = scope or self._source.tree
        values = list(_assigned(where, name)) if scope else list(_assigned_at_top(where, name))
        parameter = scope is not None and name in {each.arg for each in _parameters(scope)}
        if name in bound and not values:
            return bound[name]
        if not values and not parameter:
            return scope is not None and self._is_plain_name(name, None, {}, depth)
        if parameter and not self._is_handler(scope) and not bound.get(name):
            return False
        self._open.add(key)
        try:
            if not all(each and self.is_plain(each, scope, bound, depth) for each in values):
                return False
            if values and all(each and _is_immutable(each) for each in values):
                return True
            inside = where if scope else self._source.tree
            return all(
                each is not None
                and self.is_plain(each, self._scope_of(each), self._bound_at(each, bound), depth)
                for each in self._put_into(inside, name)
            )
        finally:
            self._open.discard(key)

    def _bound_at(self, node: ast.expr, bound: dict[str, bool]) -> dict[str, bool]:
        return bound if self._scope_of(node) is not None else {}

    def _is_handler(self, scope: Function | None) -> bool:
        """Whether the parameters are those of a path: text, or numbers."""
        return scope is not None and bool(scope.decorator_list)

    def _scope_of(self, node: ast.AST) -> Function | None:
        for each in self._source.around(node):
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                return each
        return None

    def _put_into(self, where: ast.AST, name: str) -> Iterator[ast.expr | None]:
        """Yield what is put into the container ``name``; None where that is hidden."""
        parents = self._source.parents
        for node in ast.walk(where):
            if not isinstance(node, ast.Name) or node.id != name:
                continue
            parent = parents[node]
            if isinstance(parent, ast.Call) and node in parent.args:
                text = ast.unparse(parent.func)
                harmless = text in READING or text in CONVERTING or text in PASSING
                if not harmless and "log" not in text and text != "json.dumps":
                    yield None
            elif isinstance(parent, ast.Assign) and any(
                isinstance(each, ast.Name) for each in parent.targets if parent.value is node
            ):
                yield None  # a second name of it
            outermost: ast.AST = node
            while isinstance(parents[outermost], ast.Subscript | ast.Attribute):
                outermost = parents[outermost]
            above = parents[outermost]
            if isinstance(outermost, ast.Subscript) and isinstance(outermost.ctx, ast.Store):
                yield above.value if isinstance(above, ast.Assign | ast.AugAssign) else None
            elif isinstance(outermost, ast.Attribute) and isinstance(above, ast.Call):
                yield from above.args
                yield from (each.value for each in above.keywords)


def _is_immutable(value: ast.expr) -> bool:
    """Whether an expression makes a number or a text, into which nothing can be put."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in CONVERTING
    return isinstance(value, ast.Constant | ast.JoinedStr | ast.Compare)


def _returns(function: Function) -> Iterator[ast.Return]:
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Return):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def _is_generator(function: Function) -> bool:
    return any(isinstance(each, ast.Yield | ast.YieldFrom) for each in ast.walk(function))


def _parameters(function: Function) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _names(target: ast.expr) -> Iterator[str]:
    for each in ast.walk(target):
        if isinstance(each, ast.Name):
            yield each.id


def _binds(target: ast.expr, name: str) -> bool:
    """Whether an assignment to ``target`` binds ``name``, and does not put something into it."""
    if isinstance(target, ast.Tuple | ast.List | ast.Starred):
        parts = [target.value] if isinstance(target, ast.Starred) else target.elts
        return any(_binds(each, name) for each in parts)
    return isinstance(target, ast.Name) and target.id == name


def _assigned_at_top(tree: ast.AST, name: str) -> Iterator[ast.expr | None]:
    for statement in getattr(tree, "body", []):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if any(
                name in each.names for each in ast.walk(statement) if isinstance(each, ast.Global)
            ):
                yield None
            continue
        yield from _assigned(statement, name)


def _assigned(where: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """Yield what is assigned to ``name``, with None for what cannot be told."""
    for node in ast.walk(where):
        match node:
            case ast.Assign():
                for target in node.targets:
                    if _binds(target, name):
                        yield node.value
            case ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr():
                if isinstance(node.target, ast.Name) and node.target.id == name and node.value:
                    yield node.value
            case ast.For() | ast.AsyncFor():
                if name in _names(node.target):
                    yield node.iter
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    if item.optional_vars is not None and name in _names(item.optional_vars):
                        yield None
            case ast.ExceptHandler() | ast.Import() | ast.ImportFrom():
                bound = (
                    [node.name]
                    if isinstance(node, ast.ExceptHandler)
                    else [each.asname or each.name for each in node.names]
                )
                if name in bound:
                    yield None
