"""Write a module's connections anew so that they come from the pool of their driver.

psycopg2's pool gives connections by hand and does not look whether they still live, so a context
manager does both; psycopg's pool does it by itself.
"""

from __future__ import annotations

import ast
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mega_optimizer.codemods.database.connection_shapes import finally_line, inner_lines, try_line
from mega_optimizer.codemods.finding import Edit, apply_edits
from mega_optimizer.codemods.python import LINE_LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.codemods.database.connection_shapes import FunctionNode, Source, Usage

# FastAPI and Starlette run plain functions in as many threads (anyio's default limit).
LIMIT = 40
# Neither lru_cache nor, from Python 3.12 on, cached_property makes threads wait for the first.
LOCK = "_pool_lock = Lock()  # requests that come together at first open one pool, not one each\n"
USABLE = '''
def _usable_connection(pool: {pool}) -> {connection}:
    """Take a connection out of the pool that the server has not closed in the meantime."""
    for _ in range(POOL_SIZE):
        connection = pool.getconn()
        try:
            connection.autocommit = True  # the check begins no transaction
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            connection.autocommit = False
        except ({module}.OperationalError, {module}.InterfaceError):
            pool.putconn(connection, close=True)
        else:
            return connection
    return pool.getconn()
'''


@dataclass(frozen=True, slots=True)
class Plan:
    """What is rewritten in one module.

    ``opened`` are the calls of ``connect``, all with the same arguments; ``callers`` are uses of
    the function that returns its connection. ``owner`` is the class where that is a method whose
    arguments are attributes. ``commits`` says that ``with`` ends the transaction of what it opens.
    """

    driver: str
    opened: tuple[Usage, ...]
    callers: tuple[Usage, ...]
    owner: ast.ClassDef | None
    commits: bool


@dataclass(frozen=True, slots=True)
class Written:
    """The new source, and the imports (module, name) that it needs above ``first``."""

    content: bytes
    imports: tuple[tuple[str, str], ...]
    first: str


def write(source: Source, plan: Plan, module: str, environ: str) -> Written:
    """Return the module with its connections pooled."""
    if plan.driver == "psycopg":
        return _with_psycopg(source, plan, module, environ)
    return _with_psycopg2(source, plan, module, environ)


def _with_psycopg2(source: Source, plan: Plan, module: str, environ: str) -> Written:
    first = plan.opened[0]
    function = cast("FunctionNode", source.function(first.call))
    returned = first.shape == "returned"
    helper = function.name if returned else "_connection"
    typed = returned and function.returns is not None
    imports = [("contextlib", "contextmanager"), ("psycopg2.pool", "ThreadedConnectionPool")]
    imports.append(("threading", "Lock"))
    imports += [("collections.abc", "Iterator")] if typed or not returned else []
    pool = "self._pool" if plan.owner is not None else "_pool()"
    unit = _unit(source, function)
    body = _context_manager(pool, plan.commits, unit)
    connection = "psycopg2.extensions.connection"
    if module != "psycopg2":
        connection = f"{module}.extensions.connection"
    top: list[str] = [_size(environ, 5, "kept open by each process")]
    top.append(f"POOL_LIMIT = max(POOL_SIZE, {LIMIT})  # at the same time: one for each thread\n")
    top.append(LOCK)
    arguments = _arguments(source, first.call)
    made = _call("ThreadedConnectionPool", ["POOL_SIZE", "POOL_LIMIT", *arguments], unit)
    usable = USABLE.format(pool="ThreadedConnectionPool", connection=connection, module=module)
    edits: list[Edit] = []
    if plan.owner is None:
        imports.append(("functools", "lru_cache"))
        top.append(_pool_function("ThreadedConnectionPool", made, unit))
    else:
        imports.append(("functools", "cached_property"))
    top.append(_indented(usable, unit).lstrip("\n"))
    if returned:
        edits += _function_edits(source, plan, function, body, made, unit, typed)
    else:
        head = f"@contextmanager\ndef {helper}() -> Iterator[{connection}]:\n"
        top.append(head + textwrap.indent(body, unit))
    edits += _use_edits(source, [*plan.opened, *plan.callers], f"{helper}()", returned)
    return _written(source, plan, top, edits, imports)


