"""A handler of Flask: its routes, what it reads of the request, and what it answers."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.source import Source

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
VARIABLE = re.compile(r"<(?:(?P<converter>[^<>:]+):)?(?P<name>[A-Za-z_]\w*)>")
# Converters that match and convert alike: werkzeug/routing/converters.py, starlette/convertors.py.
CONVERTERS = {None: "", "string": "", "default": "", "int": ":int"}
TYPES = {"": frozenset({"str"}), ":int": frozenset({"int"})}
PAYLOAD = "payload"  # a body that is looked into several times
CONVERSIONS = frozenset({"int", "float", "str"})
Problem = tuple[ast.AST, str, str]


@dataclass(frozen=True, slots=True)
class Route:
    """One decorator, as FastAPI would have it."""

    decorator: ast.Call
    path: str
    methods: tuple[str, ...]


@dataclass(slots=True)
class Answer:
    """One return statement: the ``body``, and the status where a tuple gives one.

    ``kind`` is ``json``, else ``html``: Flask's type for a plain text.
    """

    statement: ast.Return
    body: ast.expr
    status: int | None = None
    kind: str = "html"

    def values(self) -> Iterator[ast.expr]:
        """Yield what is serialised."""
        if is_jsonify(self.body) and isinstance(self.body, ast.Call):
            yield from self.body.args
            yield from (each.value for each in self.body.keywords)
        else:
            yield self.body


@dataclass(slots=True)
class Handler:
    """``bodies`` are the places that read the body as JSON, ``queries`` those of ``args.get``.

    ``first_reading`` is the statement of the first of several ``bodies``, which come after it.
    ``understood`` are the names ``request`` and ``jsonify`` that these and the answers consist of.
    """

    function: ast.FunctionDef | ast.AsyncFunctionDef
    routes: list[Route] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    bodies: list[ast.expr] = field(default_factory=list)
    queries: list[ast.Call] = field(default_factory=list)
    understood: list[ast.Name] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    first_reading: ast.stmt | None = None
    answers_json: bool = False

    @property
    def body_name(self) -> str:
        """What the parameter with the bytes of the body is called."""
        names = {node.id for node in ast.walk(self.function) if isinstance(node, ast.Name)}
        return "raw_body" if "body" in names | _arguments(self.function) else "body"

    @property
    def takes_names(self) -> bool:
        """Whether a variable of its own has a name that the converted handler needs."""
        names = {
            node.id
            for node in ast.walk(self.function)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        } | _arguments(self.function)
        wanted = {"request", "raw_body"} | ({PAYLOAD} if self.first_reading else set())
        return self.reads_request and bool(names & wanted)

    @property
    def reads_request(self) -> bool:
        """Whether it has to be given the request."""
        return bool(self.bodies or self.queries)


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {each.arg for each in function.args.args}


def read_handler(
    source: Source, function: ast.FunctionDef | ast.AsyncFunctionDef, application: str
) -> Handler:
    """Read a decorated function; what cannot be converted is in ``problems``."""
    handler = Handler(function)
    if isinstance(function, ast.AsyncFunctionDef):
        handler.problems.append((function, "async-handler", f"{function.name} is a coroutine"))
    for decorator in function.decorator_list:
        _read_decorator(handler, decorator, application)
    _read_parameters(handler)
    own = list(_own_nodes(function))
    for node in own:
        if isinstance(node, ast.Return):
            _read_answer(handler, node)
        elif isinstance(node, ast.Yield | ast.YieldFrom):
            handler.problems.append((node, "streams", f"{function.name} is a generator"))
        elif isinstance(node, ast.Name) and node.id == "request":
            _read_request(source, handler, node)
    _check_bodies(source, handler)
    return handler


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions in it."""
    pending = list(getattr(function, "body", []))
    while pending:
        node = pending.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            pending = [*ast.iter_child_nodes(node), *pending]


