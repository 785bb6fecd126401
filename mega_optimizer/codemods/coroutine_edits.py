"""Edits that make a coroutine wait without holding up the event loop."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.codemods.imports import ensure_module, without_import
from mega_optimizer.codemods.python import LINE_LENGTH, edits_between, skipped
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import python_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call, PythonFacts

OTHER_LOOPS = frozenset({"trio", "curio", "gevent", "eventlet"})
LOCK = re.compile(r"(?i)lock|mutex|semaphore|\bcond")
# Where an await needs no brackets.
BARE = (
    ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.keyword, ast.withitem,
    ast.Tuple, ast.List, ast.Dict, ast.NamedExpr, ast.FormattedValue,
)  # fmt: skip


def no_await(facts: PythonFacts, source: Source, call: Call) -> Skip | None:
    """Object to a place where a coroutine cannot let others run, or not on asyncio's loop."""
    place = Place(facts.path, call.line, call.column)
    if _is_in_class_body_or_default(source, call):
        return Skip(place, "not-in-coroutine", "a lambda or a default runs elsewhere")
    if _holds_lock(source, call):
        return Skip(place, "holds-lock", "other coroutines would find the lock taken and block")
    function = facts.function(call.scope)
    if function is not None and function.global_names:
        reason = f"{call.scope} assigns globals, which others could see half done"
        return Skip(place, "shared-state", reason)
    others = sorted({each.target.partition(".")[0] for each in facts.imports} & OTHER_LOOPS)
    if others:
        return Skip(place, "not-asyncio", f"the module uses {others[0]}")
    return None


def _holds_lock(source: Source, call: Call) -> bool:
    """Whether ``call`` stands in a ``with`` statement that holds a lock of threads."""
    node = source.call(call)
    if node is None:
        return True
    for outer in source.around(node):
        if isinstance(outer, ast.With) and any(
            LOCK.search(ast.unparse(item.context_expr)) for item in outer.items
        ):
            return True
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
    return False


def _is_in_class_body_or_default(source: Source, call: Call) -> bool:
    """Whether ``call`` does not run in the body of a coroutine: a default, a nested function."""
    node: ast.AST | None = source.call(call)
    if node is None:
        return True
    for outer in source.around(node):
        if isinstance(outer, ast.AsyncFunctionDef):
            return not any(_holds(statement, node) for statement in outer.body)
        if isinstance(outer, ast.FunctionDef | ast.Lambda | ast.ClassDef | ast.GeneratorExp):
            return True
    return True


def _holds(statement: ast.stmt, node: ast.AST) -> bool:
    return any(each is node for each in ast.walk(statement))


def rewrite(
    context: Context,
    facts: PythonFacts,
    change: Callable[[Source, str], Iterable[Edit]],
    unused: frozenset[str] = frozenset(),
) -> Edits | Skip:
    """Make ``change`` to the bytes of a module, with ``asyncio`` (the name it is given) imported.

    Imports of the local names ``unused`` go where nothing needs them any more.
    """
    path = facts.path
    content, tree = context.read(path), context.tree(path)
    if isinstance(content, Problem):
        return skipped(content)
    if isinstance(tree, Problem):
        return skipped(tree)
    source = read_source(path, content)
    if isinstance(source, Problem):
        return skipped(source)
    lines = [each.line for each in facts.functions] + [each.line for each in facts.classes]
    first = min(lines, default=1)
    added = ensure_module(tree, facts, "asyncio", first)
    if isinstance(added, Skip):
        return added
    module, name = added
    edits = tuple(change(source, name))
    if not edits:
        return Skip(Place(path), "not-found-again", "a call could not be found again in the tree")
    for each in sorted(unused):
        if not _is_needed(path, content, edits, each):
            module = without_import(module, facts, each, is_mentioned=False)
    return (*edits, *edits_between(path, content, module))


def _is_needed(path: str, content: bytes, edits: Iterable[Edit], name: str) -> bool:
    """Whether a module still mentions ``name`` after ``edits``, other than in its import."""
    from mega_optimizer.codemods.finding import apply_edits

    changed = python_facts(path, apply_edits(content, edits))
    if isinstance(changed, Problem):
        return True
    loaded = {text.partition(".")[0] for texts in changed.loads.values() for text in texts}
    quoted = re.search(rb"[\"']" + re.escape(name.encode()) + rb"[\"']", content)
    return name in loaded or quoted is not None


def in_thread(source: Source, path: str, call: Call, asyncio: str) -> Edit | None:
    """Return the edit that makes a coroutine wait for ``call`` in another thread."""
    node = source.call(call)
    if node is None:
        return None
    start, end = source.range(node)
    _, opened = source.range(node.func)
    given = [*node.args, *node.keywords]
    function = source.content[start:opened].decode()
    inside = source.content[opened:end].decode()
    if not inside.startswith("(") or "\n" in function:
        return None
    head = f"await {asyncio}.to_thread("
    if not given:
        text = f"{head}{function})"
    else:
        rest = inside[1:]
        space = re.match(r"\s*", rest)
        blank = space[0] if space else ""
        text = f"{head}{blank}{function},{blank or ' '}{rest[len(blank) :]}"
    parent = next(source.around(node), None)
    if not isinstance(parent, BARE) and not (
        isinstance(parent, ast.Call) and parent.func is not node
    ):
        text = f"({text})"
    elif "\n" not in text:
        text = _fitting(source.content, start, end, text, len(head))
    return Edit(path, start, end, text.encode())


def _fitting(content: bytes, start: int, end: int, text: str, head: int) -> str:
    """Break a call that would pass 88 characters behind its bracket, as Black does."""
    line = content.rfind(b"\n", 0, start) + 1
    before = content[line:start].decode()
    behind = content[end : content.find(b"\n", end) if b"\n" in content[end:] else len(content)]
    if len(before) + len(text) <= LINE_LENGTH or behind.strip():
        return text
    indent = before[: len(before) - len(before.lstrip())]
    newline = "\r\n" if content[:line].endswith(b"\r\n") else "\n"
    return f"{text[:head]}{newline}{indent}    {text[head:-1]}{newline}{indent})"
