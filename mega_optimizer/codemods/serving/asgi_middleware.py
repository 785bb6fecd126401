"""Middleware of the form ``dispatch(request, call_next)`` becomes pure ASGI where that is provable.

https://www.starlette.io/middleware/#pure-asgi-middleware
"""

from __future__ import annotations

import ast
import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip, apply_edits
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.serving.middleware_shape import Refusal, Shape, shape_of
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.serving.asgi_class import Source
    from mega_optimizer.repository.python import PythonFacts

BASE = frozenset({"starlette.middleware.base.BaseHTTPMiddleware"})
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each dispatch function that can be taken apart."""
    program = context.program
    pattern = rb"\.middleware\(\s*[\"']http[\"']\s*\)|\bBaseHTTPMiddleware\b"
    for path in program.containing(pattern, program.product, b"iddleware"):
        facts = context.python(path)
        content = context.read(path)
        if isinstance(facts, Problem) or isinstance(content, Problem):
            problem = facts if isinstance(facts, Problem) else content
            if isinstance(problem, Problem):
                yield Skip(Place(path, problem.line), problem.code, problem.message)
            continue
        found = list(_middleware(facts, ast.parse(content)))
        for function, owner in found:
            yield _judge(context, facts, function, owner, alone=len(found) == 1)


def _middleware(
    facts: PythonFacts, tree: ast.Module
) -> Iterator[tuple[FUNCTION, ast.ClassDef | None]]:
    """Yield the dispatch functions of a module, each with its class."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTION) and _is_registered(node):
            yield node, None
        elif isinstance(node, ast.ClassDef) and _is_middleware(facts, node):
            dispatch = _method(node, "dispatch")
            if dispatch is not None:
                yield dispatch, node


def _is_registered(node: FUNCTION) -> bool:
    """Whether a function is decorated with ``@app.middleware("http")``."""
    return any(
        isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr == "middleware"
        and len(each.args) == 1
        and isinstance(each.args[0], ast.Constant)
        and each.args[0].value == "http"
        for each in node.decorator_list
    )


def _is_middleware(facts: PythonFacts, node: ast.ClassDef) -> bool:
    return any(facts.resolve(ast.unparse(base)) in BASE for base in node.bases)


def _method(node: ast.ClassDef, name: str) -> FUNCTION | None:
    found = [each for each in node.body if isinstance(each, FUNCTION) and each.name == name]
    return found[0] if len(found) == 1 else None


def _judge(
    context: Context,
    facts: PythonFacts,
    function: FUNCTION,
    owner: ast.ClassDef | None,
    *,
    alone: bool,
) -> Outcome:
    place = Place(facts.path, owner.lineno if owner else function.lineno)
    if not isinstance(function, ast.AsyncFunctionDef):
        return Skip(place, "unusual-signature", "it is no coroutine function")
    refusal = (
        _objection_to_class(context, facts, owner, function)
        if owner is not None
        else _objection_to_function(context, facts, function)
    )
    shape = shape_of(facts, function, method=owner is not None)
    refusal = refusal or (shape if isinstance(shape, Refusal) else None)
    if refusal is not None or isinstance(shape, Refusal):
        line = refusal.line if refusal is not None else place.line
        return Skip(Place(facts.path, line), *_said(refusal))
    name = owner.name if owner is not None else function.name
    return Fix(
        place,
        f"Make {name} pure ASGI, without a task and a stream for every request",
        partial(_edits, context, facts, shape, owner, place, alone=alone),
    )


def _said(refusal: Refusal | None) -> tuple[str, str]:
    return (refusal.code, refusal.reason) if refusal is not None else ("unknown", "")


def _objection_to_function(
    context: Context, facts: PythonFacts, function: ast.AsyncFunctionDef
) -> Refusal | None:
    line = function.lineno
    if len(function.decorator_list) != 1:
        return Refusal("decorated", "it has further decorators", line)
    if any(isinstance(node, ast.Name) and node.id == "self" for node in ast.walk(function)):
        return Refusal("name-taken", "self means the object around it", line)
    if _used_elsewhere(context, function.name):
        return Refusal("used-elsewhere", f"{function.name} is also used by its name", line)
    if class_name(function.name) in facts.bound_names:
        return Refusal("name-taken", f"{class_name(function.name)} exists already", line)
    return None


