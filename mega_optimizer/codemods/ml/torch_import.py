"""The name that ``torch`` has in a module, with the import that makes it where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.imports import ensure_module
from mega_optimizer.codemods.python import edits_between, skipped
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.repository.python import PythonFacts


@dataclass(frozen=True, slots=True)
class Torch:
    """The local name of ``torch``, and the edits that import it."""

    name: str
    edits: Edits = ()


def name_of_torch(context: Context, facts: PythonFacts, line: int) -> Torch | Skip:
    """Return how code at ``line`` calls ``torch``. Skip codes: those of ``ensure_module``."""
    for each in facts.imports:
        if each.target == "torch" and not each.scope and facts.bindings.get(each.bound) == "torch":
            return Torch(each.bound)
    tree = context.tree(facts.path)
    if isinstance(tree, Problem):
        return skipped(tree)
    added = ensure_module(tree, facts, "torch", line)
    if isinstance(added, Skip):
        return added
    return Torch(added[1], edits_between(facts.path, tree.bytes, added[0]))
