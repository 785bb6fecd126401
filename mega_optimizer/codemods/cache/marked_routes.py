"""Mark routes as cached: a decorator on the handler, and a route class for its router."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import libcst as cst

from mega_optimizer.codemods.applications import FASTAPI
from mega_optimizer.codemods.cache.routes import MARK, Cacheable, constructor
from mega_optimizer.codemods.draft import Draft
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.python import replace_calls, with_keyword
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.python import Call

ROUTE_CLASS = "CachedRoute"


def mark_route(
    context: Context, draft: Draft, found: Cacheable, module: str, seconds: int
) -> Skip | None:
    """Mark one route, with the names that the module at path ``module`` defines.

    ``context`` is that of the service with the module. Skip codes: ``import-path-unknown``,
    ``shape-not-known``, ``not-found-again``, those of ``ensure_import``.
    """
    call = constructor(context.program, found.owner)
    if call is None:
        return Skip(found.place, "shape-not-known", f"how {found.owner.name} is made is hidden")
    if call.argument("route_class") is None:
        objection = _route_class(draft, found, call, module)
        if objection is not None:
            return objection
    return _decorator(draft, found, module, seconds)


def _route_class(draft: Draft, found: Cacheable, call: Call, module: str) -> Skip | None:
    path, name = found.owner.path, found.owner.name
    local = draft.add_own_import(path, module, ROUTE_CLASS, name)
    tree = draft.tree(path)
    if isinstance(local, Skip) or isinstance(tree, Skip):
        return local if isinstance(local, Skip) else cast("Skip", tree)
    if call.name in FASTAPI:
        changed = _with_statement_behind(tree, name, f"{name}.router.route_class = {local}\n")
    else:
        keyword = cst.Name(local)
        given = {call: lambda node: with_keyword(node, "route_class", keyword, call.column)}
        changed = replace_calls(tree, given)
    if changed is None:
        return Skip(Place(path, call.line), "not-found-again", f"{name} was not found again")
    draft.put(path, changed)
    return None


def _with_statement_behind(tree: cst.Module, name: str, source: str) -> cst.Module | None:
    """Return the tree with a statement behind the one that assigns ``name``, if it lacks it."""
    body = list(cast("Sequence[cst.BaseStatement]", tree.body))
    added = cst.parse_statement(source)
    codes = [tree.code_for_node(each).strip() for each in body]
    if source.strip() in codes:
        return tree
    for position, each in enumerate(body):
        first = each.body[0] if isinstance(each, cst.SimpleStatementLine) else None
        targets = [one.target for one in first.targets] if isinstance(first, cst.Assign) else []
        targets += [first.target] if isinstance(first, cst.AnnAssign) else []
        if any(isinstance(one, cst.Name) and one.value == name for one in targets):
            body.insert(position + 1, added)
            return tree.with_changes(body=body)
    return None


def _decorator(draft: Draft, found: Cacheable, module: str, seconds: int) -> Skip | None:
    path, handler = found.facts.path, found.route.handler.path
    local = draft.add_own_import(path, module, MARK, handler)
    tree = draft.tree(path)
    if isinstance(local, Skip) or isinstance(tree, Skip):
        return local if isinstance(local, Skip) else cast("Skip", tree)
    decorator = cst.Decorator(cst.parse_expression(f"{local}(seconds={seconds})"))
    body = [
        each.with_changes(decorators=[*each.decorators, decorator])
        if isinstance(each, cst.FunctionDef) and each.name.value == handler
        else each
        for each in tree.body
    ]
    draft.put(path, tree.with_changes(body=body))
    return None