def _with_psycopg(source: Source, plan: Plan, module: str, environ: str) -> Written:
    first = plan.opened[0]
    function = cast("FunctionNode", source.function(first.call))
    unit = _unit(source, function)
    positional = [source.text(each) for each in first.call.args]
    keywords = _keywords(source, first.call)
    arguments = [*positional, *([f"kwargs={keywords}"] if keywords else [])]
    arguments += ["min_size=1", "max_size=POOL_SIZE", "check=ConnectionPool.check_connection"]
    made = _call("ConnectionPool", [*arguments, "open=True"], unit)
    top = [
        _size(environ, 10, "of each process, at most"),
        LOCK,
        _pool_function("ConnectionPool", made, unit),
    ]
    manager = "AbstractContextManager"
    imports = [("functools", "lru_cache"), ("psycopg_pool", "ConnectionPool")]
    imports.append(("threading", "Lock"))
    body = f"with _pool_lock:\n{unit}pool = _pool()\nreturn pool.connection()"
    if first.shape != "returned":
        imports.append(("contextlib", manager))
        head = f"def _connection() -> {manager}[{module}.Connection]:\n"
        top.append(f"{head}{textwrap.indent(body, unit)}\n")
        edits = [
            Edit("", source.start(each.call), source.end(each.call), b"_connection()")
            for each in plan.opened
        ]
        return _written(source, plan, top, edits, imports)
    opened = cast("ast.stmt", first.statement)
    end = source.end(function.body[-1])
    text = textwrap.indent(body, _indentation(source, opened)).lstrip().encode()
    edits = [Edit("", source.start(opened), end, text)]
    if function.returns is not None:
        imports.append(("contextlib", manager))
        text = f"{manager}[{source.text(function.returns)}]".encode()
        edits.append(Edit("", source.start(function.returns), source.end(function.returns), text))
    return _written(source, plan, top, edits, imports)


def _indentation(source: Source, node: ast.stmt) -> str:
    line = source.lines[node.lineno - 1]
    return line[: len(line) - len(line.lstrip())].decode()


def _written(
    source: Source,
    plan: Plan,
    top: Sequence[str],
    edits: list[Edit],
    imports: Sequence[tuple[str, str]],
) -> Written:
    first = min((_top_level(source, each.call) for each in plan.opened), key=source.start)
    newline = b"\r\n" if b"\r\n" in source.content else b"\n"
    text = _joined(top).encode()
    position = _line_start(source, first)
    # constants stand one empty line below what comes before, functions two
    surplus = len(newline) if source.content[:position].endswith(newline * 3) else 0
    edits.append(Edit("", position - surplus, position, text))
    edits = [
        Edit(each.path, each.start, each.end, each.replacement.replace(b"\n", newline))
        for each in edits
    ]
    content = apply_edits(source.content, edits)
    return Written(content, tuple(imports), "POOL_SIZE")


def _joined(parts: Sequence[str]) -> str:
    """Join constants, which stand close, and functions, two empty lines apart."""
    text = ""
    for each in parts:
        function = each.startswith(("def ", "@"))
        text += ("\n\n" if function and text else "") + each
    return f"{text}\n\n"


def _top_level(source: Source, node: ast.AST) -> ast.stmt:
    while not isinstance(source.parents[node], ast.Module):
        node = source.parents[node]
    return cast("ast.stmt", node)


def _line_start(source: Source, statement: ast.stmt) -> int:
    line = statement.lineno
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        line = min([line, *(each.lineno for each in statement.decorator_list)])
    while line > 1 and source.lines[line - 2].startswith(b"#"):
        line -= 1  # comments belong to the definition
    return source.starts[line - 1]


def _unit(source: Source, function: FunctionNode) -> str:
    width = function.body[0].col_offset - function.col_offset
    line = source.lines[function.body[0].lineno - 1]
    return "\t" if line.startswith(b"\t") else " " * max(width, 1)


def _indented(text: str, unit: str) -> str:
    return text if unit == " " * 4 else text.replace(" " * 4, unit)


def _size(environ: str, default: int, meaning: str) -> str:
    return f'POOL_SIZE = int({environ}("DB_POOL_SIZE", "{default}"))  # connections {meaning}\n'


def _pool_function(kind: str, made: str, unit: str) -> str:
    doc = '"""Open the pool when it is first needed, so that every worker process has its own."""'
    return (
        f"@lru_cache(maxsize=1)\ndef _pool() -> {kind}:\n{unit}{doc}\n"
        f"{textwrap.indent(f'return {made}', unit)}\n"
    )


def _call(name: str, arguments: Sequence[str], unit: str) -> str:
    line = f"{name}({', '.join(arguments)})"
    if "\n" not in line and len(line) + 2 * len(unit) + len("return ") <= LINE_LENGTH:
        return line
    inner = "".join(f"{unit}{each},\n" for each in arguments)
    return f"{name}(\n{inner})"


