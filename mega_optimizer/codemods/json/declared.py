"""What annotations and fields of classes say about the JSON that values become.

A field of a pydantic model is validated (https://docs.pydantic.dev/latest/concepts/models/), a
column of SQLAlchemy's simple types is converted by the driver. Other annotations are the author's
word: good for ``str``, ``int`` and ``bool``, but a ``Decimal`` is often called a ``float``.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from mega_optimizer.codemods.json.shape import (
    BOOL,
    FINITE,
    FLOAT,
    INT,
    INT64,
    NONE,
    STR,
    Shape,
    join,
    mapping,
    sequence,
    unknown,
    without_none,
)
from mega_optimizer.codemods.program import Definition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mega_optimizer.codemods.json.tree import ModuleTree
    from mega_optimizer.codemods.program import Program

    Reads = Callable[[str], ModuleTree | None]

PLAIN = {"str": STR, "int": INT, "bool": BOOL, "None": NONE}
PYDANTIC = {
    "pydantic.EmailStr": STR, "pydantic.StrictStr": STR, "pydantic.StrictInt": INT,
    "pydantic.StrictBool": BOOL, "pydantic.PositiveInt": INT, "pydantic.NonNegativeInt": INT,
    "pydantic.FiniteFloat": FINITE,
}  # fmt: skip
MODELS = frozenset({"pydantic.BaseModel", "pydantic_settings.BaseSettings", "sqlmodel.SQLModel"})
LISTS = frozenset({"list", "List", "Sequence", "Iterable", "Collection", "Iterator"})
DICTS = frozenset({"dict", "Dict", "Mapping", "MutableMapping", "defaultdict"})
OPTIONAL = frozenset({"Optional", "Union"})
COLUMNS = {
    "Integer": INT64, "SmallInteger": INT64, "BigInteger": INT64, "String": STR, "Text": STR,
    "Unicode": STR, "UnicodeText": STR, "Boolean": BOOL, "Float": FLOAT,
}  # fmt: skip
BASES = 4


class Declarations:
    """Reads annotations and classes of a program; ``trees`` gives the tree of a module."""

    def __init__(self, program: Program, trees: Reads) -> None:
        self.program = program
        self.trees = trees

    def annotation(
        self, tree: ModuleTree, node: ast.expr | None, *, checked: bool = False
    ) -> Shape:
        """Return the shape of a value annotated ``node``; ``checked``: something enforces it."""
        if node is None:
            return unknown("a value without annotation")
        if isinstance(node, ast.Constant):
            return self._quoted(tree, node, checked=checked)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return join(
                self.annotation(tree, node.left, checked=checked),
                self.annotation(tree, node.right, checked=checked),
            )
        if isinstance(node, ast.Subscript):
            return self._subscript(tree, node, checked=checked)
        text = ast.unparse(node)
        name = tree.facts.resolve(text) or f"builtins.{text}"
        plain = PLAIN.get(name.removeprefix("builtins.")) or PYDANTIC.get(name)
        if plain is not None:
            return plain
        if name == "builtins.float":
            return FLOAT if checked else unknown("a float that may be a Decimal")
        found = self.program.definition(tree.path, name)
        if found is not None and self._class(found) is not None:
            return Shape(instance=found)
        return unknown(f"a value of {text}")

    def _quoted(self, tree: ModuleTree, node: ast.Constant, *, checked: bool) -> Shape:
        if node.value is None:
            return NONE
        if isinstance(node.value, str):
            try:
                parsed = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                return unknown(node.value)
            return self.annotation(tree, parsed, checked=checked)
        return unknown("a literal")

    def _subscript(self, tree: ModuleTree, node: ast.Subscript, *, checked: bool) -> Shape:
        last = ast.unparse(node.value).rpartition(".")[2]
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if last == "Literal":
            kinds = {type(each.value) for each in parts if isinstance(each, ast.Constant)}
            return STR if kinds == {str} else unknown("a literal")
        if last == "Annotated":
            inner = self.annotation(tree, parts[0], checked=checked)
            for each in parts[1:]:
                inner = self._limited(inner, each)
            return inner
        shapes = [self.annotation(tree, each, checked=checked) for each in parts]
        if last in OPTIONAL:
            return join(*shapes, *([NONE] if last == "Optional" else []))
        if last in LISTS and len(shapes) == 1:
            return sequence(shapes[0], many=True)
        if last in ("tuple", "Tuple"):
            variable = ast.unparse(parts[-1]) == "..."
            return sequence(join(*(shapes[:-1] if variable else shapes)), many=variable)
        if last in DICTS and len(shapes) == 2:
            if shapes[0] != STR:
                return unknown("keys that are not strings")
            return mapping(shapes[1], many=True)
        if last == "Mapped":
            return self.annotation(tree, parts[0], checked=True)
        return unknown(f"a value of {ast.unparse(node)}")

    def _limited(self, shape: Shape, field: ast.expr) -> Shape:
        """Return ``shape`` as the bounds of ``Field(ge=…, le=…)`` narrow it."""
        if not isinstance(field, ast.Call):
            return shape
        given = {each.arg: each.value for each in field.keywords if each.arg}
        low, high = {"ge", "gt"} & given.keys(), {"le", "lt"} & given.keys()
        bounded = bool(low and high)
        finite = bounded or _is(given.get("allow_inf_nan"), False)
        leaves = {
            "int64"
            if each == "int" and bounded
            else "finite"
            if each == "float" and finite
            else each
            for each in shape.leaves
        }
        return replace(shape, leaves=frozenset(leaves))

    def attribute(self, owner: Definition, name: str) -> Shape:
        """Return the shape of the attribute ``name`` of an object of the class ``owner``."""
        for each in self._lineage(owner):
            tree = self.trees(each.path)
            node = self._class(each)
            if tree is None or node is None:
                break
            checked = self.is_model(each)
            for statement in node.body:
                found = self._field(tree, statement, name, checked=checked)
                if found is not None:
                    return found
        return unknown(f"{owner.name}.{name}")

    def fields(self, owner: Definition) -> Shape | None:
        """Return the shape of ``model_dump()`` of a pydantic model, None for other classes."""
        if not self.is_model(owner):
            return None
        shapes: dict[str, Shape] = {}
        for each in self._lineage(owner):
            tree, node = self.trees(each.path), self._class(each)
            if tree is None or node is None or _has_hooks(node):
                return unknown(f"fields of {owner.name}")
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    name = statement.target.id
                    shape = self._field(tree, statement, name, checked=True)
                    if name != "model_config" and shape is not None:
                        shapes.setdefault(name, self._dumped(shape))
        return mapping(join(*shapes.values()), many=False)

    def _dumped(self, shape: Shape) -> Shape:
        """Return the shape of a field's value in ``model_dump()``."""
        item = self._dumped(shape.item) if shape.item is not None else None
        value = self._dumped(shape.value) if shape.value is not None else None
        inner = self.fields(shape.instance) if shape.instance is not None else None
        instance = None if inner is not None else shape.instance
        plain = replace(shape, item=item, value=value, instance=instance)
        return join(plain, inner) if inner is not None else plain

    def _field(
        self, tree: ModuleTree, statement: ast.stmt, name: str, *, checked: bool
    ) -> Shape | None:
        if isinstance(statement, ast.AnnAssign):
            if not isinstance(statement.target, ast.Name) or statement.target.id != name:
                return None
            shape = self.annotation(tree, statement.annotation, checked=checked)
            return self._limited(shape, statement.value) if statement.value else shape
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            if [ast.unparse(each) for each in statement.targets] != [name]:
                return None
            return _column(statement.value)
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            is_property = any("property" in ast.unparse(each) for each in statement.decorator_list)
            return self.annotation(tree, statement.returns) if is_property else None
        return None

    def is_model(self, owner: Definition) -> bool:
        """Whether a class is a pydantic model."""
        for each in self._lineage(owner):
            tree, node = self.trees(each.path), self._class(each)
            for base in node.bases if tree is not None and node is not None else ():
                if tree is not None and tree.facts.resolve(ast.unparse(base)) in MODELS:
                    return True
        return False

    def _lineage(self, owner: Definition) -> Iterator[Definition]:
        """Yield a class and its bases in the program, the nearest first."""
        waiting = [owner]
        for number, each in enumerate(waiting):
            if number > BASES:
                return
            yield each
            tree, node = self.trees(each.path), self._class(each)
            for base in node.bases if tree is not None and node is not None else ():
                name = tree.facts.resolve(ast.unparse(base)) if tree is not None else None
                found = self.program.definition(each.path, name)
                if found is not None and found not in waiting:
                    waiting.append(found)

    def _class(self, found: Definition) -> ast.ClassDef | None:
        tree = self.trees(found.path)
        return tree.classes.get(found.name) if tree is not None else None


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _has_hooks(node: ast.ClassDef) -> bool:
    """Whether a model serialises itself in a way of its own."""
    words = ("serializer", "computed_field", "json_encoders", "model_dump", "extra=")
    text = ast.unparse(node)
    return any(word in text for word in words)


def _column(call: ast.Call) -> Shape:
    """Return the shape of a SQLAlchemy column."""
    if ast.unparse(call.func).rpartition(".")[2] not in ("Column", "mapped_column"):
        return unknown(ast.unparse(call.func))
    kinds = [COLUMNS.get(_last(each)) for each in call.args]
    kind = next((each for each in kinds if each is not None), None)
    if kind is None:
        return unknown("a column of another type")
    given = {each.arg: each.value for each in call.keywords}
    fixed = _is(given.get("primary_key"), True) or _is(given.get("nullable"), False)
    return without_none(kind) if fixed else join(kind, NONE)


def _last(node: ast.expr) -> str:
    called = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(called).rpartition(".")[2]
