"""The syntax tree of a module with the bytes on which each node stands.

For rules that replace a name, rename a keyword or drop a statement: an edit of a few bytes needs no
tree that is written back.
"""

from __future__ import annotations

import ast
import codecs
from functools import cached_property
from typing import TYPE_CHECKING

from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.python import python_facts
from mega_optimizer.repository.python.walk import parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.repository.python import Call


class Source:
    """One module. Ranges are bytes of the file; those of ``ast`` are of UTF-8 without a mark."""

    def __init__(self, content: bytes, tree: ast.Module) -> None:
        self.content = content
        self.tree = tree
        self._lines = [0]
        for line in content.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._mark = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """Each node's parent."""
        found: dict[ast.AST, ast.AST] = {}
        waiting: list[ast.AST] = [self.tree]
        while waiting:
            node = waiting.pop()
            children = parts_of(node)
            found.update(dict.fromkeys(children, node))
            waiting += children
        return found

    def range(self, node: ast.expr | ast.stmt | ast.keyword | ast.arg) -> tuple[int, int]:
        """Return the bytes ``start:end`` of ``node``."""
        start = self._offset(node.lineno, node.col_offset)
        return start, self._offset(node.end_lineno or 0, node.end_col_offset or 0)

    def _offset(self, line: int, column: int) -> int:
        return self._lines[line - 1] + column + (self._mark if line == 1 else 0)

    def calls(self) -> Iterator[ast.Call]:
        """Yield every call."""
        yield from (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def call(self, fact: Call) -> ast.Call | None:
        """Return the node of a call that the facts of this file name."""
        here = self._calls_at.get((fact.line, fact.column), ())
        return next((node for node in here if ast.unparse(node.func) == fact.text), None)

    @cached_property
    def _calls_at(self) -> dict[tuple[int, int], list[ast.Call]]:
        found: dict[tuple[int, int], list[ast.Call]] = {}
        for node in self.calls():
            found.setdefault((node.lineno, node.col_offset + 1), []).append(node)
        return found

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield what ``node`` stands in, from the inside outwards."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def own_lines(self, statement: ast.stmt) -> tuple[int, int] | None:
        """Return the whole lines of a statement that shares them with no other, else None."""
        start, end = self.range(statement)
        first = self._lines[statement.lineno - 1]
        last = self._lines[statement.end_lineno or 0]
        before, behind = self.content[first:start], self.content[end:last]
        comment = behind.strip()
        if before.strip() or (comment and not comment.startswith(b"#")):
            return None
        return first, last


@by_content(size=16)
def read_source(path: str, content: bytes) -> Source | Problem:
    """Return the tree of a file that :func:`python_facts` understands, or why there is none.

    Codes: those of :func:`python_facts`, and ``encoding`` for what is not UTF-8.
    """
    facts = python_facts(path, content)
    if isinstance(facts, Problem):
        return facts
    try:
        content.decode()
    except UnicodeDecodeError:
        return Problem(path, "encoding", "is not UTF-8")
    return Source(content, ast.parse(content))