def _read_decorator(handler: Handler, decorator: ast.expr, application: str) -> None:
    name = handler.function.name
    called = decorator.func if isinstance(decorator, ast.Call) else None
    owner = called.value if isinstance(called, ast.Attribute) else None
    if not isinstance(owner, ast.Name) or owner.id != application:
        text = f"{name} is decorated with {ast.unparse(decorator)[:40]}"
        handler.problems.append((decorator, "decorated-handler", text))
        return
    assert isinstance(decorator, ast.Call)
    assert isinstance(called, ast.Attribute)
    given = {each.arg: each.value for each in decorator.keywords}
    rule = decorator.args[0] if len(decorator.args) == 1 else None
    if set(given) - {"methods"} or not isinstance(rule, ast.Constant):
        handler.problems.append((decorator, "route-arguments", "a route has arguments of its own"))
        return
    methods = ["GET"] if called.attr == "route" else [called.attr.upper()]
    if "methods" in given:
        methods = _strings(given["methods"])
    if not methods or not METHODS.issuperset(methods) or len(set(methods)) != len(methods):
        text = "the methods of a route are not plain"
        handler.problems.append((decorator, "route-arguments", text))
        return
    path = _path(handler, decorator, str(rule.value))
    if path is not None:
        handler.routes.append(Route(decorator, path, tuple(methods)))


def _strings(value: ast.expr) -> list[str]:
    parts = value.elts if isinstance(value, ast.List | ast.Tuple | ast.Set) else []
    return [
        each.value.upper()
        for each in parts
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]


def _path(handler: Handler, decorator: ast.Call, rule: str) -> str | None:
    """Return the path with FastAPI's variables, None where one has no counterpart."""
    if rule != "/" and rule.endswith("/"):
        text = f"{rule} redirects what lacks the slash at its end"
        handler.problems.append((decorator, "trailing-slash", text))
        return None
    path = rule
    for each in VARIABLE.finditer(rule):
        if each["converter"] not in CONVERTERS:
            text = f"{each['converter']} converts in a way of its own"
            handler.problems.append((decorator, "converters", text))
            return None
        path = path.replace(each[0], f"{{{each['name']}{CONVERTERS[each['converter']]}}}")
    if re.search(r"[<>|]|//", path) or "{" in rule or not rule.startswith("/"):
        handler.problems.append((decorator, "converters", f"{rule} is not a plain path"))
        return None
    return path


def _read_parameters(handler: Handler) -> None:
    arguments = handler.function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    plain = not (arguments.vararg or arguments.kwarg or arguments.defaults or arguments.posonlyargs)
    plain = plain and not arguments.kwonlyargs
    for route in handler.routes:
        variables = dict(re.findall(r"{(\w+)(:int)?}", route.path))
        if (
            not plain
            or [each.arg for each in named if each.arg not in variables]
            or (len(named) != len(variables))
        ):
            text = f"the parameters of {handler.function.name} are not those of its path"
            handler.problems.append((handler.function, "parameters", text))
            return
        for each in named:
            wanted = TYPES[variables[each.arg]]
            if each.annotation is not None and ast.unparse(each.annotation) not in wanted:
                text = f"{each.arg} is annotated with another type than it has"
                handler.problems.append((each, "parameters", text))


def ambiguous_routes(handlers: list[Handler]) -> Iterator[tuple[ast.AST, str]]:
    """Yield routes that one before may answer: Werkzeug weighs paths, Starlette takes the first."""
    routes = [each for handler in handlers for each in handler.routes]
    for number, late in enumerate(routes):
        for early in routes[:number]:
            sample = re.sub(r"{[^}]*}", "0", late.path)
            pattern = re.sub(
                r"{\w+(:int)?}", "[^/]+", re.sub(r"([.+*?()|^$])", r"\\\1", early.path)
            )
            same = early.path == late.path and not set(early.methods) & set(late.methods)
            if not same and re.fullmatch(pattern, sample):
                yield late.decorator, f"{early.path} and {late.path} match the same paths"


