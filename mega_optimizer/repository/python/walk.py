"""The one walk over a file's ``ast``: iterative, in source order, collecting raw facts by scope."""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mega_optimizer.repository.python.facts import (
    Import,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mega_optimizer.repository.python.facts import Where

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Binding(NamedTuple):
    """What binds a name: an import's target, ``:path`` of an own definition, None for others."""

    target: str | None
    line: int


class Scope:
    """Names bound in one function, class, comprehension or module."""

    __slots__ = ("bindings", "global_names", "kind", "parent", "path", "star_line")

    def __init__(
        self,
        path: str,
        parent: Scope | None,
        kind: Literal["module", "function", "class", "comprehension"],
    ) -> None:
        self.path = path
        self.parent = parent
        self.kind = kind
        self.bindings: dict[str, list[Binding]] = {}
        self.global_names: set[str] = set()
        self.star_line = 0

    def member(self, name: str) -> str:
        """Return the dotted path of ``name`` defined here."""
        return f"{self.path}.{name}" if self.path else name


# Parts of a node that hold no names and run no code.
_PLAIN_PARTS = frozenset({"ctx", "kind", "level", "op", "ops", "type_comment"})
_PARTS: dict[type[ast.AST], tuple[str, ...]] = {}


def parts_of(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly within ``node``, in the order of its fields.

    Contexts and operators are left out, and the rest found faster than by ``iter_child_nodes``.
    """
    kind = type(node)
    names = _PARTS.get(kind)
    if names is None:
        names = _PARTS[kind] = tuple(each for each in kind._fields if each not in _PLAIN_PARTS)
    found: list[ast.AST] = []
    for name in names:
        part = getattr(node, name, None)
        if isinstance(part, list):
            found += [each for each in part if isinstance(each, ast.AST)]
        elif isinstance(part, ast.AST):
            found.append(part)
    return found


def dotted(node: ast.AST) -> str | None:
    """Return ``a.b.c`` for a name or a chain of attributes of a name, else None."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    parts.append(node.id)
    return ".".join(reversed(parts))


class Walk:
    """Everything that the walk sees, before names are resolved."""

    def __init__(self, tree: ast.Module) -> None:
        self.module = Scope("", None, "module")
        self.imports: list[Import] = []
        self.calls: list[tuple[ast.Call, Scope]] = []
        self.functions: list[tuple[FunctionNode, Scope, Scope]] = []
        self.classes: list[tuple[ast.ClassDef, Scope]] = []
        self.assignments: list[tuple[str, ast.expr, Scope, int]] = []
        self.stores: list[tuple[str, ast.expr | None, ast.expr | None, Scope, int]] = []
        self.loads: defaultdict[str, set[str]] = defaultdict(set)
        self.returns: defaultdict[Scope, list[ast.expr | None]] = defaultdict(list)
        self.generators: set[Scope] = set()
        self.waiting: set[str] = set()  # paths of scopes that hold an await or the like
        self.globals: defaultdict[Scope, set[str]] = defaultdict(set)
        self.has_main_guard = False
        self.is_template = False
        self._stack: list[tuple[ast.AST, Scope, Where]] = []
        self._push(tree.body, self.module, "plain")
        while self._stack:
            node, scope, where = self._stack.pop()
            kind = type(node)
            visit = _VISITORS.get(kind)
            if visit is not None:
                visit(self, node, scope, where)
            elif kind is not ast.Constant:
                self._push(parts_of(node), scope, where)

    def _push(self, nodes: Sequence[ast.AST | None], scope: Scope, where: Where) -> None:
        self._stack += [(n, scope, where) for n in reversed(nodes) if n is not None]

    def _bind(self, scope: Scope, name: str, target: str | None, line: int) -> None:
        if name in scope.global_names:
            scope = self.module
        scope.bindings.setdefault(name, []).append(Binding(target, line))

    def _bind_own(self, scope: Scope, name: str, line: int) -> None:
        owner = self.module if name in scope.global_names else scope
        self._bind(owner, name, ":" + owner.member(name), line)

    # Statements that bind names

    def _import(self, node: ast.Import, scope: Scope, where: Where) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            target = alias.name if alias.asname else bound
            self.imports.append(Import(bound, alias.name, scope.path, where, node.lineno))
            self._bind(scope, bound, target if where == "plain" else None, node.lineno)

    def _import_from(self, node: ast.ImportFrom, scope: Scope, where: Where) -> None:
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            joint = "" if module.endswith(".") or not module else "."
            target = f"{module}{joint}{alias.name}"
            bound = alias.asname or alias.name
            self.imports.append(Import(bound, target, scope.path, where, node.lineno))
            if bound == "*":
                scope.star_line = node.lineno
            else:
                self._bind(scope, bound, target if where == "plain" else None, node.lineno)

    def _function(self, node: FunctionNode, scope: Scope, where: Where) -> None:
        self._bind_own(scope, node.name, node.lineno)
        inner = Scope(scope.member(node.name), scope, "function")
        self.functions.append((node, scope, inner))
        self._bind_parameters(node.args, inner)
        self._push(node.body, inner, "plain")
        self._push([node.returns], scope, where)
        self._push(_signature(node.args), scope, where)
        self._push(node.decorator_list, scope, where)

    def _lambda(self, node: ast.Lambda, scope: Scope, where: Where) -> None:
        inner = Scope(scope.path, scope, "function")
        self._bind_parameters(node.args, inner)
        self._push([node.body], inner, "plain")
        self._push(_signature(node.args), scope, where)

    def _bind_parameters(self, arguments: ast.arguments, inner: Scope) -> None:
        for argument in _parameters(arguments):
            self._bind(inner, argument.arg, None, argument.lineno)

    def _class(self, node: ast.ClassDef, scope: Scope, where: Where) -> None:
        self._bind_own(scope, node.name, node.lineno)
        self.classes.append((node, scope))
        self._push(node.body, Scope(scope.member(node.name), scope, "class"), "plain")
        self._push(_in_source_order([*node.bases, *node.keywords]), scope, where)
        self._push(node.decorator_list, scope, where)

    def _assign(self, node: ast.Assign, scope: Scope, where: Where) -> None:
        self._stack.append((node.value, scope, where))
        if len(node.targets) == 1:
            self._assign_one(node.targets[0], node.value, scope, where)
        else:
            self._push(node.targets, scope, where)

    def _ann_assign(self, node: ast.AnnAssign, scope: Scope, where: Where) -> None:
        self._push([node.annotation, node.value], scope, where)
        if node.value is None:
            self._push([node.target], scope, where)
        else:
            self._assign_one(node.target, node.value, scope, where)

    def _assign_one(self, target: ast.expr, value: ast.expr, scope: Scope, where: Where) -> None:
        text = dotted(target)
        if text is not None:
            self.assignments.append((text, value, scope, target.lineno))
        if isinstance(target, ast.Name):
            self._bind_own(scope, target.id, target.lineno)
        else:
            self._store(target, value, scope, where)

    def _store(self, target: ast.expr, value: ast.expr | None, scope: Scope, where: Where) -> None:
        place = target.value if isinstance(target, ast.Subscript) else target
        key = target.slice if isinstance(target, ast.Subscript) else None
        text = dotted(place)
        if text is None:
            self._push(parts_of(target), scope, where)
            return
        self.loads[scope.path].add(text if key else text.rpartition(".")[0])
        self.stores.append((text, key, value, scope, target.lineno))
        self._push([key], scope, where)

    def _global(self, node: ast.Global, scope: Scope, where: Where) -> None:
        scope.global_names.update(node.names)
        self.globals[scope].update(node.names)

    def _nonlocal(self, node: ast.Nonlocal, scope: Scope, where: Where) -> None:
        for name in node.names:
            outer = scope.parent
            while outer is not None and name not in outer.bindings:
                outer = outer.parent
            if outer is not None:
                self._bind(outer, name, None, node.lineno)

    def _except(self, node: ast.ExceptHandler, scope: Scope, where: Where) -> None:
        if node.name:
            self._bind(scope, node.name, None, node.lineno)
        self._push([node.type, *node.body], scope, "try")

    def _capture(
        self, node: ast.MatchAs | ast.MatchStar | ast.MatchMapping, scope: Scope, where: Where
    ) -> None:
        name = node.rest if isinstance(node, ast.MatchMapping) else node.name
        if name:
            self._bind(scope, name, None, node.lineno)
        self._push(parts_of(node), scope, where)

    # Statements that make what they hold conditional

    def _try(self, node: ast.Try, scope: Scope, where: Where) -> None:
        self._push(parts_of(node), scope, "try")

    def _if(self, node: ast.If, scope: Scope, where: Where) -> None:
        test = dotted(node.test)
        if scope is self.module and _is_main_guard(node.test):
            self.has_main_guard = True
        checking = test in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        inner: Where = "type-checking" if checking else _stronger(where, "conditional")
        self._push(node.orelse, scope, _stronger(where, "conditional"))
        self._push(node.body, scope, inner)
        self._push([node.test], scope, where)

    def _loop(
        self, node: ast.For | ast.AsyncFor | ast.While | ast.Match, scope: Scope, where: Where
    ) -> None:
        if isinstance(node, ast.AsyncFor):
            self.waiting.add(scope.path)
        self._push(parts_of(node), scope, _stronger(where, "conditional"))

    # Expressions

    def _name(self, node: ast.Name, scope: Scope, where: Where) -> None:
        if isinstance(node.ctx, ast.Load):
            self.loads[scope.path].add(node.id)
        else:
            self._bind(scope, node.id, None, node.lineno)

    def _attribute(self, node: ast.Attribute, scope: Scope, where: Where) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._store(node, None, scope, where)
            return
        text = dotted(node)
        if text is None:
            self._stack.append((node.value, scope, where))
        else:
            self.loads[scope.path].add(text)

    def _subscript(self, node: ast.Subscript, scope: Scope, where: Where) -> None:
        if isinstance(node.ctx, ast.Load):
            self._push([node.value, node.slice], scope, where)
        else:
            self._store(node, None, scope, where)

    def _call(self, node: ast.Call, scope: Scope, where: Where) -> None:
        if isinstance(node.func, ast.Name | ast.Attribute) and dotted(node.func):
            self.calls.append((node, scope))
        self._push(_in_source_order([*node.args, *node.keywords]), scope, where)
        self._stack.append((node.func, scope, where))

    def _if_expression(self, node: ast.IfExp, scope: Scope, where: Where) -> None:
        self._push([node.body, node.test, node.orelse], scope, where)

    def _dict(self, node: ast.Dict, scope: Scope, where: Where) -> None:
        pairs = [part for pair in zip(node.keys, node.values, strict=True) for part in pair]
        self._push(pairs, scope, where)

    def _set(self, node: ast.Set, scope: Scope, where: Where) -> None:
        # {{ name }}: a set in a set can never be evaluated, so it is a template
        self.is_template = self.is_template or any(isinstance(each, ast.Set) for each in node.elts)
        self._push(node.elts, scope, where)

    def _comprehension(
        self,
        node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp,
        scope: Scope,
        where: Where,
    ) -> None:
        inner = Scope(scope.path, scope, "comprehension")
        if any(each.is_async for each in node.generators):
            self.waiting.add(scope.path)
        self._push(parts_of(node), inner, where)

    def _walrus(self, node: ast.NamedExpr, scope: Scope, where: Where) -> None:
        owner = scope
        while owner.kind == "comprehension" and owner.parent is not None:
            owner = owner.parent
        self._bind(owner, node.target.id, None, node.lineno)
        self._stack.append((node.value, scope, where))

    def _wait(self, node: ast.Await | ast.AsyncWith, scope: Scope, where: Where) -> None:
        self.waiting.add(scope.path)
        self._push(parts_of(node), scope, where)

    def _return(self, node: ast.Return, scope: Scope, where: Where) -> None:
        self.returns[scope].append(node.value)
        self._push([node.value], scope, where)

    def _yield(self, node: ast.Yield | ast.YieldFrom, scope: Scope, where: Where) -> None:
        self.generators.add(scope)
        self._push([node.value], scope, where)


def _stronger(where: Where, other: Where) -> Where:
    return where if where != "plain" else other


def _is_main_guard(test: ast.expr) -> bool:
    if not isinstance(test, ast.Compare) or len(test.comparators) != 1:
        return False
    sides = (test.left, test.comparators[0])
    return any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)


def _in_source_order(nodes: Iterable[ast.expr | ast.keyword]) -> list[ast.expr | ast.keyword]:
    return sorted(nodes, key=lambda node: (node.lineno, node.col_offset))


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    found = [*arguments.posonlyargs, *arguments.args]
    found += [arguments.vararg] if arguments.vararg else []
    found += arguments.kwonlyargs
    return found + ([arguments.kwarg] if arguments.kwarg else [])


def with_defaults(arguments: ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    """Return all parameters in source order, each with its default."""
    plain = [*arguments.posonlyargs, *arguments.args]
    missing = len(plain) - len(arguments.defaults)
    defaults: dict[str, ast.expr | None] = {
        each.arg: default for each, default in zip(plain[missing:], arguments.defaults, strict=True)
    }
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        defaults[each.arg] = default
    return [(each, defaults.get(each.arg)) for each in _parameters(arguments)]


def _signature(arguments: ast.arguments) -> list[ast.AST | None]:
    """Return annotations and defaults in source order."""
    return [
        part
        for argument, default in with_defaults(arguments)
        for part in (argument.annotation, default)
    ]


_VISITORS: dict[type[ast.AST], Callable[[Walk, Any, Scope, Where], None]] = {
    ast.Import: Walk._import,
    ast.ImportFrom: Walk._import_from,
    ast.FunctionDef: Walk._function,
    ast.AsyncFunctionDef: Walk._function,
    ast.Lambda: Walk._lambda,
    ast.ClassDef: Walk._class,
    ast.Assign: Walk._assign,
    ast.AnnAssign: Walk._ann_assign,
    ast.Global: Walk._global,
    ast.Nonlocal: Walk._nonlocal,
    ast.ExceptHandler: Walk._except,
    ast.MatchAs: Walk._capture,
    ast.MatchStar: Walk._capture,
    ast.MatchMapping: Walk._capture,
    ast.Try: Walk._try,
    ast.TryStar: Walk._try,
    ast.If: Walk._if,
    ast.For: Walk._loop,
    ast.AsyncFor: Walk._loop,
    ast.While: Walk._loop,
    ast.Match: Walk._loop,
    ast.Name: Walk._name,
    ast.Attribute: Walk._attribute,
    ast.Subscript: Walk._subscript,
    ast.Call: Walk._call,
    ast.IfExp: Walk._if_expression,
    ast.Dict: Walk._dict,
    ast.Set: Walk._set,
    ast.ListComp: Walk._comprehension,
    ast.SetComp: Walk._comprehension,
    ast.GeneratorExp: Walk._comprehension,
    ast.DictComp: Walk._comprehension,
    ast.NamedExpr: Walk._walrus,
    ast.Await: Walk._wait,
    ast.AsyncWith: Walk._wait,
    ast.Return: Walk._return,
    ast.Yield: Walk._yield,
    ast.YieldFrom: Walk._yield,
}