def _is_added(program: Program, middleware: Definition) -> bool:
    """Whether an application is given the class: this one, where its name can be told."""
    word = middleware.name.encode()
    added = rb"(?:add_middleware|Middleware)\(\s*(?:\w+\.)*" + word + rb"\b"
    for path in program.containing(added, program.product, word):
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            first = call.positional[0] if call.positional else None
            if first is None or first.text.rpartition(".")[2] != middleware.name:
                continue
            if first.name is None or program.definition(path, first.name) == middleware:
                return True
    return False


def _objection_to_class(
    context: Context, facts: PythonFacts, owner: ast.ClassDef, function: ast.AsyncFunctionDef
) -> Refusal | None:
    if len(owner.bases) != 1 or owner.keywords or owner.decorator_list:
        return Refusal("unusual-class", "the class has further bases or decorators", owner.lineno)
    if function.decorator_list or _method(owner, "__call__") is not None:
        return Refusal("unusual-class", "dispatch is decorated, or __call__ defined", owner.lineno)
    for node in ast.walk(owner):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if text in ("self.app", "self.dispatch", "self.dispatch_func", "super().dispatch"):
            line = getattr(node, "lineno", owner.lineno)
            return Refusal("unusual-class", f"the class uses {text} itself", line)
    first = _method(owner, "__init__")
    if first is not None and _base_call(first) is None:
        return Refusal("unusual-class", "__init__ calls the base in another way", first.lineno)
    program = context.program
    word = owner.name.encode()
    if not _is_added(program, Definition(facts.path, owner.name)):
        return Refusal("not-used", "no application is given this class", owner.lineno)
    for path in program.containing(
        rb"\b" + word + rb"\b", (*program.product, *program.tests), word
    ):
        content = context.read(path)
        subclassed = rb"class\s+\w+\([^)]*\b" + word + rb"\b"
        if isinstance(content, bytes) and (
            re.search(subclassed, content) or (path in program.tests and b".dispatch(" in content)
        ):
            return Refusal("used-elsewhere", f"{path} relies on its dispatch", owner.lineno)
    return None


def _used_elsewhere(context: Context, name: str) -> bool:
    program = context.program
    paths = (*program.product, *program.tests)
    for path in program.containing(rb"\b" + name.encode() + rb"\b", paths, name.encode()):
        facts = program.facts(path)
        if facts is None:
            return True
        if any(name in text.split(".") for texts in facts.loads.values() for text in texts):
            return True
        if any(each.target.rpartition(".")[2] == name for each in facts.imports):
            return True
    return False


def _base_call(function: FUNCTION) -> ast.Call | None:
    """Return ``super().__init__(app)`` where a constructor calls it just once, like that."""
    calls = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__"
    ]
    if len(calls) != 1 or calls[0].keywords or len(calls[0].args) != 1:
        return None
    return calls[0] if isinstance(calls[0].args[0], ast.Name) else None


def class_name(function: str) -> str:
    """Return the name of the class that a middleware function becomes."""
    words = "".join(part.capitalize() for part in function.split("_") if part)
    return words if words.endswith("Middleware") else f"{words}Middleware"


def _edits(
    context: Context,
    facts: PythonFacts,
    shape: Shape,
    owner: ast.ClassDef | None,
    place: Place,
    *,
    alone: bool,
) -> Edits | Skip:
    from mega_optimizer.codemods.python import edits_between
    from mega_optimizer.codemods.serving import asgi_class
    from mega_optimizer.codemods.serving.asgi_imports import with_imports

    content = context.read(facts.path)
    source = asgi_class.source_of(content) if isinstance(content, bytes) else None
    if source is None or not isinstance(content, bytes):
        return Skip(place, "unusual-layout", "tabs, or line endings and bytes that are not plain")
    if not asgi_class.is_alone(source, (*shape.passes, *shape.answers)):
        return Skip(place, "unusual-layout", "one of its returns does not stand alone on its line")
    annotation = shape.function.args.args[-2].annotation
    request = ast.unparse(annotation) if isinstance(annotation, ast.Name) else "Request"
    indent = " " * (owner.col_offset if owner is not None else shape.function.col_offset)
    method = asgi_class.call_method(source, shape, indent, request)
    if isinstance(method, Refusal):
        return Skip(place, method.code, method.reason)
    changed = (
        _as_class(source, shape, method, indent)
        if owner is None
        else _in_class(source, shape, method, owner)
    )
    newline = "\r\n" if b"\r\n" in content else "\n"
    new = changed.replace("\r\n", "\n").replace("\n", newline).encode()
    imported = with_imports(facts, shape, new, request, place)
    if isinstance(imported, Skip):
        return imported
    edits = edits_between(facts.path, content, imported)
    if alone or not edits:
        return edits
    # One after the other: which import is left over depends on what became of the others.
    start, end = edits[0].start, edits[-1].end
    joined = apply_edits(content[:end], edits)[start:]
    return (Edit(facts.path, start, end, joined),)


