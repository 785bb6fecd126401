"""Middleware functions whose meaning is the same in front of the response and at its start.

``BaseHTTPMiddleware`` runs the application in a task of its own and hands its answer on through a
stream; ``call_next`` returns as soon as the status and the headers are there. So what a dispatch
function does before ``call_next`` can run before the application is called, and what it does after
it when the message ``http.response.start`` passes, as long as it looks at nothing else
(starlette/middleware/base.py; https://www.starlette.io/middleware/#pure-asgi-middleware).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.repository.python import PythonFacts

# What a request needs no ``receive`` for (starlette.requests.HTTPConnection).
OF_SCOPE = frozenset(
    {
        "method", "url", "base_url", "headers", "query_params", "path_params", "cookies", "client",
        "state", "scope", "app", "session", "user", "auth", "url_for",
    }
)  # fmt: skip
RESPONSES = frozenset(
    f"{package}.responses.{name}"
    for package in ("starlette", "fastapi")
    for name in (
        "Response", "JSONResponse", "PlainTextResponse", "HTMLResponse", "RedirectResponse",
        "ORJSONResponse",
    )
) | {"fastapi.Response"}  # fmt: skip
# Names of the generated code, which the function must not use for anything else.
RESERVED = frozenset({"scope", "receive", "send", "message", "headers", "status_code"})
AsyncFunction = ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a function is not understood, with the line that shows it."""

    code: str
    reason: str
    line: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A dispatch function that can be taken apart.

    ``before`` and ``after`` are its statements around ``call`` (the statement that awaits
    ``call_next``; None where the function ends by returning that). ``passes`` are the returns of
    ``call_next`` itself, ``answers`` the returns of a response of its own.
    """

    function: AsyncFunction
    request: str
    call_next: str
    response: str | None
    before: tuple[ast.stmt, ...]
    call: ast.stmt
    after: tuple[ast.stmt, ...]
    passes: tuple[ast.Return, ...]
    answers: tuple[ast.Return, ...]

    @property
    def reads_status(self) -> bool:
        """Whether the status is looked at."""
        return self._reads("status_code")

    @property
    def touches_headers(self) -> bool:
        """Whether headers of the response are looked at or set."""
        return self._reads("headers")

    def _reads(self, attribute: str) -> bool:
        return any(node.attr == attribute for node in response_uses(self))

    @property
    def uses_request(self) -> bool:
        """Whether anything but ``call_next`` is given the request."""
        return any(_names(part, self.request) for part in (*self.before, *self.after))


def response_uses(shape: Shape) -> Iterator[ast.Attribute]:
    """Yield the places at which the function looks at its response."""
    for statement in shape.after:
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and _is_name(node.value, shape.response):
                yield node


def shape_of(facts: PythonFacts, function: AsyncFunction, *, method: bool) -> Shape | Refusal:
    """Take a dispatch function apart, or say why that cannot be done without changing it."""
    arguments = function.args
    given = [each.arg for each in arguments.args]
    extra = arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults
    if len(given) != (3 if method else 2) or extra:
        return Refusal("unusual-signature", "it takes other arguments", function.lineno)
    request, call_next = given[-2:]
    body = _without_docstring(function.body)
    position = next(
        (index for index, each in enumerate(body) if _awaits(each, call_next, request)), None
    )
    if position is None:
        return _no_call(body, call_next, function)
    call = body[position]
    response = _target(call)
    before, after = body[:position], body[position + 1 :]
    if response is not None:
        if not after or not isinstance(after[-1], ast.Return):
            return Refusal("unusual-ending", "it does not end by returning", function.lineno)
        if not _is_name(after[-1].value, response):
            return Refusal("answers-itself", "it returns another answer", after[-1].lineno)
        after = after[:-1]
    elif after:
        return Refusal("unusual-ending", "statements follow its return", after[0].lineno)
    passes, answers = [], []
    for each in (node for part in before for node in _own_nodes(part)):
        if isinstance(each, ast.Return):
            if _awaits(each, call_next, request):
                passes.append(each)
            elif _is_answer(facts, each):
                answers.append(each)
            else:
                return Refusal("answers-itself", "it returns an answer of its own", each.lineno)
    shape = Shape(
        function,
        request,
        call_next,
        response,
        tuple(before),
        call,
        tuple(after),
        tuple(passes),
        tuple(answers),
    )
    refusal = _objection(shape)
    escape = request_escapes(shape)
    if refusal is None and escape is not None:
        reason = "the request is handed on, or more of it is read than its head"
        return Refusal("reads-request", reason, escape)
    return refusal or shape


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    documented = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    return body[1:] if documented else body


def _no_call(body: Sequence[ast.stmt], call_next: str, function: AsyncFunction) -> Refusal:
    for each in body:
        if isinstance(each, ast.Try | ast.With | ast.AsyncWith) and _names(each, call_next):
            reason = "what stands around call_next ends when the answer starts, not when it is sent"
            return Refusal("around-the-answer", reason, each.lineno)
    return Refusal("call-next-hidden", "it does not just await call_next", function.lineno)


def _awaits(statement: ast.stmt, call_next: str, request: str) -> bool:
    """Whether a statement is ``x = await call_next(request)`` or the return of that."""
    if not isinstance(statement, ast.AnnAssign | ast.Return | ast.Assign):
        return False
    value = statement.value
    if isinstance(statement, ast.Assign | ast.AnnAssign) and _target(statement) is None:
        return False
    if not isinstance(value, ast.Await) or not isinstance(value.value, ast.Call):
        return False
    call = value.value
    plain = not call.keywords and len(call.args) == 1 and _is_name(call.args[0], request)
    return plain and _is_name(call.func, call_next)


def _target(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        return target.id if isinstance(target, ast.Name) else None
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return None


def _is_answer(facts: PythonFacts, statement: ast.Return) -> bool:
    call = statement.value
    if not isinstance(call, ast.Call):
        return False
    return facts.resolve(ast.unparse(call.func)) in RESPONSES


def _objection(shape: Shape) -> Refusal | None:
    """Return what a function does that would mean something else as pure ASGI."""
    for part in (*shape.before, *shape.after):
        if _names(part, shape.call_next) and not _only_passes(shape, part):
            return Refusal("call-next-hidden", "call_next is used in another way", part.lineno)
        for node in ast.walk(part):
            refusal = _objection_to(shape, node)
            if refusal is not None:
                return refusal
    bound = _bound(shape.before)
    again = bound & _bound(shape.after)
    if again:
        name = sorted(again)[0]
        reason = f"{name} is assigned both before and after call_next"
        return Refusal("rebinds", reason, shape.call.lineno)
    for part in shape.after:
        for node in _own_nodes(part):
            if isinstance(node, ast.Return):
                return Refusal("several-returns", "it returns in more than one place", node.lineno)
            if isinstance(node, ast.Raise):
                return Refusal("raises", "it raises an exception after the answer", node.lineno)
            if _is_name(node, shape.response) and not _is_read_of_response(shape, part, node):
                reason = "it uses more of the response than its status and its headers"
                return Refusal("uses-response", reason, part.lineno)
    return None


def _objection_to(shape: Shape, node: ast.AST) -> Refusal | None:
    line = getattr(node, "lineno", shape.function.lineno)
    if isinstance(node, ast.Yield | ast.YieldFrom | ast.Nonlocal | ast.Global):
        return Refusal("unusual-statement", "it holds a statement of another kind", line)
    if isinstance(node, ast.Name) and node.id in RESERVED:
        return Refusal("name-taken", f"{node.id} already means something in it", line)
    text = isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )
    if text and line != getattr(node, "end_lineno", line):
        return Refusal("multi-line-string", "a string of several lines would move", line)
    if isinstance(node, ast.Name) and node.id == shape.request and isinstance(node.ctx, ast.Store):
        return Refusal("rebinds", "it replaces the request", line)
    if isinstance(node, ast.Try | ast.With | ast.AsyncWith) and _leaves(node):
        return Refusal("around-the-answer", "it answers inside of a block that is left later", line)
    return None


def _leaves(node: ast.Try | ast.With | ast.AsyncWith) -> bool:
    """Whether a return stands where sending the answer would still be inside of the block."""
    whole = not isinstance(node, ast.Try) or bool(node.finalbody)
    inside = [node] if whole else node.body
    return any(isinstance(each, ast.Return) for part in inside for each in _own_nodes(part))


def request_escapes(shape: Shape) -> int | None:
    """Return the line where the request is used for more than its scope, else None."""
    allowed: set[int] = set()
    for part in (*shape.before, *shape.after):
        for node in ast.walk(part):
            if isinstance(node, ast.Attribute) and _is_name(node.value, shape.request):
                if node.attr in OF_SCOPE:
                    allowed.add(id(node.value))
            elif isinstance(node, ast.Call) and any(
                node is _returned(each) for each in shape.passes
            ):
                allowed |= {id(each) for each in node.args}
    for part in (*shape.before, *shape.after):
        for node in ast.walk(part):
            if _is_name(node, shape.request) and id(node) not in allowed:
                return getattr(node, "lineno", shape.function.lineno)
    return None


def _returned(statement: ast.Return) -> ast.AST | None:
    value = statement.value
    return value.value if isinstance(value, ast.Await) else value


def _only_passes(shape: Shape, part: ast.stmt) -> bool:
    uses = sum(_is_name(node, shape.call_next) for node in ast.walk(part))
    inside = {id(node) for node in ast.walk(part)}
    return uses == sum(id(each) in inside for each in shape.passes)


def _is_read_of_response(shape: Shape, part: ast.stmt, node: ast.AST) -> bool:
    for each in ast.walk(part):
        if isinstance(each, ast.Attribute) and each.value is node:
            if each.attr == "status_code":
                return isinstance(each.ctx, ast.Load)
            return each.attr == "headers" and isinstance(each.ctx, ast.Load)
    return False


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Walk a statement without the functions and classes that it defines."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))
        elif node is not statement:
            continue


def _bound(statements: Sequence[ast.stmt]) -> set[str]:
    return {
        node.id
        for part in statements
        for node in ast.walk(part)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    } | {
        node.target.id
        for part in statements
        for node in ast.walk(part)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
    }


def _names(node: ast.AST, name: str) -> bool:
    return any(_is_name(each, name) for each in ast.walk(node))


def _is_name(node: ast.AST | None, name: str | None) -> bool:
    return isinstance(node, ast.Name) and node.id == name