def is_jsonify(node: ast.expr) -> bool:
    """Whether an expression is a call of ``jsonify``."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and (node.func.id == "jsonify")
    )


def _read_answer(handler: Handler, statement: ast.Return) -> None:
    body, status = statement.value, None
    if isinstance(body, ast.Tuple):
        code = body.elts[1] if len(body.elts) == 2 else None
        if not isinstance(code, ast.Constant) or type(code.value) is not int:
            text = f"{handler.function.name} answers with more than a body and a constant status"
            handler.problems.append((statement, "answer-tuple", text))
            return
        body, status = body.elts[0], code.value
    if body is None:
        text = f"{handler.function.name} answers with nothing"
        handler.problems.append((statement, "no-answer", text))
        return
    if is_jsonify(body):
        assert isinstance(body, ast.Call)
        assert isinstance(body.func, ast.Name)
        handler.understood.append(body.func)
        unpacked = any(isinstance(each, ast.Starred) for each in body.args) or any(
            each.arg is None for each in body.keywords
        )
        shapes = (len(body.args), bool(body.keywords))
        if unpacked or shapes not in ((1, False), (0, True)):
            text = "jsonify is given several values, none, or unpacked ones"
            handler.problems.append((statement, "answer-unknown", text))
            return
    handler.answers.append(Answer(statement, body, status))


def _read_request(source: Source, handler: Handler, node: ast.Name) -> None:
    attribute = source.parents[node]
    if not isinstance(attribute, ast.Attribute):
        return  # told as used elsewhere
    around = source.parents[attribute]
    if attribute.attr == "json":
        handler.bodies.append(attribute)
    elif attribute.attr == "get_json" and isinstance(around, ast.Call):
        options = {each.arg: each.value for each in around.keywords}
        known = set(options) <= {"force", "silent"} and not around.args
        if not known or not all(_is_switch(each) for each in options.values()):
            text = "get_json is given arguments that are not constant"
            handler.problems.append((node, "request-attributes", text))
        handler.bodies.append(around)
    elif attribute.attr == "args" and _is_get(source, around):
        call = source.parents[around]
        assert isinstance(call, ast.Call)
        if _query(call) is None:
            text = "args.get is given arguments that are not understood"
            handler.problems.append((node, "request-attributes", text))
        handler.queries.append(call)
    else:
        handler.problems.append((node, "request-attributes", f"request.{attribute.attr}"))
    handler.understood.append(node)


def _is_switch(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, bool)


def _is_get(source: Source, node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr != "get":
        return False
    call = source.parents[node]
    return isinstance(call, ast.Call) and call.func is node


def _query(call: ast.Call) -> dict[str, ast.expr] | None:
    given = dict(zip(("name", "default", "type"), call.args, strict=False))
    given |= {each.arg or "": each.value for each in call.keywords}
    kind = given.get("type")
    if len(call.args) > 3 or set(given) - {"name", "default", "type"} or "name" not in given:
        return None
    if len(given) != len(call.args) + len(call.keywords):
        return None
    if kind is not None and not (isinstance(kind, ast.Name) and kind.id in CONVERSIONS):
        return None
    return None if any(isinstance(each, ast.Starred) for each in call.args) else given


def query_arguments(call: ast.Call) -> dict[str, ast.expr]:
    """Return what ``request.args.get`` is given, by the names of its parameters."""
    return _query(call) or {}


def body_options(node: ast.expr) -> tuple[str, ...]:
    """Return which of ``force`` and ``silent`` a reading of the body switches on."""
    keywords = node.keywords if isinstance(node, ast.Call) else []
    return tuple(
        str(each.arg)
        for each in keywords
        if isinstance(each.value, ast.Constant) and each.value.value is True
    )


def _check_bodies(source: Source, handler: Handler) -> None:
    """Flask parses a body once, however often it is read: it gets a name where it is read first."""
    if len(handler.bodies) < 2:
        return
    handler.bodies.sort(key=lambda each: (each.lineno, each.col_offset))
    first = next(
        (
            each
            for each in (handler.bodies[0], *source.around(handler.bodies[0]))
            if isinstance(each, ast.stmt)
        ),
        None,
    )
    alike = len({body_options(each) for each in handler.bodies}) == 1
    simple = isinstance(first, ast.Assign | ast.AnnAssign | ast.Expr | ast.Return)
    if alike and simple and first in handler.function.body and isinstance(first, ast.stmt):
        handler.first_reading = first
        return
    text = f"{handler.function.name} reads the body in several places"
    handler.problems.append((handler.bodies[1], "body-shared", text))
