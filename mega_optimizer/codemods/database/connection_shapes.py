"""How functions open database connections, use them and give them up: the shapes that are known.

Structure (``with``, ``try``, what follows what) is not in the facts, so this reads ``ast``; ranges
are bytes of the file.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.repository.python import Call

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Shape = Literal["with", "closing", "returned", "unclosed", "other"]


class Source:
    """One module with what stands around each node."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.tree = ast.parse(content)
        self.parents = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }
        self.lines = content.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """Return the byte at which ``column`` (from 0) of ``line`` (from 1) stands."""
        bom = 3 if line == 1 and self.content.startswith(b"\xef\xbb\xbf") else 0
        return self.starts[line - 1] + column + bom

    def start(self, node: ast.stmt | ast.expr) -> int:
        """Return where ``node`` starts, decorators left out."""
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.stmt | ast.expr) -> int:
        """Return where ``node`` ends."""
        return self.offset(node.end_lineno or node.lineno, node.end_col_offset or 0)

    def text(self, node: ast.stmt | ast.expr) -> str:
        """Return the source of ``node``."""
        return self.content[self.start(node) : self.end(node)].decode(errors="replace")

    def call(self, call: Call) -> ast.Call | None:
        """Return the node of a call that the facts know."""
        return next(
            (
                node
                for node in ast.walk(self.tree)
                if isinstance(node, ast.Call)
                and (node.lineno, node.col_offset + 1) == (call.line, call.column)
            ),
            None,
        )

    def around(self, node: ast.AST, *kinds: type[ast.AST]) -> ast.AST | None:
        """Return the innermost node of one of ``kinds`` that holds ``node``."""
        found = self.parents.get(node)
        while found is not None and not isinstance(found, kinds):
            found = self.parents.get(found)
        return found

    def function(self, node: ast.AST) -> FunctionNode | None:
        """Return the function that ``node`` stands in."""
        found = self.around(node, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        return found if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) else None


@dataclass(frozen=True, slots=True)
class Usage:
    """One call that gives a connection, and the statement that uses it.

    ``closing`` is ``v = call`` (then ``c = v.cursor()``) and ``try: … finally: v.close()``, or
    ``v = call`` and, further down in the same block, ``v.close()`` (``closed``); ``unclosed`` is a
    variable that is closed elsewhere, or not at all.
    """

    shape: Shape
    call: ast.Call
    variable: str = ""
    statement: ast.stmt | None = None
    cursor: ast.Assign | None = None
    guarded: ast.Try | None = None
    closed: ast.stmt | None = None


def usage(source: Source, call: ast.Call) -> Usage:
    """Return how what ``call`` gives is used."""
    parent = source.parents.get(call)
    if isinstance(parent, ast.withitem):
        statement = source.parents[parent]
        name = parent.optional_vars
        known = isinstance(statement, ast.With) and isinstance(name, ast.Name)
        if not known or not isinstance(statement, ast.With) or not isinstance(name, ast.Name):
            return Usage("other", call)
        found = Usage("with", call, name.id, statement)
        return found if _stays_within(source, found) else Usage("other", call)
    if isinstance(parent, ast.Return):
        return Usage("returned", call, statement=parent)
    if not isinstance(parent, ast.Assign) or len(parent.targets) != 1:
        return Usage("other", call)
    target = parent.targets[0]
    if not isinstance(target, ast.Name):
        return Usage("other", call)
    following = _following(source, parent)
    if following and isinstance(following[0], ast.Return):
        value = following[0].value
        if isinstance(value, ast.Name) and value.id == target.id and len(following) == 1:
            return Usage("returned", call, target.id, parent)
    closing = _closing(source, call, target.id, parent, following) or _straight(
        source, call, target.id, parent, following
    )
    return closing if closing is not None else Usage("unclosed", call, target.id, parent)


def _following(source: Source, statement: ast.stmt) -> list[ast.stmt]:
    holder = source.parents[statement]
    for field in ("body", "orelse", "finalbody", "handlers"):
        statements = getattr(holder, field, None)
        if isinstance(statements, list) and statement in statements:
            return statements[statements.index(statement) + 1 :]
    return []


def _closing(
    source: Source, call: ast.Call, variable: str, opened: ast.Assign, following: Sequence[ast.stmt]
) -> Usage | None:
    rest = list(following)
    cursor = rest.pop(0) if rest and _is_cursor(rest[0], variable) else None
    if not rest or not isinstance(rest[0], ast.Try):
        return None
    guarded = rest[0]
    if guarded.handlers or guarded.orelse:
        return None
    closed = [_closed(each) for each in guarded.finalbody]
    wanted: list[list[str | None]] = [[variable]]
    if isinstance(cursor, ast.Assign) and isinstance(cursor.targets[0], ast.Name):
        wanted.append([cursor.targets[0].id, variable])
    if closed not in wanted:
        return None
    found = Usage(
        "closing",
        call,
        variable,
        opened,
        cursor if isinstance(cursor, ast.Assign) else None,
        guarded,
    )
    plain = _plain_lines(source, found) and _stays_within(source, found)
    return found if plain else Usage("other", call)


