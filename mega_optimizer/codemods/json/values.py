"""Which JSON an expression makes, followed through variables, helpers and modules of a service.

Nothing is run. Where a step cannot be seen the shape says so, and whoever asks changes nothing.
Sums and products of finite floats are taken for finite: an overflow needs numbers beyond 1e150.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mega_optimizer.codemods.json.calls import CallReader
from mega_optimizer.codemods.json.declared import Declarations
from mega_optimizer.codemods.json.shape import (
    BOOL,
    FINITE,
    FLOAT,
    FLOATS,
    INT,
    INT64,
    INTEGERS,
    NONE,
    NOTHING,
    NUMBERS,
    STR,
    Shape,
    first_unknown,
    held,
    iterated,
    join,
    mapping,
    only,
    sequence,
    unknown,
    valued,
)
from mega_optimizer.codemods.json.tree import (
    FunctionNode,
    ModuleTree,
    is_generator,
    names_in,
    read_tree,
    returned,
)
from mega_optimizer.codemods.json.uses import effects, uses_of
from mega_optimizer.codemods.program import Definition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.codemods.json.uses import Effect
    from mega_optimizer.codemods.program import Program

Bound = dict[str, Shape]
USERS = 40  # modules that may change a value of another one
FOLLOWED = 12  # functions in functions
LIMIT = 6000  # expressions looked at for one answer


@dataclass(slots=True)
class Frame:
    """Where an expression stands: its module, the function around it, what is bound there.

    ``bound`` are the names of comprehensions, ``given`` the arguments of this call of the function.
    """

    tree: ModuleTree
    function: FunctionNode | None
    path: str = ""  # the dotted path of the function
    bound: Bound = field(default_factory=dict)
    given: Bound = field(default_factory=dict)


class Values:
    """Reads expressions of one program; answers are kept."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.declared = Declarations(program, self.tree)
        self._trees: dict[str, ModuleTree | None] = {}
        self._returns: dict[tuple[Definition, tuple[tuple[str, Shape], ...]], Shape] = {}
        self._globals: dict[Definition, Shape] = {}
        self._calls = CallReader(self)
        self._open: list[object] = []
        self._steps = 0

    def tree(self, path: str) -> ModuleTree | None:
        """Return the tree of a module, None where it cannot be read."""
        if path not in self._trees:
            self._trees[path] = read_tree(self.program, path)
        return self._trees[path]

    def returns(self, found: Definition, bound: Mapping[str, Shape] | None = None) -> Shape:
        """Return what a function of the service returns; ``bound`` are its arguments."""
        key = (found, tuple(sorted((bound or {}).items(), key=lambda each: each[0])))
        if key not in self._returns:
            if key in self._open or len(self._open) > FOLLOWED:
                return unknown(f"{found.name}, which calls itself or too much")
            if not self._open:
                self._steps = 0
            self._open.append(key)
            self._returns[key] = self._of_function(found, dict(bound or {}))
            self._open.pop()
        return self._returns[key]

    def _of_function(self, found: Definition, bound: Bound) -> Shape:
        tree = self.tree(found.path)
        node = tree.functions.get(found.name) if tree is not None else None
        if tree is None or node is None:
            return unknown(found.name)
        if is_generator(node) or any(not _keeps_result(each) for each in node.decorator_list):
            return unknown(f"{found.name}, which is wrapped or a generator")
        frame = Frame(tree, node, found.name, given=bound)
        joined = NOTHING
        for each in returned(node):
            joined = join(joined, self.shape(frame, each) if each else NONE)
            if first_unknown(joined):
                break  # whoever asks needs all of it
        return joined

    def shape(self, frame: Frame, node: ast.expr) -> Shape:
        """Return what ``node`` makes."""
        self._steps += 1
        if self._steps > LIMIT:
            return unknown("too much to follow")
        match node:
            case ast.Constant():
                return _constant(node)
            case ast.JoinedStr():
                return STR
            case ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return BOOL
            case ast.List() | ast.Tuple():
                return self._list(frame, node)
            case ast.Dict():
                return self._dict(frame, node)
            case ast.ListComp() | ast.GeneratorExp():
                inner = self._comprehended(frame, node.generators)
                return sequence(self.shape(inner, node.elt), many=True)
            case ast.DictComp():
                inner = self._comprehended(frame, node.generators)
                return self._object(inner, node.key, self.shape(inner, node.value), many=True)
            case ast.IfExp():
                return join(self.shape(frame, node.body), self.shape(frame, node.orelse))
            case ast.BoolOp():
                return join(*(self.shape(frame, each) for each in node.values))
            case ast.UnaryOp():
                operand = self.shape(frame, node.operand)
                return operand if only(operand, NUMBERS) else unknown(_text(node))
            case ast.BinOp():
                return self._binary(frame, node)
            case ast.Await():
                return self.shape(frame, node.value)
            case ast.Name():
                return self._name(frame, node.id)
            case ast.Attribute():
                return self._attribute(frame, node)
            case ast.Subscript():
                return self._subscript(frame, node)
            case ast.Call():
                return self._calls.shape(frame, node)
            case _:
                return unknown(_text(node))

    def _list(self, frame: Frame, node: ast.List | ast.Tuple) -> Shape:
        items = [
            iterated(self.shape(frame, each.value))
            if isinstance(each, ast.Starred)
            else self.shape(frame, each)
            for each in node.elts
        ]
        many = any(isinstance(each, ast.Starred) for each in node.elts)
        return sequence(join(*items), many=many)

    def _dict(self, frame: Frame, node: ast.Dict) -> Shape:
        shapes: list[Shape] = [mapping(NOTHING, many=False)]
        for key, value in zip(node.keys, node.values, strict=True):
            inner = self.shape(frame, value)
            shapes.append(inner if key is None else self._object(frame, key, inner, many=False))
            if shapes[-1].unknown or inner.unknown:
                return unknown(shapes[-1].unknown or inner.unknown)
        joined = join(*shapes)
        if joined.leaves or joined.item is not None or joined.instance is not None:
            return unknown(_text(node))
        return joined

    def _object(self, frame: Frame, key: ast.expr, value: Shape, *, many: bool) -> Shape:
        if not only(self.shape(frame, key), {"str"}):
            return unknown(f"the key {_text(key)}")
        return mapping(value, many=many)

    def _binary(self, frame: Frame, node: ast.BinOp) -> Shape:
        left, right = self.shape(frame, node.left), self.shape(frame, node.right)
        if isinstance(node.op, ast.Mod) and only(left, {"str"}):
            return STR
        if isinstance(node.op, ast.Add):
            if only(left, {"str"}) and only(right, {"str"}):
                return STR
            if left.item is not None and right.item is not None:
                return join(left, right)
        if isinstance(node.op, ast.BitOr) and left.value is not None and right.value is not None:
            return join(left, right)
        if not only(left, NUMBERS | {"bool"}) or not only(right, NUMBERS | {"bool"}):
            return unknown(_text(node))
        return _computed(node.op, left, right)

    def _comprehended(self, frame: Frame, generators: list[ast.comprehension]) -> Frame:
        inner = frame
        for each in generators:
            bound = self.unpacked(inner, each.target, each.iter)
            inner = replace(inner, bound={**inner.bound, **bound})
        return inner

    def unpacked(self, frame: Frame, target: ast.expr, source: ast.expr) -> Bound:
        """Return what a loop over ``source`` binds to the names in ``target``."""
        if isinstance(target, ast.Name):
            return {target.id: iterated(self.shape(frame, source))}
        called = _text(source.func) if isinstance(source, ast.Call) else ""
        names = target.elts if isinstance(target, ast.Tuple | ast.List) else []
        if isinstance(source, ast.Call) and len(names) == 2:
            if called == "enumerate" and isinstance(names[0], ast.Name) and source.args:
                return {names[0].id: INT64, **self.unpacked(frame, names[1], source.args[0])}
            if called.endswith(".items") and isinstance(source.func, ast.Attribute):
                owner = self.shape(frame, source.func.value)
                value = valued(owner)
                if value is not None:
                    bound = {each: STR for each in names_in(names[0])}
                    if isinstance(names[1], ast.Name):
                        return {**bound, names[1].id: value}
                    return {**bound, **_spread(names[1], value)}
        if isinstance(source, ast.Call) and called == "zip" and len(names) == len(source.args):
            bound = {}
            for name, each in zip(names, source.args, strict=True):
                bound |= self.unpacked(frame, name, each)
            return bound
        return _spread(target, iterated(self.shape(frame, source)))

    def _name(self, frame: Frame, name: str) -> Shape:
        if name in frame.bound:
            return frame.bound[name]
        if frame.function is not None:
            local = self._local(frame, name)
            if local is not None:
                return local
        return self._global(frame, name)

    def _local(self, frame: Frame, name: str) -> Shape | None:
        """Return the shape of a variable or parameter of the function, None where it has none."""
        function = frame.function
        assert function is not None
        key = (frame.path, frame.tree.path, name)
        if key in self._open:
            return NOTHING  # what it adds to itself it holds already
        self._open.append(key)
        try:
            return self._bindings(frame, function, name)
        finally:
            self._open.pop()

    def _bindings(self, frame: Frame, function: FunctionNode, name: str) -> Shape | None:
        shapes: list[Shape] = []
        arguments = function.args
        named = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        shapes += [self._parameter(frame, each) for each in named if each.arg == name]
        if any(each and each.arg == name for each in (arguments.vararg, arguments.kwarg)):
            return unknown(name)
        scope = frame.tree.scope(function)
        if name in scope.shared:
            return unknown(f"{name}, which is bound elsewhere too")
        shapes += [self._bound_by(frame, each, name) for each in scope.bindings.get(name, ())]
        if not shapes:
            return None
        joined = join(*shapes)
        return self._after(frame, effects(frame.tree, function, name), joined)

    def _parameter(self, frame: Frame, parameter: ast.arg) -> Shape:
        if parameter.arg in frame.given:
            return frame.given[parameter.arg]
        checked = self._is_route(frame)
        declared = self.declared.annotation(frame.tree, parameter.annotation, checked=checked)
        default = _default(frame.function, parameter) if frame.function is not None else None
        return join(declared, _constant(default)) if isinstance(default, ast.Constant) else declared

    def _is_route(self, frame: Frame) -> bool:
        return any(each.handler.path == frame.path for each in frame.tree.facts.routes)

    def _bound_by(self, frame: Frame, node: ast.AST, name: str) -> Shape:
        """Return the shape that ``node``, which binds it, gives to ``name``."""
        match node:
            case ast.Assign():
                if any(isinstance(each, ast.Name) and each.id == name for each in node.targets):
                    return self.shape(frame, node.value)
                return self._spread_value(frame, node, name)
            case ast.AnnAssign(value=None):
                return NOTHING
            case ast.AnnAssign(value=ast.expr() as value) | ast.NamedExpr(value=value):
                return self.shape(frame, value)
            case ast.AugAssign():
                return self._augmented(frame, node)
            case ast.For() | ast.AsyncFor():
                return self.unpacked(frame, node.target, node.iter).get(name, unknown(name))
            case _:
                return unknown(name)

    def _spread_value(self, frame: Frame, node: ast.Assign, name: str) -> Shape:
        for target in node.targets:
            ends = target.elts if isinstance(target, ast.Tuple) else []
            parts = node.value.elts if isinstance(node.value, ast.Tuple) else []
            if len(ends) == len(parts):
                for one, part in zip(ends, parts, strict=True):
                    if isinstance(one, ast.Name) and one.id == name:
                        return self.shape(frame, part)
            called = node.value.func if isinstance(node.value, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr in ("partition", "rpartition"):
                return STR
        value = self.shape(frame, node.value)
        return value.item if value.item is not None and not value.unknown else unknown(name)

    def _augmented(self, frame: Frame, node: ast.AugAssign) -> Shape:
        value = self.shape(frame, node.value)
        if only(value, {"str"}) or value.item is not None or value.value is not None:
            return value
        if not only(value, NUMBERS | {"bool"}):
            return unknown(_text(node))
        return _computed(node.op, value, value)

    def _after(self, frame: Frame, found: Iterator[Effect], shape: Shape) -> Shape:
        """Return ``shape`` with all that is put into it later."""
        if shape.item is None and shape.value is None:
            return shape
        for each in found:
            shape = self._with(frame, shape, each)
            if shape.unknown:
                break
        return shape

    def _with(self, frame: Frame, shape: Shape, effect: Effect) -> Shape:
        if effect.kind == "lost":
            return unknown(f"what {_text(effect.node)} does")
        inner = self._scoped(frame, effect.node)
        value = self.shape(inner, effect.node)
        if effect.kind == "join" and value.item is None and value.value is None:
            return unknown(_text(effect.node))
        if effect.kind == "join":
            added = Shape(item=value.item, value=value.value, many=True, unknown=value.unknown)
        elif effect.key is None:
            added = sequence(value, many=True)
        else:
            key = self.shape(inner, effect.key)
            if only(key, {"str"}):
                added = mapping(value, many=not isinstance(effect.key, ast.Constant))
            elif only(key, INTEGERS):
                added = sequence(value, many=False)
            else:
                return unknown(f"the key {_text(effect.key)}")
        return _joined_at(shape, added, effect.level)

    def _scoped(self, frame: Frame, node: ast.AST) -> Frame:
        """Return a frame in which the names of the comprehensions around ``node`` are bound."""
        around = [
            each
            for each in frame.tree.source.around(node)
            if isinstance(each, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp)
        ]
        for each in reversed(around):
            frame = self._comprehended(frame, each.generators)
        return frame

    def _global(self, frame: Frame, name: str) -> Shape:
        resolved = frame.tree.facts.resolve(name)
        found = self.program.definition(frame.tree.path, resolved)
        return self.constant(found) if found is not None else unknown(name)

    def constant(self, found: Definition) -> Shape:
        """Return the shape of a variable of a module."""
        if found not in self._globals:
            if found in self._open or len(self._open) > 4 * FOLLOWED:
                return unknown(found.name)
            self._open.append(found)
            self._globals[found] = self._constant(found)
            self._open.pop()
        return self._globals[found]

    def _constant(self, found: Definition) -> Shape:
        tree = self.tree(found.path)
        if tree is None or "." in found.name:
            return unknown(found.name)
        scope = tree.scope(tree.source.tree)
        bindings = scope.bindings.get(found.name, [])
        if len(bindings) != 1 or found.name in scope.shared:
            return unknown(f"{found.name}, which is not assigned once")
        shape = self._bound_by(Frame(tree, None), bindings[0], found.name)
        if shape.item is None and shape.value is None:
            return shape
        users = self.program.with_word(found.name)
        if len(users) > USERS:
            return unknown(f"{found.name}, which is used in many modules")
        for path in users:
            shape = self._used_in(found, path, shape)
        return shape

    def _used_in(self, found: Definition, path: str, shape: Shape) -> Shape:
        tree = self.tree(path)
        if tree is None:
            return unknown(found.name)
        if any(
            f".{found.name}" in text and self._means(tree, text, found)
            for texts in tree.facts.loads.values()
            for text in texts
        ):
            return unknown(f"{found.name}, which {path} uses through its module")
        if not self._means(tree, found.name, found):
            return shape
        for scope in (tree.source.tree, *tree.functions.values()):
            # reads of the whole module are those of its functions too: each is followed in its own
            nodes = [
                each
                for each in tree.scope(scope).reads.get(found.name, ())
                if tree.function_around(each) is (None if scope is tree.source.tree else scope)
            ]
            if nodes:
                function = scope if isinstance(scope, FunctionNode) else None
                inner = Frame(tree, function)
                shape = self._after(inner, uses_of(tree, scope, nodes), shape)
        return shape

    def _means(self, tree: ModuleTree, text: str, found: Definition) -> bool:
        resolved = tree.facts.resolve(text)
        defined = self.program.definition(tree.path, resolved)
        return defined is not None and (
            defined == found
            or (defined.path == found.path and defined.name.startswith(f"{found.name}."))
        )

    def _attribute(self, frame: Frame, node: ast.Attribute) -> Shape:
        text = _text(node)
        if node.attr in ("__name__", "__qualname__") or text in ("uuid.uuid4().hex", "uuid4().hex"):
            return STR
        owner = self.shape(frame, node.value)
        if owner.instance is not None and not owner.unknown and not owner.leaves:
            return self.declared.attribute(owner.instance, node.attr)
        return unknown(text)

    def _subscript(self, frame: Frame, node: ast.Subscript) -> Shape:
        if _text(node.value) in ("os.environ", "environ"):
            return STR
        owner = self.shape(frame, node.value)
        if isinstance(node.slice, ast.Slice):
            return owner
        if only(owner, {"str"}):
            return STR
        return held(owner)


def _constant(node: ast.Constant) -> Shape:
    value = node.value
    match value:
        case None:
            return NONE
        case bool():
            return BOOL
        case str():
            return STR
        case int():
            return INT64 if -(2**63) <= value < 2**63 else INT
        case float():
            return FINITE if math.isfinite(value) else FLOAT
        case _:
            return unknown(_text(node))


def _computed(operator: ast.operator, left: Shape, right: Shape) -> Shape:
    kinds = left.leaves | right.leaves
    exact = not kinds & FLOATS
    if isinstance(operator, ast.Div):
        return FLOAT if "float" in kinds else FINITE
    if isinstance(operator, ast.Mod | ast.FloorDiv) and exact:
        narrow = right.leaves <= {"int64"} if isinstance(operator, ast.Mod) else "int" not in kinds
        return INT64 if narrow else INT
    if isinstance(operator, ast.Add | ast.Sub) and exact:
        return INT if "int" in kinds else INT64
    if isinstance(operator, ast.Pow):
        return Shape(frozenset({"int", "float"}))
    if exact:
        return INT
    return FLOAT if "float" in kinds else FINITE


def _joined_at(shape: Shape, added: Shape, level: int) -> Shape:
    if level == 0:
        return join(shape, added)
    item = _joined_at(shape.item, added, level - 1) if shape.item is not None else None
    value = _joined_at(shape.value, added, level - 1) if shape.value is not None else None
    if item is None and value is None:
        return join(shape, Shape(unknown=added.unknown))
    return replace(shape, item=item, value=value)


def _spread(target: ast.expr, shape: Shape) -> Bound:
    """Bind each name in a tuple to what the sequence ``shape`` holds."""
    known = (shape.item is not None or shape.parsed) and not shape.unknown
    part = held(shape) if known else unknown(_text(target))
    return {name: part for name in names_in(target)}


def _default(function: FunctionNode, parameter: ast.arg) -> ast.expr | None:
    """Return the default of a parameter, None where it has none."""
    positional = [*function.args.posonlyargs, *function.args.args]
    last = positional[len(positional) - len(function.args.defaults) :]
    pairs = [
        *zip(last, function.args.defaults, strict=True),
        *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
    ]
    return next((value for each, value in pairs if each is parameter), None)


def _keeps_result(decorator: ast.expr) -> bool:
    """Whether a decorator is known to return what the function returns."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return _text(called).rpartition(".")[2] in (
        "get", "post", "put", "patch", "delete", "lru_cache", "cache", "staticmethod",
    )  # fmt: skip


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
