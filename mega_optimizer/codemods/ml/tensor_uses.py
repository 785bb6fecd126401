"""What becomes of the tensors that a statement makes: whether they end as plain values.

Tensors made in inference mode raise RuntimeError where they are changed in place outside of it or
recorded by autograd (https://docs.pytorch.org/docs/stable/notes/autograd.html#inference-mode), so
they may be followed to where they become numbers, lists or arrays, and nowhere else.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mega_optimizer.codemods.source import Source

_PLAIN_ATTRIBUTES = frozenset({"shape", "device", "dtype", "ndim", "is_cuda"})
_PLAIN_METHODS = frozenset({"numpy", "item", "tolist", "size", "dim", "numel", "save"})
_AUTOGRAD = frozenset({"backward", "register_hook", "retain_grad", "share_memory"})
_PLAIN_FUNCTIONS = frozenset(
    {"builtins.float", "builtins.int", "builtins.bool", "builtins.str", "builtins.len",
     "builtins.print", "builtins.round", "builtins.repr", "torch.save"}
)  # fmt: skip
_CONTAINERS = frozenset(
    {"builtins.zip", "builtins.enumerate", "builtins.list", "builtins.tuple", "builtins.max",
     "builtins.min", "builtins.sum", "builtins.sorted", "builtins.reversed"}
)  # fmt: skip
_TO_TEXT = frozenset({"decode", "batch_decode"})
# What makes the inputs of models gives back new tensors, and keeps none.
_PREPARES = re.compile(r"(?:^|_)(?:processor|tokenizer|tokenize|transform|preprocess|extractor)$")
_TENSOR_PACKAGES = ("torch.", "torchvision.", "einops.")
_PLAIN_PACKAGES = ("numpy.", "PIL.", "cv2.", "logging.")

Resolve = "Callable[[ast.expr], str | None]"


class Uses:
    """Follows values through one function.

    ``resolve`` gives what a called expression stands for; ``runs_module`` says whether a call
    runs a module, ``inside`` whether a node stands where inference mode will hold.
    """

    def __init__(
        self,
        source: Source,
        resolve: Callable[[ast.expr], str | None],
        is_inside: Callable[[ast.AST], bool],
        runs_module: Callable[[ast.Call], bool],
    ) -> None:
        self._source = source
        self._resolve = resolve
        self._is_inside = is_inside
        self._runs_module = runs_module

    def is_plain_call(self, call: ast.Call) -> bool:
        """Whether a call makes no tensor, whatever it is given."""
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        return method in _PLAIN_METHODS or method in _TO_TEXT or self._is_plain_function(call)

    def makes_tensor(self, call: ast.Call) -> bool:
        """Whether a call makes a tensor of whatever it is given."""
        return self._runs_module(call) or (self._resolve(call.func) or "").startswith(
            _TENSOR_PACKAGES
        )

    def only_calls_make(self, value: ast.expr) -> bool:
        """Whether no operator or name of ``value`` can make a tensor out of what is no call."""
        return any(isinstance(each, ast.Call) for each in ast.walk(value))

    def objection(
        self, function: ast.AST, starts: Sequence[ast.expr], names: set[str]
    ) -> str | None:
        """Return what is done with the values of ``starts`` or of ``names`` that may fail."""
        followed: set[str] = set()
        waiting = set(names)
        for start in starts:
            found = self._follow(start)
            if isinstance(found, str):
                return found
            waiting |= found
        while waiting - followed:
            name = min(waiting - followed)
            followed.add(name)
            for node in ast.walk(function):
                if not isinstance(node, ast.Name) or node.id != name:
                    continue
                if isinstance(node.ctx, ast.Store):
                    outer = self._source.parents[node]
                    if isinstance(outer, ast.AugAssign) and not self._is_inside(node):
                        return f"{name} is changed in place"
                    continue
                found = self._follow(node)
                if isinstance(found, str):
                    return found
                waiting |= found
        return None

    def _follow(self, node: ast.expr) -> str | set[str]:
        """Return the names that get the value of ``node``, or what is wrong with its use."""
        current: ast.AST = node
        while True:
            outer = self._source.parents[current]
            step = self._step(current, outer)
            if isinstance(step, str | set):
                return step
            current = step

    def _step(self, node: ast.AST, outer: ast.AST) -> str | set[str] | ast.AST:
        match outer:
            case ast.Attribute(attr=attr):
                if isinstance(outer.ctx, ast.Store):
                    return "an attribute of it is set"
                return set() if attr in _PLAIN_ATTRIBUTES else outer
            case ast.Subscript(slice=index) if index is node:
                return set()
            case ast.Subscript() if not isinstance(outer.ctx, ast.Load):
                return outer if self._is_inside(outer) else "it is changed in place"
            case ast.Call(func=function):
                return self._method(outer) if function is node else self._argument(outer)
            case ast.keyword(arg="out"):
                return "it is changed in place"
            case ast.Assign() | ast.AnnAssign():
                return self._bound(outer)
            case ast.AugAssign():
                return set() if self._is_inside(outer) else "it is added to something in place"
            case ast.comprehension(iter=iterated):
                return names_of(outer.target) if iterated is node else set()
            case ast.For(iter=iterated) if iterated is node:
                return names_of(outer.target)
            case ast.If() | ast.While() | ast.Assert() | ast.Expr() | ast.FormattedValue():
                return set()
            case ast.Return() | ast.Yield() | ast.YieldFrom():
                return "it leaves the function as a tensor"
            case (
                ast.BinOp() | ast.UnaryOp() | ast.Compare() | ast.BoolOp() | ast.IfExp()
                | ast.Subscript() | ast.Tuple() | ast.List() | ast.Dict() | ast.Set()
                | ast.Starred() | ast.keyword() | ast.ListComp() | ast.SetComp() | ast.DictComp()
                | ast.GeneratorExp() | ast.Slice()
            ):  # fmt: skip
                return outer
            case _:
                return "what becomes of it cannot be seen"

    def _method(self, call: ast.Call) -> str | set[str] | ast.AST:
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if method in _PLAIN_METHODS:
            return set()
        if method in _AUTOGRAD or not method:
            return f"{ast.unparse(call.func)} is called"
        if method.endswith("_") and not self._is_inside(call):
            return f"{method} changes it in place"
        return call

    def _argument(self, call: ast.Call) -> str | set[str] | ast.AST:
        name = self._resolve(call.func) or ""
        last = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if self._is_plain_function(call) or last in _TO_TEXT:
            return set()
        called = last or (call.func.id if isinstance(call.func, ast.Name) else "")
        if name in _CONTAINERS or _PREPARES.search(called):
            return call
        if name.startswith(("torch.autograd", "torch.compile", "torch.jit", "torch.onnx")):
            return f"{name} gets it"
        if name.startswith(_TENSOR_PACKAGES) and name != "torch.nn.Parameter":
            return call
        if self._runs_module(call):
            if self._is_inside(call):
                return call
            return f"{ast.unparse(call.func)} gets it, and may record gradients"
        return f"{ast.unparse(call.func)} gets it"

    def _is_plain_function(self, call: ast.Call) -> bool:
        name = self._resolve(call.func) or ""
        return name in _PLAIN_FUNCTIONS or name.startswith(_PLAIN_PACKAGES)

    def _bound(self, outer: ast.Assign | ast.AnnAssign) -> str | set[str]:
        targets = outer.targets if isinstance(outer, ast.Assign) else [outer.target]
        if not all(is_plain(each) for each in targets):
            return "it is kept beyond the call"
        return {name for each in targets for name in names_of(each)}


def is_plain(target: ast.expr) -> bool:
    """Whether an assignment to ``target`` binds variables and nothing else."""
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(is_plain, target.elts))
    if isinstance(target, ast.Starred):
        return is_plain(target.value)
    return isinstance(target, ast.Name)


def names_of(target: ast.expr) -> set[str]:
    """Return the names in ``target``."""
    return {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}
