"""Where a loaded model is put: on a GPU, on a GPU if there is one, or on the CPU.

Seen are ``.to(…)``, ``.cuda()``, ``device=``, ``device_map=`` and the offloading of diffusers (for
which there must be a GPU), on the result of the load or on the one variable that holds it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.source import Source, read_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.ml.number_format import Load

Placement = Literal["cuda", "asks", "cpu", "unknown"]

_OFFLOADS = ("enable_model_cpu_offload", "enable_sequential_cpu_offload")
_MOVES = ("to", "cuda", "cpu", *_OFFLOADS)
_SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")
_ASKS = "torch.cuda.is_available()"
_DEPTH = 5  # names of names


def placement(context: Context, load: Load) -> Placement | None:
    """Return where ``load`` puts its weights, None where nothing is seen to move them."""
    reader = _Reader(context, load.path, load.source)
    found = {reader.keyword(each) for each in load.call.keywords} | {
        reader.move(move, load.call) for move in moves(load)
    }
    found.discard(None)
    if len(found) > 1:
        return "unknown"
    return next(iter(found), None)


def moves(load: Load) -> Iterator[ast.Call]:
    """Yield the calls that move what was loaded."""
    for each in methods_called(load):
        if each.attr in _MOVES:
            outer = load.source.parents[each]
            assert isinstance(outer, ast.Call)
            yield outer


def methods_called(load: Load) -> Iterator[ast.Attribute]:
    """Yield the methods called on what was loaded: on the call itself, or where it is held."""
    node: ast.expr = load.call
    parents = load.source.parents
    while isinstance(attribute := parents.get(node), ast.Attribute):
        outer = parents.get(attribute)
        if not isinstance(outer, ast.Call) or outer.func is not attribute:
            return
        yield attribute
        node = outer
    variable = held_in(load)
    for each in uses_of(load, variable) if variable else ():
        outer = parents.get(each)
        if isinstance(outer, ast.Call) and outer.func is each:
            yield each


def held_in(load: Load) -> str | None:
    """Return the variable or the attribute that keeps what was loaded, as written."""
    node: ast.AST = load.call
    for outer in load.source.around(load.call):
        if isinstance(outer, ast.Assign) and outer.value is node and len(outer.targets) == 1:
            target = outer.targets[0]
            return ast.unparse(target) if isinstance(target, ast.Name | ast.Attribute) else None
        if not isinstance(outer, ast.Attribute | ast.Call):
            return None
        node = outer
    return None


def uses_of(load: Load, variable: str) -> Iterator[ast.Attribute]:
    """Yield the attributes of ``variable`` that are read where the load stands.

    For an attribute of ``self`` that is the class, else the function, else the module.
    """
    kinds = ast.ClassDef if variable.startswith("self.") else ast.FunctionDef | ast.AsyncFunctionDef
    home = next((each for each in load.source.around(load.call) if isinstance(each, kinds)), None)
    for node in ast.walk(home or load.source.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == variable:
            yield node


class _Reader:
    """Classifies expressions that name a device, in one module."""

    def __init__(self, context: Context, path: str, source: Source) -> None:
        self.context = context
        self.path = path
        self.source = source

    def keyword(self, keyword: ast.keyword) -> Placement | None:
        if keyword.arg == "device_map":
            value = keyword.value
            if isinstance(value, ast.Constant) and value.value in _SPREAD:
                return "asks"
            return None if _is_none(value) else self.device(value)
        if keyword.arg == "device" and not _is_none(keyword.value):
            return self.device(keyword.value)
        return None

    def move(self, call: ast.Call, load: ast.Call) -> Placement | None:
        assert isinstance(call.func, ast.Attribute)
        name = call.func.attr
        value = call.args[0] if call.args else None
        if value is None and name == "to":
            value = next((each.value for each in call.keywords if each.arg == "device"), None)
            if value is None:
                return None
        if name == "to":
            assert value is not None
            if ast.unparse(value).startswith("torch.") and not isinstance(value, ast.Call):
                return None  # a number format
            found = self.device(value)
        else:
            found = "cpu" if name == "cpu" else "cuda"
        return self._under_conditions(call, load, found)

    def _under_conditions(self, call: ast.Call, load: ast.Call, found: Placement) -> Placement:
        shared = set(self.source.around(load))
        child: ast.AST = call
        for outer in self.source.around(call):
            if outer in shared:
                return found
            if isinstance(outer, ast.If):
                asked = ast.unparse(outer.test) == _ASKS and child in outer.body
                found = "asks" if asked and found == "cuda" else "unknown"
            elif isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
                # another method moves it, which may run or not
                return found if found == "asks" else "unknown"
            child = outer
        return found

    def device(self, node: ast.expr, depth: int = _DEPTH) -> Placement:
        """Return the device that an expression stands for."""
        if depth == 0:
            return "unknown"
        if isinstance(node, ast.Constant):
            return _constant(node.value)
        if isinstance(node, ast.UnaryOp):
            return "cpu" if ast.unparse(node) == "-1" else "unknown"
        if isinstance(node, ast.IfExp):
            asked = ast.unparse(node.test) == _ASKS and self.device(node.body, depth - 1) == "cuda"
            return "asks" if asked and self.device(node.orelse, depth - 1) != "cuda" else "unknown"
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) == "torch.device" and node.args:
                return self.device(node.args[0], depth - 1)
            if node.args or node.keywords:
                return "unknown"
            return self._defined(node.func, depth)
        if isinstance(node, ast.Name | ast.Attribute):
            return self._defined(node, depth)
        return "unknown"

    def _defined(self, node: ast.expr, depth: int) -> Placement:
        """Return what the only assignment to a name, or the only return of a function, gives."""
        text = ast.unparse(node)
        found = list(_values(self.source.tree, text))
        if len(found) == 1:
            return self.device(found[0], depth - 1)
        if found:
            return _either(self.source, found)
        facts = self.context.program.facts(self.path)
        resolved = facts.resolve(text) if facts else None
        definition = self.context.program.definition(self.path, resolved)
        if definition is None or definition.path == self.path or "." in definition.name:
            return "unknown"
        content = self.context.read(definition.path)
        source = read_source(definition.path, content) if isinstance(content, bytes) else None
        if not isinstance(source, Source):
            return "unknown"
        other = _Reader(self.context, definition.path, source)
        return other.device(ast.Name(definition.name, ast.Load()), depth - 1)


def _constant(value: object) -> Placement:
    if isinstance(value, str):
        kind = value.partition(":")[0]
        return "cuda" if kind == "cuda" else "cpu" if kind == "cpu" else "unknown"
    return "cuda" if isinstance(value, int) and not isinstance(value, bool) else "unknown"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _values(tree: ast.Module, text: str) -> Iterator[ast.expr]:
    """Yield what is assigned to ``text`` anywhere in a module, and what a function of it returns.

    A parameter of that name may be anything: it counts as a value that is no device.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            if any(ast.unparse(each) == text for each in node.targets):
                yield node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            if ast.unparse(node.target) == text:
                yield node.value
        elif isinstance(node, ast.arg) and node.arg == text:
            yield ast.Constant(None)
        elif isinstance(node, ast.FunctionDef) and node.name == text:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield inner.value


def _either(source: Source, found: list[ast.expr]) -> Placement:
    """Return ``asks`` where two assignments are the branches of one question for CUDA."""
    branches = [source.parents.get(source.parents.get(each, each)) for each in found]
    first = branches[0]
    if len(found) != 2 or branches[0] is not branches[1] or not isinstance(first, ast.If):
        return "unknown"
    if ast.unparse(first.test) != _ASKS or source.parents[found[0]] not in first.body:
        return "unknown"
    kinds = [_constant(each.value) if isinstance(each, ast.Constant) else "" for each in found]
    return "asks" if kinds[0] == "cuda" and kinds[1] != "cuda" else "unknown"
