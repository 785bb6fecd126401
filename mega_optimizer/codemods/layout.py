"""Where new top-level statements stand: above a definition, two empty lines apart (PEP 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import libcst as cst

if TYPE_CHECKING:
    from collections.abc import Sequence


def inserted_above(
    tree: cst.Module, name: str, added: Sequence[cst.BaseStatement]
) -> cst.Module | None:
    """Return ``tree`` with ``added`` above the top-level statement that defines ``name``.

    Two empty lines stand between the new statements and around them. None where there is no such
    statement.
    """
    blank = cst.EmptyLine(indent=False)
    body: list[cst.BaseStatement] = []
    missing = True
    for each in cast("Sequence[cst.BaseStatement]", tree.body):
        if missing and _defines(each, name):
            missing = False
            first = not body
            for number, one in enumerate(added):
                gap = [] if first and not number else [blank, blank]
                body.append(one.with_changes(leading_lines=gap))
            body.append(set_apart(each))
        else:
            body.append(each)
    return None if missing else tree.with_changes(body=body)


def _defines(statement: cst.BaseStatement, name: str) -> bool:
    if isinstance(statement, cst.FunctionDef | cst.ClassDef):
        return statement.name.value == name
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    for each in statement.body:
        targets = [each.target] if isinstance(each, cst.AnnAssign) else []
        targets += [one.target for one in each.targets] if isinstance(each, cst.Assign) else []
        if any(isinstance(one, cst.Name) and one.value == name for one in targets):
            return True
    return False


def set_apart(statement: cst.BaseStatement) -> cst.BaseStatement:
    """Return a top-level statement with at least two empty lines above its comments."""
    leading = list(cast("cst.FunctionDef", statement).leading_lines)
    blank = cst.EmptyLine(indent=False)
    above = next((i for i, each in enumerate(leading) if each.comment), len(leading))
    return statement.with_changes(leading_lines=[*[blank] * (2 - above), *leading])
