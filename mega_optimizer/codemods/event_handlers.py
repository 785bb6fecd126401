"""Open a resource in handlers of ``startup`` and ``shutdown``, where a service has such handlers.

Handlers run in the order of their registration, so ours come last: the resource is opened when all
else has started, and closed when all else has stopped. They share one ``AsyncExitStack``, which
closes what it holds in reverse order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import libcst as cst

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.layout import set_apart
from mega_optimizer.codemods.python import dotted_name
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.codemods.draft import Draft

STACK, OPEN, CLOSE = "_resources", "open_resources", "close_resources"


def open_in_event_handlers(draft: Draft, path: str, application: str, manager: str) -> Skip | None:
    """Add handlers to ``application`` that enter ``manager()``, or a line to those of before."""
    facts, tree = draft.facts(path), draft.tree(path)
    if isinstance(facts, Skip):
        return facts
    if isinstance(tree, Skip):
        return tree
    entering = f"await {STACK}.enter_async_context({manager}())\n"
    if _is_ours(tree):
        draft.put(path, _with_line(tree, entering))
        return None
    if not facts.bound_names.isdisjoint((STACK, OPEN, CLOSE)):
        return Skip(Place(path), "name-taken", f"{STACK} or a handler's name is in use")
    stack = draft.add_import(path, "contextlib", "AsyncExitStack", application)
    tree = draft.tree(path)
    if isinstance(stack, Skip) or isinstance(tree, Skip):
        return stack if isinstance(stack, Skip) else None
    body = list(cast("Sequence[cst.BaseStatement]", tree.body))
    last = max(
        (number for number, each in enumerate(body) if _uses(each, application)), default=None
    )
    if last is None:
        return Skip(Place(path), "shape-not-known", f"{application} is not set at the top level")
    returns = " -> None" if any(each.annotation for each in facts.functions) else ""
    added = [
        *_statements(f"{STACK} = {stack}()\n"),
        *_statements(
            f'@{application}.on_event("startup")\nasync def {OPEN}(){returns}:\n    {entering}'
        ),
        *_statements(
            f'@{application}.on_event("shutdown")\n'
            f"async def {CLOSE}(){returns}:\n"
            f"    await {STACK}.aclose()\n"
        ),
    ]
    rest = [set_apart(each) for each in body[last + 1 : last + 2]] + body[last + 2 :]
    body = [*body[: last + 1], *(set_apart(each) for each in added), *rest]
    draft.put(path, tree.with_changes(body=body))
    return None


def _statements(source: str) -> Iterator[cst.BaseStatement]:
    yield cast("cst.BaseStatement", cst.parse_statement(source))


def _is_ours(tree: cst.Module) -> bool:
    return sum(_name(each) in (STACK, OPEN, CLOSE) for each in tree.body) == 3


def _name(statement: cst.CSTNode) -> str | None:
    if isinstance(statement, cst.FunctionDef):
        return statement.name.value
    if isinstance(statement, cst.SimpleStatementLine) and isinstance(statement.body[0], cst.Assign):
        return dotted_name(statement.body[0].targets[0].target)
    return None


def _with_line(tree: cst.Module, line: str) -> cst.Module:
    body: list[cst.BaseStatement] = []
    for each in cast("Sequence[cst.BaseStatement]", tree.body):
        if isinstance(each, cst.FunctionDef) and each.name.value == OPEN:
            block = each.body.with_changes(body=[*each.body.body, cst.parse_statement(line)])
            body.append(each.with_changes(body=block))
        else:
            body.append(each)
    return tree.with_changes(body=body)


def _uses(statement: cst.BaseStatement, application: str) -> bool:
    """Whether a top-level statement makes the application or registers a handler of events."""
    if _name(statement) == application:
        return True
    if isinstance(statement, cst.SimpleStatementLine):
        first = statement.body[0]
        if isinstance(first, cst.AnnAssign):
            return dotted_name(first.target) == application
        call = first.value if isinstance(first, cst.Expr) else None
        called = dotted_name(call.func) if isinstance(call, cst.Call) else None
        return called == f"{application}.add_event_handler"
    if not isinstance(statement, cst.FunctionDef):
        return False
    calls = [each.decorator for each in statement.decorators]
    return any(
        isinstance(each, cst.Call) and dotted_name(each.func) == f"{application}.on_event"
        for each in calls
    )
