"""Launch sites in Python code: ``uvicorn.run(...)``, ``app.run(...)`` of Flask and their kin."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.service import LaunchSite, Word

if TYPE_CHECKING:
    from collections.abc import Iterator

# Functions that start a server, by qualified name; the server that each starts.
_RUNNERS = {
    "uvicorn.run": "uvicorn",
    "hypercorn.run": "hypercorn",
    "waitress.serve": "waitress-serve",
    "granian.Granian": "granian",
    "aiohttp.web.run_app": "aiohttp",
}


@by_content(size=1024)
def python_launch(path: str, content: bytes) -> tuple[LaunchSite, ...]:
    """Return the calls that start a server; none in a file that Python cannot parse.

    ``application`` is an import string where one is given, else the expression. Keyword arguments
    are words such as ``--host=0.0.0.0``, so that :meth:`LaunchSite.option` finds them.
    """
    if b".run" not in content and not any(
        name.encode() in content for name in ("uvicorn", "waitress", "granian", "run_app")
    ):
        return ()
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    try:
        return tuple(_calls(path, content, tree))
    except RecursionError:
        return ()


def _calls(path: str, content: bytes, tree: ast.Module) -> Iterator[LaunchSite]:
    names: dict[str, str] = {}
    flask: set[str] = set()
    calls: list[ast.Call] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                alias.asname or alias.name.split(".")[0]: alias.name
                if alias.asname
                else alias.name.split(".")[0]
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            created = _qualified(node.value.func, names)
            if created in ("flask.Flask", "quart.Quart"):
                flask |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Call):
            calls.append(node)
    lines = _line_starts(content)
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        qualified = _qualified(call.func, names)
        server = _RUNNERS.get(qualified or "")
        if server is not None:
            yield _site(path, server, call, lines)
        elif (
            isinstance(call.func, ast.Attribute)
            and call.func.attr == "run"
            and isinstance(call.func.value, ast.Name)
            and call.func.value.id in flask
        ):
            yield _site(path, "flask", call, lines, call.func.value.id)


def _qualified(node: ast.expr, names: dict[str, str]) -> str | None:
    """Return the dotted name of ``node`` with its first part resolved through the imports."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return None
    return ".".join([names[node.id], *parts])


def _line_starts(content: bytes) -> list[int] | None:
    """Return the byte offset of each line, None where columns are not bytes of the file."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return None
    if b"\r" in content.replace(b"\r\n", b"") or b"\f" in content:
        return None
    starts = [3 if content.startswith(b"\xef\xbb\xbf") else 0]
    starts += (index + 1 for index, byte in enumerate(content) if byte == 0x0A)
    return starts


def _word(text: str, node: ast.expr | ast.keyword, lines: list[int] | None) -> Word:
    if lines is None or node.end_lineno is None or node.end_col_offset is None:
        return Word(text, -1, -1)
    return Word(
        text,
        lines[node.lineno - 1] + node.col_offset,
        lines[node.end_lineno - 1] + node.end_col_offset,
    )


def _site(
    path: str,
    server: str,
    call: ast.Call,
    lines: list[int] | None,
    application: str | None = None,
) -> LaunchSite:
    words = [_word(server, call.func, lines)]
    first = next(
        (keyword.value for keyword in call.keywords if keyword.arg in ("app", "target")),
        call.args[0] if call.args and application is None else None,
    )
    if first is not None:
        application = _value(first)
        words.append(_word(application, first, lines))
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in ("app", "target"):
            continue
        option = "--" + keyword.arg.replace("_", "-")
        if isinstance(keyword.value, ast.Constant) and keyword.value.value in (False, None):
            continue
        bare = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        text = option if bare else f"{option}={_value(keyword.value)}"
        words.append(_word(text, keyword, lines))
    place = Place(path, call.lineno, call.col_offset + 1, call.end_lineno)
    return LaunchSite(place, "python", ast.unparse(call), server, application, tuple(words))


def _value(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return ast.unparse(node)
