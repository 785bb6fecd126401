"""The functions of a file in which a module of PyTorch runs."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.modules import is_module, module_that_runs
from mega_optimizer.codemods.ml.prediction_loops import is_only_assigned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts

_PARTS_OF_MODELS = ("Module", "Model", "PreTrainedModel", "Layer", "Block", "Encoder", "Decoder")
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Function:
    """A function, its dotted path, and the calls in it that run a module."""

    node: FunctionNode
    scope: str
    calls: tuple[ast.Call, ...]


class ModelRuns:
    """Finds them in one file, by what its variables may hold."""

    def __init__(self, program: Program, facts: PythonFacts) -> None:
        self._program = program
        self._facts = facts
        self._known: dict[tuple[str, str], bool] = {}
        self._runs: set[int] = set()
        own = {each.target.removeprefix("self.") for each in facts.assignments}
        imported = {
            each.bound
            for each in facts.imports
            if program.imported_module(facts.path, each.target) is not None
        }
        self._assigned = own | imported

    def may_occur(self) -> bool:
        """Whether the file calls anything that a variable of it or of the service may hold."""
        return any(_callee(call.text).split(".")[0] in self._roots for call in self._facts.calls)

    @property
    def _roots(self) -> set[str]:
        return {*self._assigned, "self"}

    def resolve(self, node: ast.expr) -> str | None:
        """Return what a dotted expression stands for at module level."""
        text = ast.unparse(node)
        root = text.partition(".")[0]
        if root.isidentifier():
            found = self._facts.resolve(text)
            if found is None and root in _BUILTINS and root not in self._facts.bound_names:
                return f"builtins.{text}"
            return found
        return None

    def is_run(self, call: ast.Call) -> bool:
        """Whether a call was found to run a module."""
        return id(call) in self._runs

    def functions(self, source: Source) -> Iterator[Function]:
        """Yield the functions that run a module, but for the methods of modules themselves."""
        for node, scope, owner in _functions(source.tree, "", None):
            if owner is not None and self._is_part_of_a_model(owner):
                continue
            calls = tuple(call for call in _own_calls(node) if self._runs_module(call, scope, node))
            if calls:
                self._runs.update(map(id, calls))
                yield Function(node, scope, calls)

    def _is_part_of_a_model(self, owner: ast.ClassDef) -> bool:
        return any(ast.unparse(base).endswith(_PARTS_OF_MODELS) for base in owner.bases)

    def _runs_module(self, call: ast.Call, scope: str, function: FunctionNode) -> bool:
        if not isinstance(call.func, ast.Name | ast.Attribute):
            return False
        called = module_that_runs(ast.unparse(call.func))
        root = called.removeprefix("self.").partition(".")[0]
        if not called or root not in self._assigned or not called.replace(".", "").isidentifier():
            return False
        if (scope, called) not in self._known:
            self._known[scope, called] = is_module(
                self._program, self._facts, called, scope
            ) and is_only_assigned(function, called)
        return self._known[scope, called]


_BUILTINS = frozenset(
    {"float", "int", "bool", "str", "len", "print", "round", "repr", "zip", "enumerate", "list",
     "tuple", "max", "min", "sum", "sorted", "reversed"}
)  # fmt: skip


def _callee(text: str) -> str:
    return text.removeprefix("self.")


def _functions(
    node: ast.AST, scope: str, owner: ast.ClassDef | None
) -> Iterator[tuple[FunctionNode, str, ast.ClassDef | None]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FunctionNode):
            inner = f"{scope}.{child.name}".lstrip(".")
            yield child, inner, owner
            yield from _functions(child, inner, owner)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{scope}.{child.name}".lstrip("."), child)
        else:
            yield from _functions(child, scope, owner)


def _own_calls(function: FunctionNode) -> Iterator[ast.Call]:
    """Yield the calls in a function, in source order, but for those of functions inside of it."""
    waiting: list[ast.AST] = list(reversed(function.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, FunctionNode | ast.ClassDef):
            continue
        if isinstance(node, ast.Call):
            yield node
        waiting.extend(reversed(list(ast.iter_child_nodes(node))))
