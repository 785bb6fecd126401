"""One load of models that are slow to load: where it stands, and what belongs to it.

A *factory* is a function without parameters that does nothing but load and return. Elsewhere the
load stands in place, in a function that goes on to use what it loaded: then the statements that
load and set up the model can move into a factory of their own.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.database.constants import Inputs
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call

Function = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
# What is asked of a model without changing it, when it is asked beside loading.
RUNS = frozenset({"generate", "encode", "decode", "batch_decode", "tokenize", "transcribe"})


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a load may not be shared."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Loading:
    """One load of models in ``function`` of the module at ``path``.

    ``taking_turns`` says for each object that it gives whether threads must not use it at the same
    time. In place, ``variable`` holds the only one, ``moved`` are the statements that load it and
    set it up, and ``copied`` are those that they need but others may need as well.
    """

    path: str
    call: Call
    function: Function
    scope: str
    taking_turns: tuple[bool, ...]
    inputs: Inputs
    variable: str | None = None
    moved: tuple[ast.stmt, ...] = ()
    copied: tuple[ast.stmt, ...] = ()

    @property
    def is_factory(self) -> bool:
        """Whether the function does nothing but load and return."""
        return self.variable is None

    @property
    def place(self) -> Place:
        """Where the call stands."""
        return Place(self.path, self.call.line, self.call.column)


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes in the body of a function, those of functions within it aside."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, DEFINITIONS):
            waiting.extend(ast.iter_child_nodes(node))


def called_in(node: ast.expr) -> ast.expr:
    """Return what a call calls; anything else is returned as it is."""
    return node.func if isinstance(node, ast.Call) else node


def targets_of(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    """Return what an assignment writes to."""
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


def chain_root(value: ast.expr) -> ast.expr:
    """Return what ``Model.from_pretrained(x).to(y).eval()`` begins with: a load, or a name.

    Of ``name.method()`` that is the name, of a plain call the call itself.
    """
    while (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr not in RUNS
        and (
            isinstance(value.func.value, ast.Call)
            or (
                isinstance(value.func.value, ast.Name)
                and value.func.value.id.islower()
                and value.func.attr in ("to", "eval", "half", "float", "cuda", "cpu", "bfloat16")
            )
        )
    ):
        value = value.func.value
    return value


def block_of(source: Source, statement: ast.stmt) -> list[ast.stmt]:
    """Return the statements among which ``statement`` stands."""
    outer = source.parents[statement]
    return next(
        block
        for name in ("body", "orelse", "finalbody")
        if isinstance(block := getattr(outer, name, None), list) and statement in block
    )
