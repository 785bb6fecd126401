"""The modules that one fix rewrites, and how far it has got with each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.imports import ensure_import, ensure_module
from mega_optimizer.codemods.module_paths import import_path
from mega_optimizer.codemods.python import edits_between, skipped
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import python_facts

if TYPE_CHECKING:
    import libcst as cst

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edit
    from mega_optimizer.repository.python import PythonFacts


class Draft:
    """Trees of several modules: each begins as the snapshot has it, and is put back when changed.

    ``facts`` are those of the tree as it is now, so that a second import finds the first.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._before: dict[str, cst.Module] = {}
        self._trees: dict[str, cst.Module] = {}

    def tree(self, path: str) -> cst.Module | Skip:
        """Return the module as it is now, or why it cannot be rewritten."""
        if path not in self._trees:
            tree = self._context.tree(path)
            if isinstance(tree, Problem):
                return skipped(tree)
            self._before[path] = self._trees[path] = tree
        return self._trees[path]

    def put(self, path: str, tree: cst.Module) -> None:
        """Keep a rewritten module. It must have been read from here."""
        self._trees[path] = tree

    def facts(self, path: str) -> PythonFacts | Skip:
        """Return the facts of the module as it is now."""
        tree = self.tree(path)
        if isinstance(tree, Skip):
            return tree
        facts = python_facts(path, tree.bytes)
        return skipped(facts) if isinstance(facts, Problem) else facts

    def add_import(self, path: str, module: str, name: str, above: str) -> str | Skip:
        """Make ``from module import name`` hold above the definition of ``above``.

        Returns the local name. ``above`` is a name that the module binds at its top level; where
        it does not, the import has to stand above everything that is not an import.
        """
        facts = self.facts(path)
        tree = self.tree(path)
        if isinstance(facts, Skip) or isinstance(tree, Skip):
            return facts if isinstance(facts, Skip) else Skip(Place(path), "unreadable", "")
        own = self._context.program.module
        added = ensure_import(
            tree,
            facts,
            module,
            name,
            line_of(facts, above),
            own=lambda dotted: own(dotted, path) is not None,
        )
        if isinstance(added, Skip):
            return added
        self.put(path, added[0])
        return added[1]

    def add_own_import(self, path: str, module: str, name: str, above: str) -> str | Skip:
        """Make a name of the service's module at path ``module`` hold, as :meth:`add_import` does.

        Skip codes: those of ``ensure_import``, and ``import-path-unknown``.
        """
        dotted = import_path(self._context, path, module)
        if dotted is None:
            reason = f"no import shows how {path} would import {module}"
            return Skip(Place(path), "import-path-unknown", reason)
        return self.add_import(path, dotted, name, above)

    def add_module(self, path: str, module: str, above: str) -> str | Skip:
        """Make ``import module`` (no dots) hold above the definition of ``above``.

        Returns the local name.
        """
        facts = self.facts(path)
        tree = self.tree(path)
        if isinstance(facts, Skip) or isinstance(tree, Skip):
            return facts if isinstance(facts, Skip) else Skip(Place(path), "unreadable", "")
        added = ensure_module(tree, facts, module, line_of(facts, above))
        if isinstance(added, Skip):
            return added
        self.put(path, added[0])
        return added[1]

    def edits(self) -> tuple[Edit, ...]:
        """Return the edits that turn the snapshot into the draft."""
        return tuple(
            edit
            for path, tree in self._trees.items()
            if tree is not self._before[path]
            for edit in edits_between(path, self._before[path].bytes, tree)
        )


def line_of(facts: PythonFacts, name: str) -> int:
    """Return the line on which the top level of a module first defines or assigns ``name``."""
    lines = [each.line for each in facts.functions if each.path == name]
    lines += [each.line for each in facts.classes if each.path == name]
    lines += [each.line for each in facts.assignments if not each.scope and each.target == name]
    return min(lines, default=1)
