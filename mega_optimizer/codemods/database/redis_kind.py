"""Redis clients as objects to share, and functions that keep one in Flask's ``g``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import libcst as cst

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.imports import ensure_import, without_import
from mega_optimizer.codemods.python import dotted_name
from mega_optimizer.codemods.shared_object import Kind

if TYPE_CHECKING:
    from mega_optimizer.repository.python import Call, PythonFacts


def _type_of(call: Call) -> tuple[str, str]:
    return "redis.asyncio" if ".asyncio." in (call.name or "") else "redis", "Redis"


def without_request_memo(
    tree: cst.Module, facts: PythonFacts, calls: list[Call]
) -> cst.Module | None:
    """Return the tree with a function that keeps its client in ``g`` cached instead.

    That is ``if not hasattr(g, "redis"): g.redis = Redis(...)`` followed by ``return g.redis``.
    None for every other shape.
    """
    if len(calls) != 1 or "." in calls[0].scope:
        return None
    scope = calls[0].scope
    function = facts.function(scope)
    found = [
        (position, each)
        for position, each in enumerate(tree.body)
        if isinstance(each, cst.FunctionDef) and each.name.value == scope
    ]
    if function is None or function.parameters or function.decorators or len(found) != 1:
        return None
    position, definition = found[0]
    memo = _memo(definition)
    if memo is None:
        return None
    cached = ensure_import(tree, facts, "functools", "lru_cache", function.line)
    if isinstance(cached, Skip):
        return None
    changed, decorator = cached
    position += len(changed.body) - len(tree.body)
    text = f"{decorator}(maxsize=1)"
    body = list(changed.body)
    body[position] = definition.with_changes(
        decorators=[cst.Decorator(cst.parse_expression(text))],
        body=definition.body.with_changes(body=[*memo[2], memo[1]]),
    )
    return without_import(changed.with_changes(body=body), facts, memo[0].partition(".")[0])


def _memo(
    definition: cst.FunctionDef,
) -> tuple[str, cst.SimpleStatementLine, list[cst.BaseStatement]] | None:
    """Return the attribute of ``g``, the return of its value, and the docstring of a memo."""
    statements = list(cast("cst.IndentedBlock", definition.body).body)
    docstring = statements[:-2]
    if len(statements) < 2 or len(docstring) > 1 or not all(map(_is_docstring, docstring)):
        return None
    made, returned = statements[-2:]
    if (
        not isinstance(made, cst.If)
        or made.orelse
        or not isinstance(returned, cst.SimpleStatementLine)
    ):
        return None
    result = returned.body[0]
    inner = made.body.body
    if made.orelse or len(inner) != 1 or not isinstance(inner[0], cst.SimpleStatementLine):
        return None
    if len(inner[0].body) != 1 or not isinstance(result, cst.Return) or result.value is None:
        return None
    assignment = inner[0].body[0]
    if not isinstance(assignment, cst.Assign) or len(assignment.targets) != 1:
        return None
    attribute = dotted_name(assignment.targets[0].target)
    if attribute is None or dotted_name(result.value) != attribute:
        return None
    tested = cst.Module([]).code_for_node(made.test)
    owner, _, name = attribute.rpartition(".")
    tests = (rf"not hasattr\({owner}, ?[\"']{name}[\"']\)", rf"[\"']{name}[\"'] not in {owner}")
    if not any(re.fullmatch(test, tested) for test in tests):
        return None
    if any(line.comment for line in (*made.leading_lines, *returned.leading_lines)):
        return None
    leading = inner[0].leading_lines
    line = inner[0].with_changes(
        body=[cst.Return(assignment.value)],
        leading_lines=[*made.leading_lines, *leading] if docstring else leading,
    )
    return attribute, line, docstring


def _is_docstring(statement: cst.BaseStatement) -> bool:
    return (
        isinstance(statement, cst.SimpleStatementLine)
        and isinstance(statement.body[0], cst.Expr)
        and isinstance(statement.body[0].value, cst.SimpleString)
        and "request" not in statement.body[0].value.value.lower()  # true no longer
    )


CLIENT = Kind(
    "client",
    ("_redis_client", "_redis", "_shared_redis_client"),
    _type_of,
    simpler=without_request_memo,
)