def _as_class(source: Source, shape: Shape, method: str, indent: str) -> str:
    """Return the module with a middleware function turned into a class that is added to its app."""
    from mega_optimizer.codemods.serving.asgi_class import docstring_lines

    function = shape.function
    decorator = function.decorator_list[0]
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    owner = ast.unparse(call.value) if isinstance(call, ast.Attribute) else "app"
    name = class_name(function.name)
    start, end = source.lines(decorator.lineno, function.end_lineno or function.lineno)
    documented = docstring_lines(source, shape)
    gap = "\n" if indent else "\n\n"
    text = f"{indent}class {name}:\n"
    text += f"{documented}\n" if documented else ""
    text += f"{indent}    def __init__(self, app: ASGIApp) -> None:\n"
    text += f"{indent}        self.app = app\n\n{method}{gap}"
    text += f"{indent}{owner}.add_middleware({name})\n"
    return (source.content[:start] + text.encode() + source.content[end:]).decode()


def _in_class(source: Source, shape: Shape, method: str, owner: ast.ClassDef) -> str:
    """Return the module with the dispatch function of a class turned into ``__call__``."""
    from mega_optimizer.codemods.serving.asgi_class import SIGNATURE, docstring_lines

    function = shape.function
    start, end = source.lines(function.lineno, function.end_lineno or function.lineno)
    head, body = method.split("\n", 1)
    documented = _first_paragraph(docstring_lines(source, shape))
    constructor = ""
    first = _method(owner, "__init__")
    if first is None:
        step = " " * function.col_offset
        constructor = f"{step}def __init__(self, app: ASGIApp) -> None:\n"
        constructor += f"{step}    self.app = app\n\n"
    text = f"{constructor}{head}\n{documented}{body}"
    edits = [Edit("", start, end, text.encode())]
    base = owner.bases[0]
    opening = source.offset(base.lineno, base.col_offset)
    closing = source.content.index(b")", opening) + 1
    edits.append(Edit("", source.content.rindex(b"(", 0, opening), closing, b""))
    call = _base_call(first) if first is not None else None
    if call is not None:
        begin = source.offset(call.lineno, call.col_offset)
        until = source.offset(call.end_lineno or 0, call.end_col_offset or 0)
        edits.append(Edit("", begin, until, f"self.app = {ast.unparse(call.args[0])}".encode()))
    old = ast.unparse(function).split("\n", 1)[0].encode()
    documentation = owner.body[0]
    if isinstance(documentation, ast.Expr) and documentation.end_lineno:
        low, high = source.lines(documentation.lineno, documentation.end_lineno)
        at = source.content.find(old, low, high)
        if at >= 0:
            edits.append(Edit("", at, at + len(old), SIGNATURE.encode()))
    return apply_edits(source.content, edits).decode()


def _first_paragraph(documented: str) -> str:
    """Return a docstring without what it says of the parameters of ``dispatch``."""
    if "call_next" not in documented:
        return documented
    lines = documented.splitlines()
    kept = lines[: next((i for i, line in enumerate(lines) if not line.strip()), len(lines))]
    quotes = '"""' if '"""' in lines[0] else "'''"
    return "" if "call_next" in "".join(kept) else "\n".join(kept).rstrip() + f"{quotes}\n"
