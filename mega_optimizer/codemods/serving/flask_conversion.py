"""Write a module of Flask anew for FastAPI: its routes, what they read, and what they answer.

Answers keep their bytes: ``flask.jsonify`` sorts keys, escapes what is not ASCII and ends with a
line feed (``flask/json/provider.py``). Handlers stay plain functions, which FastAPI runs in
threads; only the body is read before, as that takes a coroutine.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Skip, apply_edits
from mega_optimizer.codemods.python import edits_between, parse_module, skipped
from mega_optimizer.codemods.serving.flask_additions import (
    PARSE,
    QUERY,
    READ,
    RESPONSE,
    answer_annotation,
    checks_type,
    definitions,
    from_fastapi,
    from_responses,
    standard_imports,
)
from mega_optimizer.codemods.serving.flask_routes import (
    PAYLOAD,
    body_options,
    is_jsonify,
    query_arguments,
)
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import python_facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.serving.flask_module import FlaskModule
    from mega_optimizer.codemods.serving.flask_routes import Answer, Handler, Route


def converted(module: FlaskModule) -> tuple[Edit, ...] | Skip:
    """Return the edits that turn the module into one of FastAPI.

    Skip codes: those of adding imports and of reading the result.
    """
    path, before = module.facts.path, module.source.content
    newline = b"\r\n" if b"\r\n" in before else b"\n"
    edits = {
        Edit(each.path, each.start, each.end, each.replacement.replace(b"\n", newline))
        for each in _edits(module)
    }
    written = _with_imports(module, apply_edits(before, edits))
    return written if isinstance(written, Skip) else edits_between(path, before, written)


def _with_imports(module: FlaskModule, content: bytes) -> bytes | Skip:
    from mega_optimizer.codemods.imports import ensure_import, ensure_module

    path = module.facts.path
    for package, name in standard_imports(module):
        tree, facts = parse_module(path, content), python_facts(path, content)
        if isinstance(tree, Problem):
            return skipped(tree)
        if isinstance(facts, Problem):
            return skipped(facts)
        above = 1 + max((each.line for each in facts.imports if not each.scope), default=0)
        added = (
            ensure_import(tree, facts, package, name, above)
            if package
            else ensure_module(tree, facts, name, above)
        )
        if isinstance(added, Skip):
            return added
        if added[1] != name:
            return Skip(Place(path), "names-taken", f"{name} has another name in this file")
        content = added[0].bytes
    return content


def _edits(module: FlaskModule) -> Iterator[Edit]:
    yield from _import_edits(module)
    yield from _application_edits(module)
    for handler in module.handlers:
        for route in handler.routes:
            yield _decorator_edit(module, route)
        yield from _signature_edits(module, handler)
        yield from _body_edits(module, handler)
        for query in handler.queries:
            yield _replaced(module, query, _query_text(module, query))
        for answer in handler.answers:
            yield from _answer_edits(module, answer)
    for statement in module.aborts:
        yield _abort_edit(module, statement)
    if module.run is not None:
        yield _replaced(module, module.run, _run_text(module, module.run))


def _body_edits(module: FlaskModule, handler: Handler) -> Iterator[Edit]:
    for body in handler.bodies:
        names = [each for each in body_options(body) if each != "force" or checks_type(module)]
        options = "".join(f", {name}=True" for name in names)
        parsed = f"{PARSE}(request, {handler.body_name}{options})"
        if handler.first_reading is None:
            yield _replaced(module, body, parsed)
            continue
        yield _replaced(module, body, PAYLOAD)
        if body is handler.bodies[0]:
            start = module.source.range(handler.first_reading)[0]
            line = module.source.content.rfind(b"\n", 0, start) + 1
            indent = module.source.content[line:start].decode()
            yield _inserted(module, start, f"{PAYLOAD} = {parsed}\n{indent}")


def _text(module: FlaskModule, node: ast.expr) -> str:
    start, end = module.source.range(node)
    return module.source.content[start:end].decode()


def _replaced(module: FlaskModule, node: ast.expr | ast.stmt, text: str) -> Edit:
    return Edit(module.facts.path, *module.source.range(node), text.encode())


def _inserted(module: FlaskModule, at: int, text: str) -> Edit:
    return Edit(module.facts.path, at, at, text.encode())


def _import_edits(module: FlaskModule) -> Iterator[Edit]:
    first, *others = module.imports
    lines = [f"from fastapi import {', '.join(from_fastapi(module))}"]
    lines.append(f"from fastapi.responses import {', '.join(from_responses(module))}")
    yield _replaced(module, first, "\n".join(lines))
    for each in others:
        lines_of = module.source.own_lines(each)
        if lines_of is not None:
            yield Edit(module.facts.path, *lines_of, b"")


def _application_edits(module: FlaskModule) -> Iterator[Edit]:
    assert module.made is not None
    content = module.source.content
    anchor = module.factory or module.made
    start = content.rfind(b"\n", 0, module.source.range(anchor)[0]) + 1
    while start:  # comments above belong to it
        above = content.rfind(b"\n", 0, start - 1) + 1
        if not content[above:start].lstrip().startswith(b"#"):
            break
        start = above
    blank = 0
    while start and re.search(rb"(?:^|\n)[ \t]*\r?\n$", content[:start]):
        blank += 1
        start = content.rfind(b"\n", 0, start - 1) + 1
    end = start
    for _ in range(blank):
        end = content.find(b"\n", end) + 1
    texts = list(definitions(module).values())
    if texts:
        gap = "\n\n" if start else ""
        yield Edit(module.facts.path, start, end, (gap + "\n\n".join([*texts, ""])).encode())
    value = module.made.value
    yield _replaced(module, value, "FastAPI(openapi_url=None, redirect_slashes=False)")


def _quote(module: FlaskModule) -> str:
    """Return the quotes in which the module writes its paths."""
    text = _text(module, module.handlers[0].routes[0].decorator.args[0])
    return text[0] if text[0] in "\"'" else '"'


def _decorator_edit(module: FlaskModule, route: Route) -> Edit:
    quoted = _text(module, route.decorator.args[0])
    quote = quoted[0] if quoted[0] in "\"'" else '"'
    path = f"{quote}{route.path}{quote}"
    if route.methods in (("POST",), ("PUT",), ("PATCH",), ("DELETE",)):
        text = f"{module.name}.{route.methods[0].lower()}({path})"
    else:
        methods = list(route.methods)
        if "GET" in methods:  # Flask answers HEAD wherever it answers GET
            methods.insert(methods.index("GET") + 1, "HEAD")
        listed = ", ".join(f"{quote}{each}{quote}" for each in methods)
        text = f"{module.name}.api_route({path}, methods=[{listed}])"
    return _replaced(module, route.decorator, text)


def _signature_edits(module: FlaskModule, handler: Handler) -> Iterator[Edit]:
    function = handler.function
    own = [each.arg for each in function.args.args]
    added = ["request: Request"] if handler.reads_request else []
    if handler.bodies:
        added.append(f"{handler.body_name}: bytes = Depends({READ})")
    content = module.source.content
    start = module.source.range(function)[0]
    name = re.compile(rb"def\s+\w+\s*\(").search(content, start)
    assert name is not None
    types: dict[str, str] = {}
    for route in handler.routes:
        types |= dict(re.findall(r"{(\w+)(:int)?}", route.path))
    joined = ", ".join(added)
    for each in function.args.args:
        kind = ": int" if types.get(each.arg) else ": str"
        text = "" if each.annotation is not None else kind
        if joined and each is function.args.args[-1]:
            text += f", {joined}"
        if text:
            yield _inserted(module, module.source.range(each)[1], text)
    if joined and not own:
        yield _inserted(module, name.end(), joined)
    if function.returns is not None:
        yield _replaced(module, function.returns, answer_annotation(handler) or "Response")


def _query_text(module: FlaskModule, query: ast.Call) -> str:
    given = {name: _text(module, value) for name, value in query_arguments(query).items()}
    text = f"{QUERY}(request, {given['name']}"
    if "default" in given:
        text += f", {given['default']}"
    if "type" in given:
        text += f", {given['type']}" if "default" in given else f", convert={given['type']}"
    return f"{text})"


def _answer_edits(module: FlaskModule, answer: Answer) -> Iterator[Edit]:
    path, source = module.facts.path, module.source
    status = f", status_code={answer.status}" if answer.status is not None else ""
    start, end = source.range(answer.body)
    outer_start, outer_end = start, end
    if answer.status is not None:
        assert answer.statement.value is not None
        outer_start, outer_end = source.range(answer.statement.value)
    if not is_jsonify(answer.body):
        name = RESPONSE if answer.kind == "json" else "HTMLResponse"
        yield Edit(path, outer_start, start, f"{name}(".encode())
        yield Edit(path, end, outer_end, f"{status})".encode())
        return
    call = answer.body
    assert isinstance(call, ast.Call)
    yield Edit(path, outer_start, source.range(call.func)[1], RESPONSE.encode())
    if call.keywords:
        quote = _quote(module)
        inside = source.content.index(b"(", source.range(call.func)[1]) + 1
        yield _inserted(module, inside, "{")
        for each in call.keywords:
            at = source.range(each)[0]
            equals = source.content.index(b"=", at)
            value = source.range(each.value)[0]
            before = source.content[equals + 1 : value].lstrip()
            key = f"{quote}{each.arg}{quote}: ".encode() + before
            yield Edit(path, at, value, key)
        yield _inserted(module, end - 1, f"}}{status}")
    elif status:
        yield _inserted(module, source.range(call.args[-1])[1], status)
    if outer_end > end:
        yield Edit(path, end, outer_end, b"")


def _abort_edit(module: FlaskModule, statement: ast.Expr) -> Edit:
    call = statement.value
    assert isinstance(call, ast.Call)
    given = [*call.args, *(each.value for each in call.keywords)]
    return _replaced(
        module, call, f"raise HTTPException({', '.join(_text(module, each) for each in given)})"
    )


def _run_text(module: FlaskModule, run: ast.Call) -> str:
    given = dict(zip(("host", "port"), run.args, strict=False))
    given |= {each.arg: each.value for each in run.keywords if each.arg in ("host", "port")}
    arguments = [module.name]
    if "host" in given:
        arguments.append(f"host={_text(module, given['host'])}")
    port = given.get("port")
    if port is None:
        arguments.append("port=5000")
    else:
        text = _text(module, port)
        number = isinstance(port, ast.Constant) and isinstance(port.value, int)
        number = number or text.startswith("int(")
        arguments.append(f"port={text}" if number else f"port=int({text})")
    return f"uvicorn.run({', '.join(arguments)})"
