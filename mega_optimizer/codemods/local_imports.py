"""Bring one more name of a package to where another name of it is used already.

Heavy packages are often imported in the function that uses them; what is needed beside them must
not be imported when the module is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.imports import ensure_import, with_name
from mega_optimizer.codemods.python import ScopedVisitor, dotted_name
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from mega_optimizer.repository.python import Call, Import, PythonFacts


def name_beside(
    tree: cst.Module, facts: PythonFacts, call: Call, package: str, name: str
) -> tuple[cst.Module, str] | Skip:
    """Make ``package.name`` usable at ``call``, which calls something of ``package``.

    Returns the tree and how to write the name there. Skip codes: those of ``ensure_import``, and
    ``conditional-import``.
    """
    place = Place(facts.path, call.line, call.column)
    root = call.text.partition(".")[0]
    imports = [each for each in facts.imports if each.bound == root and _reaches(each, call)]
    if len(imports) != 1:
        return Skip(place, "conditional-import", f"{root} is imported in more than one place")
    found = imports[0]
    if found.target == package:
        return tree, f"{root}.{name}"
    if not found.scope:
        return ensure_import(tree, facts, package, name, call.line)
    if any(each.bound == name and _reaches(each, call) for each in facts.imports):
        return tree, name
    if name in facts.bound_names:
        return Skip(place, "name-taken", f"{name} already means something else in this file")
    visitor = _Extend(found.scope, package, root, name)
    changed = tree.visit(visitor)
    if not visitor.done:
        return Skip(place, "no-place-for-import", f"the import of {root} has another shape")
    return changed, name


def _reaches(each: Import, call: Call) -> bool:
    return not each.scope or call.scope == each.scope or call.scope.startswith(f"{each.scope}.")


class _Extend(ScopedVisitor):
    def __init__(self, scope: str, package: str, beside: str, name: str) -> None:
        super().__init__()
        self.wanted = scope
        self.package = package
        self.beside = beside
        self.name = name
        self.done = False

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.ImportFrom:
        module = original_node.module and dotted_name(original_node.module)
        if self.done or self.scope != self.wanted or module != self.package:
            return updated_node
        if isinstance(original_node.names, cst.ImportStar) or original_node.relative:
            return updated_node
        bound = (each.asname.name if each.asname else each.name for each in original_node.names)
        if not any(isinstance(one, cst.Name) and one.value == self.beside for one in bound):
            return updated_node
        self.done = True
        return with_name(updated_node, self.name)