def _arguments(source: Source, call: ast.Call) -> list[str]:
    parts = [(source.start(each), source.text(each)) for each in call.args]
    for each in call.keywords:
        value = source.text(each.value)
        named = f"{each.arg}={value}" if each.arg else f"**{value}"
        parts.append((source.start(each.value), named))
    return [text for _, text in sorted(parts)]


def _keywords(source: Source, call: ast.Call) -> str:
    if len(call.keywords) == 1 and call.keywords[0].arg is None:
        return source.text(call.keywords[0].value)
    parts = [
        f'"{each.arg}": {source.text(each.value)}' if each.arg else f"**{source.text(each.value)}"
        for each in call.keywords
    ]
    return f"{{{', '.join(parts)}}}" if parts else ""


def _context_manager(pool: str, commits: bool, unit: str) -> str:
    inside = (
        "with connection:  # commits, or rolls back after an error\n        yield connection"
        if commits
        else "yield connection"
    )
    text = (
        f"with _pool_lock:\n    pool = {pool}\nconnection = _usable_connection(pool)\n"
        f"try:\n    {inside}\nfinally:\n    pool.putconn(connection)\n"
    )
    return _indented(text, unit)


def _function_edits(
    source: Source,
    plan: Plan,
    function: FunctionNode,
    body: str,
    made: str,
    unit: str,
    typed: bool,
) -> list[Edit]:
    """Make the function that returned a new connection a context manager."""
    first = plan.opened[0]
    opened = cast("ast.stmt", first.statement)
    indent, outer = _indentation(source, opened), _indentation(source, function)
    end = source.end(function.body[-1])
    text = textwrap.indent(body.rstrip("\n"), indent).lstrip().encode()
    edits = [Edit("", source.start(opened), end, text)]
    head = f"{outer}@contextmanager\n"
    if plan.owner is not None:
        doc = '"""Opened when it is first needed, so that every worker process has its own."""'
        head = (
            f"{outer}@cached_property\n{outer}def _pool(self) -> ThreadedConnectionPool:\n"
            f"{outer}{unit}{doc}\n"
            f"{textwrap.indent(f'return {made}', outer + unit)}\n\n{head}"
        )
    start = source.starts[function.lineno - 1]
    edits.append(Edit("", start, start, head.encode()))
    if typed and function.returns is not None:
        annotation = f"Iterator[{source.text(function.returns)}]".encode()
        edits.append(
            Edit("", source.start(function.returns), source.end(function.returns), annotation)
        )
    return edits


def _use_edits(source: Source, usages: Sequence[Usage], given: str, returned: bool) -> list[Edit]:
    edits: list[Edit] = []
    for each in usages:
        text = source.text(each.call) if returned else given
        if each.shape == "with" and not returned:
            edits.append(Edit("", source.start(each.call), source.end(each.call), text.encode()))
        elif each.shape == "closing" and each.statement is not None and each.guarded is not None:
            edits += _closing_edits(source, each, text)
        elif each.closed is not None:
            edits += _straight_edits(source, each, text)
    return edits


def _straight_edits(source: Source, found: Usage, given: str) -> list[Edit]:
    """Turn ``v = call … v.close()`` into ``with call as v:`` and what was between, indented."""
    opened, closed = cast("ast.stmt", found.statement), cast("ast.stmt", found.closed)
    unit = _unit(source, cast("FunctionNode", source.function(found.call))).encode()
    text = f"with {given} as {found.variable}:".encode()
    start, end = source.starts[closed.lineno - 1], source.starts[closed.end_lineno or 0]
    edits = [
        Edit("", source.start(opened), source.end(opened), text),
        Edit("", start, end, b""),
    ]
    for number in inner_lines(source, found):
        position = source.starts[number - 1]
        edits.append(Edit("", position, position, unit))
    return edits


def _closing_edits(source: Source, found: Usage, given: str) -> list[Edit]:
    """Turn ``v = call; try: … finally: v.close()`` into ``with call as v: …``."""
    statement, guarded = cast("ast.stmt", found.statement), cast("ast.Try", found.guarded)
    line = source.lines[guarded.lineno - 1]
    text = f"with {given} as {found.variable}:"
    if found.cursor is not None:
        inner = source.lines[guarded.body[0].lineno - 1]
        indent = inner[: len(inner) - len(inner.lstrip())].decode()
        text += f"\n{indent}{source.text(found.cursor)}"
    stop = source.starts[try_line(source, found) - 1] + len(line.rstrip(b"\r\n"))
    last = guarded.end_lineno or 0
    closing = source.starts[finally_line(source, found) - 1]
    return [
        Edit("", source.start(statement), stop, text.encode()),
        Edit("", closing, source.starts[last], b""),
    ]