def _straight(
    source: Source, call: ast.Call, variable: str, opened: ast.Assign, following: Sequence[ast.stmt]
) -> Usage | None:
    """Return ``v = call … v.close()`` in one block, where nothing else closes or keeps ``v``."""
    position = next((i for i, each in enumerate(following) if _closed(each) == variable), 0)
    if not position:
        return None
    closed = following[position]
    found = Usage("closing", call, variable, opened, closed=closed)
    gone = [*_lines(source, opened), *_lines(source, closed)]
    if any(b"#" in line or b";" in line for line in gone):
        return None
    names = {variable}
    for statement in following[:position]:
        names |= set(_cursors(statement, variable))
    inside = {node for each in following[: position + 1] for node in ast.walk(each)}
    last = set(ast.walk(closed))
    function = source.function(call)
    for node in ast.walk(function) if function is not None else ():
        if not isinstance(node, ast.Name) or node.id not in names:
            continue
        parent = source.parents.get(node)
        behind = node not in inside and node.lineno > opened.lineno
        closes = isinstance(parent, ast.Attribute) and parent.attr == "close"
        again = closes and node.id == variable and node not in last
        passed = isinstance(parent, ast.Return | ast.Global | ast.Nonlocal | ast.Yield)
        kept = isinstance(parent, ast.Assign) and parent.value is node
        if behind or again or passed or kept:
            return None
    return found


def _lines(source: Source, statement: ast.stmt) -> list[bytes]:
    return source.lines[statement.lineno - 1 : statement.end_lineno]


def inner_lines(source: Source, found: Usage) -> Iterator[int]:
    """Yield the lines of a straight block that begin code: not those within a long string."""
    if found.statement is None or found.closed is None:
        return
    start, end = (found.statement.end_lineno or 0) + 1, found.closed.lineno
    within: set[int] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and isinstance(
            getattr(node, "value", ""), str
        ):
            within |= set(range(node.lineno + 1, (node.end_lineno or 0) + 1))
    yield from (n for n in range(start, end) if n not in within and source.lines[n - 1].strip())


def _is_cursor(statement: ast.stmt, variable: str) -> bool:
    return (
        isinstance(statement, ast.Assign)
        and len(statement.targets) == 1
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Call)
        and isinstance(statement.value.func, ast.Attribute)
        and statement.value.func.attr == "cursor"
        and isinstance(statement.value.func.value, ast.Name)
        and statement.value.func.value.id == variable
        # a named cursor lives on the server, and its close() can fail
        and not statement.value.args
        and all(each.arg in ("cursor_factory", "row_factory") for each in statement.value.keywords)
    )


def _closed(statement: ast.stmt) -> str | None:
    """Return the variable that a statement closes."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    owner = call.func.value
    return owner.id if call.func.attr == "close" and isinstance(owner, ast.Name) else None


def try_line(source: Source, found: Usage) -> int:
    """Return the line of ``try:``."""
    return found.guarded.lineno if found.guarded is not None else 0


def finally_line(source: Source, found: Usage) -> int:
    """Return the line of ``finally:``, 0 where it is not one of its own."""
    if found.guarded is None:
        return 0
    last = found.guarded.body[-1].end_lineno or 0
    numbers = range(last + 1, found.guarded.finalbody[0].lineno)
    return next((n for n in numbers if source.lines[n - 1].strip() == b"finally:"), 0)


def _plain_lines(source: Source, found: Usage) -> bool:
    """Whether the lines that would go hold nothing else, comments included."""
    if found.guarded is None or found.statement is None:
        return False
    start, end = found.statement.lineno, found.guarded.lineno
    last = found.guarded.end_lineno or 0
    closing = finally_line(source, found)
    if not closing or source.lines[end - 1].strip() != b"try:":
        return False
    gone = source.lines[start - 1 : end] + source.lines[closing - 1 : last]
    return not any(b"#" in line or b";" in line for line in gone)


def _stays_within(source: Source, found: Usage) -> bool:
    """Whether the connection and its cursors are not used behind their block, nor kept."""
    function = source.function(found.call)
    block = found.guarded or found.statement
    if function is None or block is None:
        return False
    inside = set(ast.walk(block))
    last = found.guarded.finalbody if found.guarded is not None else []
    finished = {node for statement in last for node in ast.walk(statement)}
    names = {found.variable, *_cursors(block, found.variable)}
    if found.cursor is not None and isinstance(found.cursor.targets[0], ast.Name):
        names.add(found.cursor.targets[0].id)
        inside |= set(ast.walk(found.cursor))
    for node in ast.walk(function):
        if not isinstance(node, ast.Name) or node.id not in names:
            continue
        if isinstance(node.ctx, ast.Load) and node not in inside and node.lineno > block.lineno:
            return False
        parent = source.parents.get(node)
        if isinstance(parent, ast.Return | ast.Global | ast.Nonlocal):
            return False
        if isinstance(parent, ast.Assign) and parent.value is node:
            return False
        closes = isinstance(parent, ast.Attribute) and parent.attr == "close"
        if closes and node.id == found.variable and node not in finished:
            return False
    return True


def _cursors(block: ast.stmt, variable: str) -> Iterator[str]:
    for node in ast.walk(block):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made = node.value.func
            if not isinstance(made, ast.Attribute) or not isinstance(made.value, ast.Name):
                continue
            if made.value.id == variable and made.attr == "cursor":
                yield from (each.id for each in node.targets if isinstance(each, ast.Name))


def calls_of(source: Source, name: str, driver: str) -> Iterator[ast.Call | None]:
    """Yield the calls of what is called ``name`` here; None for every other mention.

    ``driver`` is what the driver's own function is called, which may have the same name.
    """
    for node in ast.walk(source.tree):
        named = (isinstance(node, ast.Name) and node.id == name) or (
            isinstance(node, ast.Attribute) and node.attr == name
        )
        if not named or ast.unparse(node) == driver:
            continue
        parent = source.parents.get(node)
        yield parent if isinstance(parent, ast.Call) and parent.func is node else None
