"""Where gradients are switched off already, and what makes inference mode unsafe in a service."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.source import Source

_OFF = frozenset({"no_grad", "inference_mode", "set_grad_enabled", "enable_grad"})
_ABOUT_GRADIENTS = re.compile(r"grad|inference", re.IGNORECASE)
# Tensors of their own that have no version counter to leave out, and compilers that guard on the
# mode and compile anew when it changes.
_OBSTACLES = {
    "torch_directml": ("backend", "DirectML has no tensors of inference mode"),
    "torch_xla": ("backend", "XLA has no tensors of inference mode"),
    "torchao": ("tensor-subclass", "quantized tensors of torchao may refuse the mode"),
    "set_grad_enabled": ("gradients-off", "gradients are switched for the whole process"),
    "LazyLinear": ("lazy-module", "a lazy module makes its weights when it first runs"),
}
_COMPILES = rb"\btorch\.compile\(|\.compile\(\s*(?:\)|mode\s*=|backend\s*=)"


class Guards:
    """The ``with`` statements and decorators of one file that are about gradients."""

    def __init__(self, source: Source, resolve: Callable[[ast.expr], str | None]) -> None:
        self._source = source
        self._resolve = resolve

    def around(self, node: ast.AST) -> ast.AST | None:
        """Return what is about gradients around ``node``, None where nothing is."""
        for outer in self._source.around(node):
            if isinstance(outer, ast.With | ast.AsyncWith) and any(
                _ABOUT_GRADIENTS.search(ast.unparse(item.context_expr)) for item in outer.items
            ):
                return outer
            if isinstance(outer, ast.FunctionDef) and any(
                _ABOUT_GRADIENTS.search(ast.unparse(each)) for each in outer.decorator_list
            ):
                return outer
        return None

    def without_gradients(self, calls: Iterable[ast.Call]) -> list[ast.With]:
        """Return the ``with torch.no_grad()`` statements around ``calls`` and nothing else."""
        found = dict.fromkeys(self.around(call) for call in calls)
        return [
            each
            for each in found
            if isinstance(each, ast.With)
            and len(self.switches([each])) == 1
            and sum(
                _ABOUT_GRADIENTS.search(ast.unparse(item.context_expr)) is not None
                for item in each.items
            )
            == 1
        ]

    def switches(self, statements: Iterable[ast.With]) -> list[ast.Attribute]:
        """Return the ``torch.no_grad`` that each of ``statements`` calls."""
        return [
            item.context_expr.func
            for each in statements
            for item in each.items
            if isinstance(item.context_expr, ast.Call)
            and isinstance(item.context_expr.func, ast.Attribute)
            and self._resolve(item.context_expr.func) == "torch.no_grad"
        ]


def own_gradients(program: Program) -> tuple[str, str] | None:
    """Return the skip code and the reason of what in a service stands against inference mode."""
    for word, (code, reason) in _OBSTACLES.items():
        path = next(iter(program.with_word(word)), None)
        if path is not None:
            return code, f"{reason} ({path})"
    path = next(program.containing(_COMPILES, program.product, b".compile("), None)
    if path is not None:
        return "compiled", f"{path} compiles models, which compiles anew for another mode"
    return None
