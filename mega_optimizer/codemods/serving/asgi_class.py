"""Write a dispatch function anew as a pure ASGI class, its own statements word for word."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, apply_edits
from mega_optimizer.codemods.serving.middleware_shape import Refusal, response_uses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.codemods.serving.middleware_shape import Shape

STEP = "    "
GUARD = """\
if scope["type"] != "http":
    await self.app(scope, receive, send)
    return
"""
SIGNATURE = "async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:"


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a module by lines, with the byte offset of each. Columns of ast are bytes."""

    content: bytes
    starts: tuple[int, ...]

    def offset(self, line: int, column: int) -> int:
        """Return the byte offset of a position as ``ast`` gives it."""
        return self.starts[line - 1] + column

    def lines(self, first: int, last: int) -> tuple[int, int]:
        """Return the byte range of the lines ``first`` to ``last``, both included."""
        return self.starts[first - 1], self.starts[last] if last < len(self.starts) else len(
            self.content
        )


def source_of(content: bytes) -> Source | None:
    """Return the lines of a module, None where they are not plain (tabs, lone carriage returns)."""
    if b"\t" in content or b"\f" in content or b"\r" in content.replace(b"\r\n", b""):
        return None
    if content.startswith(b"\xef\xbb\xbf"):
        return None
    try:
        content.decode()
    except UnicodeDecodeError:
        return None
    starts = [0, *(match.end() for match in re.finditer(rb"\n", content))]
    return Source(content, tuple(starts))


def call_method(source: Source, shape: Shape, indent: str, request: str) -> str | Refusal:
    """Return the method ``__call__`` of the class at ``indent``, without its docstring.

    ``request`` is how the class of requests is called in the module.
    """
    function = shape.function
    refusal = _lost_comment(source, shape)
    if refusal is not None:
        return refusal
    start = _signature_end(source, function) + 1
    if isinstance(function.body[0], ast.Expr) and shape_begins_later(shape):
        start = (function.body[0].end_lineno or start) + 1
    inner = indent + STEP * 2
    old = " " * function.body[0].col_offset
    before = _moved(source, shape, start, shape.call.lineno - 1, old, inner)
    if isinstance(before, Refusal):
        return before
    last = _last_line(shape)
    wrapped = inner + STEP * 2
    after = _moved(source, shape, (shape.call.end_lineno or 0) + 1, last, old, wrapped)
    if isinstance(after, Refusal):
        return after
    text = f"{indent}{STEP}{SIGNATURE}\n" + _indented(GUARD, inner) + "\n"
    if shape.uses_request:
        text += f"{inner}{shape.request} = {request}(scope)\n"
    text += before.lstrip("\n")
    if not after.strip():
        return f"{text.rstrip(chr(10))}\n\n{inner}await self.app(scope, receive, send)\n"
    opening = f"\n{inner}async def send_wrapper(message: Message) -> None:\n"
    opening += f'{inner}{STEP}if message["type"] == "http.response.start":\n'
    if shape.reads_status:
        opening += f'{wrapped}status_code = message["status"]\n'
    if shape.touches_headers:
        opening += f"{wrapped}headers = MutableHeaders(scope=message)\n"
    closing = f"{inner}{STEP}await send(message)\n\n"
    closing += f"{inner}await self.app(scope, receive, send_wrapper)\n"
    text = text.rstrip("\n") + "\n"
    return text + opening + after.strip("\n") + "\n" + closing


def shape_begins_later(shape: Shape) -> bool:
    """Whether the function has a docstring, which is none of its statements."""
    first = shape.function.body[0]
    return first is not shape.call and (not shape.before or first is not shape.before[0])


def docstring_lines(source: Source, shape: Shape) -> str:
    """Return the lines of the function's docstring as they stand, ``""`` without one."""
    if not shape_begins_later(shape):
        return ""
    first = shape.function.body[0]
    start, end = source.lines(first.lineno, first.end_lineno or first.lineno)
    return source.content[start:end].decode().replace("\r\n", "\n")


def _last_line(shape: Shape) -> int:
    returned = shape.function.body[-1]
    return returned.lineno - 1 if shape.response is not None else (shape.call.end_lineno or 0)


def _signature_end(source: Source, function: ast.AsyncFunctionDef) -> int:
    known = [function.lineno]
    known += [each.end_lineno or 0 for each in function.args.args]
    known += [function.returns.end_lineno or 0] if function.returns else []
    line = max(known)
    while line < function.body[0].lineno:
        start, end = source.lines(line, line)
        if re.search(rb":\s*(?:#.*)?$", source.content[start:end].rstrip()):
            return line
        line += 1
    return function.body[0].lineno - 1


def _lost_comment(source: Source, shape: Shape) -> Refusal | None:
    last = shape.function.body[-1]
    for each in (shape.call, last):
        start, end = source.lines(each.lineno, each.end_lineno or each.lineno)
        if b"#" in source.content[start:end]:
            return Refusal(
                "comment-would-be-lost", "a comment stands beside call_next", each.lineno
            )
    if shape.function.body[0].lineno == shape.function.lineno:
        return Refusal("unusual-layout", "it stands on one line", shape.function.lineno)
    return None


def _moved(
    source: Source, shape: Shape, first: int, last: int, old: str, new: str
) -> str | Refusal:
    """Return the lines ``first`` to ``last`` with their own edits, from one indent to another."""
    if last < first:
        return ""
    start, end = source.lines(first, last)
    edits = [
        Edit("", each.start - start, each.end - start, each.replacement)
        for each in _edits(source, shape)
        if start <= each.start and each.end <= end
    ]
    text = apply_edits(source.content[start:end], edits).decode().replace("\r\n", "\n")
    lines = []
    for line in text.splitlines():
        if line.strip() and not line.startswith(old):
            if not line.lstrip().startswith("#"):
                return Refusal("unusual-layout", "its lines are indented in another way", first)
            line = old + line.lstrip()
        lines.append(new + line[len(old) :] if line.strip() else "")
    return "\n".join(lines) + "\n" if lines else ""


def _edits(source: Source, shape: Shape) -> Iterator[Edit]:
    for use in response_uses(shape):
        start = source.offset(use.lineno, use.col_offset)
        end = source.offset(use.end_lineno or 0, use.end_col_offset or 0)
        yield Edit("", start, end, use.attr.encode())
    for each in (*shape.passes, *shape.answers):
        line = source.starts[each.lineno - 1]
        start = source.offset(each.lineno, each.col_offset)
        end = source.offset(each.end_lineno or 0, each.end_col_offset or 0)
        indent = " " * (start - line)
        if each in shape.passes:
            new = f"await self.app(scope, receive, send)\n{indent}return"
            yield Edit("", start, end, new.encode())
        else:
            yield Edit("", start, start + len(b"return"), b"response =")
            closing = f"\n{indent}await response(scope, receive, send)\n{indent}return"
            yield Edit("", end, end, closing.encode())


def is_alone(source: Source, statements: Sequence[ast.stmt]) -> bool:
    """Whether each of ``statements`` stands on lines of its own, without a comment behind it."""
    for each in statements:
        start = source.offset(each.lineno, each.col_offset)
        end = source.offset(each.end_lineno or 0, each.end_col_offset or 0)
        first, last = source.lines(each.lineno, each.end_lineno or each.lineno)
        if source.content[first:start].strip() or source.content[end:last].strip():
            return False
    return True


def _indented(text: str, indent: str) -> str:
    return "".join(f"{indent}{line}\n" for line in text.splitlines())
