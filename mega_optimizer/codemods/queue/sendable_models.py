"""Models of pydantic that can be sent as JSON, and types that are plain."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.codemods.program import Definition, Program
    from mega_optimizer.repository.python import PythonFacts

PLAIN = frozenset(
    {
        "builtins.str", "builtins.int", "builtins.float", "builtins.bool", "builtins.None",
        "uuid.UUID", "datetime.datetime", "datetime.date", "datetime.time", "decimal.Decimal",
        "pydantic.EmailStr", "pydantic.networks.EmailStr", "pydantic.PositiveInt",
        "pydantic.NonNegativeInt", "pydantic.PositiveFloat", "pydantic.NonNegativeFloat",
        "pydantic.StrictStr", "pydantic.StrictInt", "pydantic.StrictBool", "pydantic.StrictFloat",
        "pydantic.constr", "pydantic.conint", "pydantic.confloat",
    }
)  # fmt: skip
# What a field of a model may hold besides, since the model is made anew of its JSON.
FIELDS = PLAIN | {
    "typing.Literal", "typing_extensions.Literal", "pydantic.HttpUrl", "pydantic.AnyUrl",
    "pydantic.AnyHttpUrl", "builtins.set", "builtins.tuple", "typing.Set", "typing.Tuple",
    "datetime.timedelta",
}  # fmt: skip
HOLDERS = frozenset(
    {
        "builtins.list", "builtins.dict", "typing.List", "typing.Dict", "typing.Optional",
        "typing.Union", "typing.Annotated", "typing_extensions.Annotated", "typing.Sequence",
        "collections.abc.Sequence",
    }
)  # fmt: skip
ENUMS = frozenset({"enum.Enum", "enum.StrEnum", "enum.IntEnum"})
BASE_MODEL = frozenset({"pydantic.BaseModel"})
# What makes the JSON of a model differ from what the model is made of.
SHAPED = (
    "alias", "validator", "serializer", "computed_field", "PrivateAttr", "Secret", "exclude",
    "root_validator", "RootModel", "model_post_init", "__init__", "arbitrary_types_allowed",
)  # fmt: skip
DEPTH = 4  # how deep models may nest


@dataclass(frozen=True, slots=True)
class Names:
    """Where the names of an expression are looked up: a module, and a function of it."""

    program: Program
    facts: PythonFacts
    node: ast.FunctionDef | ast.AsyncFunctionDef

    def resolve(self, text: str) -> str | None:
        """Return what a dotted name means at module level, or as a builtin."""
        name = self.facts.resolve(text)
        root = text.partition(".")[0]
        if name is None and root not in self.facts.bound_names:
            return f"builtins.{text}"
        return name


def is_made_of(
    names: Names, annotation: ast.expr, allowed: frozenset[str], own: int | None = None
) -> bool:
    """Whether all types in an annotation are ``allowed``, or models and enumerations of its own.

    ``own`` is how deep models may nest still, None where there may be none.
    """
    if isinstance(annotation, ast.Constant):
        return annotation.value is None
    if isinstance(annotation, ast.BinOp):
        return is_made_of(names, annotation.left, allowed, own) and is_made_of(
            names, annotation.right, allowed, own
        )
    if isinstance(annotation, ast.Subscript):
        holder = names.resolve(ast.unparse(annotation.value)) or ""
        if holder.endswith(".Literal"):
            return own is not None
        if holder not in HOLDERS and not (own is not None and holder in FIELDS):
            return False
        inner = annotation.slice
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if holder.endswith(".Annotated"):
            parts = parts[:1]
        if holder.endswith((".dict", ".Dict")) and ast.unparse(parts[0]) != "str":
            return False
        return all(
            is_made_of(names, each, allowed, own)
            for each in parts
            if not (isinstance(each, ast.Constant) and each.value is ...)
        )
    if not isinstance(annotation, ast.Name | ast.Attribute):
        return (
            isinstance(annotation, ast.Call)
            and names.resolve(ast.unparse(annotation.func)) in allowed
        )
    name = names.resolve(ast.unparse(annotation))
    if name in allowed:
        return True
    found = names.program.definition(names.facts.path, name)
    if found is None or not own:
        return False
    return _is_enum(names.program, found) or is_sendable_model(names.program, found, own - 1)


def is_sendable_model(program: Program, found: Definition, nested: int = DEPTH) -> bool:
    """Whether a class is a model of pydantic that its JSON makes again as it was."""
    facts, node = program.facts(found.path), class_node(program, found)
    if facts is None or node is None or not node.bases:
        return False
    names = Names(program, facts, nothing())
    bases = [facts.resolve(ast.unparse(each)) for each in node.bases]
    if not all(
        name in BASE_MODEL
        or (
            (own := program.definition(found.path, name)) is not None
            and nested > 0
            and is_sendable_model(program, own, nested - 1)
        )
        for name in bases
    ):
        return False
    if any(word in ast.unparse(each) for each in node.body for word in SHAPED):
        return False
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
    return all(
        ast.unparse(each.annotation).startswith("ClassVar")
        or is_made_of(names, each.annotation, FIELDS, nested)
        for each in fields
        if ast.unparse(each.target) != "model_config"
    )


def _is_enum(program: Program, found: Definition) -> bool:
    facts, node = program.facts(found.path), class_node(program, found)
    if facts is None or node is None:
        return False
    return any(facts.resolve(ast.unparse(each)) in ENUMS for each in node.bases)


def class_node(program: Program, found: Definition) -> ast.ClassDef | None:
    """Return the syntax tree of a class of a module."""
    content = program.read(found.path)
    for node in ast.parse(content).body if content is not None else ():
        if isinstance(node, ast.ClassDef) and node.name == found.name:
            return node
    return None


def nothing() -> ast.FunctionDef:
    """Return a function without names of its own."""
    node = ast.parse("def nothing(): ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    return node
