"""What the names of one file stand for, and its expressions as plain values."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from mega_optimizer.repository.python.facts import Argument, Value
from mega_optimizer.repository.python.walk import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.repository.python.walk import Scope, Walk

DEPTH = 6
BUILTINS = frozenset(dir(builtins))
OTHER = Value("other")


class NameTable:
    """Resolves names after the walk has seen every binding of the file."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._roots: dict[tuple[str, Scope], str | None] = {}
        self._names: dict[tuple[str, Scope], Value] = {}
        self._has_star = any(each.bound == "*" for each in walk.imports)
        self._patched: frozenset[str] = frozenset()
        self._patched = frozenset(
            name
            for text, key, _, scope, _ in walk.stores
            if key is None and (name := self.resolve(text, scope)) is not None
        )

    def resolve(self, text: str, scope: Scope, patched: bool = False) -> str | None:
        """Return what the dotted ``text`` stands for in ``scope``, else None.

        A name that this file assigns to (``json.dumps = …``) is unknown unless ``patched``.
        """
        root, dot, rest = text.partition(".")
        key = (root, scope)
        if key not in self._roots:
            self._roots[key] = self._root(root, scope)
        target = self._roots[key]
        if target is None:
            return None
        name = f"{target}{dot}{rest}"
        if self._patched and not patched and self._is_patched(name):
            return None
        return name

    def _is_patched(self, name: str) -> bool:
        return any(name == each or name.startswith(each + ".") for each in self._patched)

    def _root(self, root: str, scope: Scope) -> str | None:
        current: Scope | None = scope
        while current is not None:
            if root in current.global_names:
                current = self._walk.module
            visible = current is scope or current.kind != "class"
            if visible and root in current.bindings:
                return _only_target(current, root)
            current = current.parent
        return f"builtins.{root}" if root in BUILTINS and not self._has_star else None

    def all_bound(self) -> Iterator[str]:
        """Yield every name bound in any scope of the file."""
        yield from self._walk.module.bindings
        for _, _, inner in self._walk.functions:
            yield from inner.bindings
        for each in self._walk.imports:
            yield each.bound

    def value(self, node: ast.expr, scope: Scope, depth: int = DEPTH) -> Value:
        """Return ``node`` as a plain value."""
        kind = type(node)
        if kind is ast.Constant:
            return Value("constant", constant=node.value)  # type: ignore[attr-defined]
        if kind is ast.Name or kind is ast.Attribute:
            text = dotted(node)
            if text is not None:
                return self._name(text, scope)
        if depth == 0:
            return OTHER
        if isinstance(node, ast.Attribute):
            receiver = Argument(self.value(node.value, scope, depth - 1))
            return Value("attribute", f".{node.attr}", arguments=(receiver,))
        if isinstance(node, ast.Call):
            text = dotted(node.func)
            if text is None:
                return self._method_call(node, scope, depth)
            name = self.resolve(text, scope)
            return Value("call", text, name, None, self._call_arguments(node, scope, depth))
        return self._compound(node, scope, depth)

    def _name(self, text: str, scope: Scope) -> Value:
        """Return the value of a dotted name: a file has many of the same."""
        key = (text, scope)
        if key not in self._names:
            self._names[key] = Value("name", text, self.resolve(text, scope))
        return self._names[key]

    def _method_call(self, node: ast.Call, scope: Scope, depth: int) -> Value:
        """Return ``f(x).method(y)``: the receiver comes first among the arguments."""
        if not isinstance(node.func, ast.Attribute):
            return OTHER
        receiver = Argument(self.value(node.func.value, scope, depth - 1))
        arguments = (receiver, *self._call_arguments(node, scope, depth))
        return Value("call", f".{node.func.attr}", None, None, arguments)

    def _call_arguments(self, node: ast.Call, scope: Scope, depth: int) -> tuple[Argument, ...]:
        found: list[Argument] = []
        for positional in node.args:
            starred = isinstance(positional, ast.Starred)
            inner = positional.value if isinstance(positional, ast.Starred) else positional
            found.append(
                Argument(self.value(inner, scope, depth - 1), None, "*" if starred else "")
            )
        for keyword in node.keywords:
            value = self.value(keyword.value, scope, depth - 1)
            found.append(Argument(value, keyword.arg, "" if keyword.arg else "**"))
        if node.args and node.keywords and isinstance(node.args[-1], ast.Starred):
            # only ``*args`` may stand behind a keyword
            written: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
            places = [(each.lineno, each.col_offset) for each in written]
            order = sorted(range(len(found)), key=places.__getitem__)
            return tuple(found[position] for position in order)
        return tuple(found)

    def _compound(self, node: ast.expr, scope: Scope, depth: int) -> Value:
        def parts(*nodes: ast.expr | None) -> tuple[Argument, ...]:
            return tuple(Argument(self.value(n, scope, depth - 1)) for n in nodes if n is not None)

        if isinstance(node, ast.Subscript):
            text = dotted(node.value) or ""
            items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if not text:
                items = [node.value, *items]
            name = self.resolve(text, scope) if text else None
            return Value("subscript", text, name, None, parts(*items))
        if isinstance(node, ast.BinOp):
            sides = parts(node.left, node.right)
            return Value("union" if isinstance(node.op, ast.BitOr) else "binary", arguments=sides)
        if isinstance(node, ast.BoolOp):
            return Value("binary", arguments=parts(*node.values))
        if isinstance(node, ast.UnaryOp):
            return Value("binary", arguments=parts(node.operand))
        if isinstance(node, ast.JoinedStr):
            return Value("fstring", arguments=parts(*node.values))
        if isinstance(node, ast.FormattedValue):
            return self.value(node.value, scope, depth - 1)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return Value("collection", arguments=parts(*node.elts))
        if isinstance(node, ast.Dict):
            return Value("collection", arguments=parts(*node.keys, *node.values))
        return OTHER


def _only_target(scope: Scope, name: str) -> str | None:
    bindings = scope.bindings[name]
    targets = {binding.target for binding in bindings}
    if len(targets) != 1:
        return None
    target = targets.pop()
    if target is None:
        return None
    if target.startswith(":"):
        return target if len(bindings) == 1 else None
    # a star import below may bind the name anew
    return None if scope.star_line > max(binding.line for binding in bindings) else target
