"""Arguments of background tasks: are they plain JSON, or a model that can be sent as JSON?

Plain are the values that the JSON of Celery gives back as they were: texts, numbers, lists and
dictionaries of them, and those of the types that kombu knows (kombu/utils/json.py, since 5.3).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.program import Definition

if TYPE_CHECKING:
    from mega_optimizer.codemods.program import Program
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
TEXT_METHODS = frozenset(
    {"upper", "lower", "strip", "lstrip", "rstrip", "title", "format", "replace", "hex"}
)
PLAIN_CALLS = frozenset(
    {
        "builtins.str", "builtins.int", "builtins.float", "builtins.bool", "builtins.len",
        "builtins.round", "uuid.uuid4", "uuid.uuid1", "uuid.UUID", "time.time",
        "datetime.datetime.now", "datetime.datetime.utcnow", "secrets.token_hex",
        "secrets.token_urlsafe",
    }
)  # fmt: skip
# Types of SQLAlchemy's columns whose values are as plain.
COLUMNS = {
    "Integer": "int", "BigInteger": "int", "SmallInteger": "int", "String": "str", "Text": "str",
    "Unicode": "str", "UnicodeText": "str", "Boolean": "bool", "Float": "float",
}  # fmt: skip
DEPTH = 4
PLAINLY: Literal["plain"] = "plain"

Sent = Literal["plain"] | Definition


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


def sent_as(names: Names, value: ast.expr, depth: int = 0) -> Sent | None:
    """Return how an argument reaches another process: plain, as a model's JSON, None: not."""
    if depth > DEPTH:
        return None
    if isinstance(value, ast.Constant):
        return PLAINLY if isinstance(value.value, str | int | float | None) else None
    if isinstance(value, ast.JoinedStr):
        return PLAINLY
    if isinstance(value, ast.List):
        return _all_plain(names, value.elts, depth)
    if isinstance(value, ast.Dict):
        keys = [each for each in value.keys if each is not None]
        texts = all(isinstance(each, ast.Constant | ast.JoinedStr) for each in keys)
        whole = texts and len(keys) == len(value.values)
        return _all_plain(names, value.values, depth) if whole else None
    if isinstance(value, ast.BoolOp):
        return _all_plain(names, value.values, depth)
    if isinstance(value, ast.IfExp):
        return _all_plain(names, [value.body, value.orelse], depth)
    if isinstance(value, ast.Name):
        return _of_name(names, value.id, depth)
    if isinstance(value, ast.Attribute):
        return _of_attribute(names, value, depth)
    if isinstance(value, ast.Call):
        return _of_call(names, value, depth)
    return None


def _all_plain(names: Names, values: list[ast.expr], depth: int) -> Sent | None:
    plain = all(sent_as(names, each, depth + 1) == PLAINLY for each in values)
    return PLAINLY if plain else None


def _of_name(names: Names, name: str, depth: int) -> Sent | None:
    """Return how a parameter of the handler, or a local variable that is set once, is sent."""
    stores = _stores(names.node, name)
    annotation = _parameter_type(names.node, name)
    if annotation is not None:
        return None if stores else _of_type(names, annotation)
    if len(stores) != 1:
        return None
    made = _made(names.node, stores[0])
    if made is not None:
        return sent_as(names, made, depth + 1)
    for inner in ast.walk(names.node):
        if isinstance(inner, ast.AnnAssign) and inner.target is stores[0]:
            return _of_type(names, inner.annotation)
    return None


def _stores(node: ast.AST, name: str) -> list[ast.Name]:
    return [
        inner
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and inner.id == name and isinstance(inner.ctx, ast.Store)
    ]


def _made(node: ast.AST, store: ast.Name) -> ast.expr | None:
    """Return the value of the plain assignment to a variable."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assign) and inner.targets == [store]:
            return inner.value
    return None


def _parameter_type(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> ast.expr | None:
    arguments = node.args
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if each.arg == name:
            return each.annotation
    return None


def _of_attribute(names: Names, value: ast.Attribute, depth: int) -> Sent | None:
    """Return how a field of a model, a column of a row, or ``uuid4().hex``, is sent."""
    owner = _class_behind(names, value.value, depth + 1)
    if owner is not None:
        annotation, home = _field(names.program, owner, value.attr)
        return _of_type(home, annotation) if home is not None else None
    if value.attr == "hex" and sent_as(names, value.value, depth + 1) == PLAINLY:
        return PLAINLY
    return None


def _class_behind(names: Names, value: ast.expr, depth: int) -> Definition | None:
    """Return the class of the service whose object an expression is, else None."""
    if depth > DEPTH:
        return None
    if isinstance(value, ast.Await):
        return _class_behind(names, value.value, depth)
    if isinstance(value, ast.Name):
        stores = _stores(names.node, value.id)
        annotation = _parameter_type(names.node, value.id)
        if annotation is not None:
            return None if stores else _own_class(names, annotation)
        made = _made(names.node, stores[0]) if len(stores) == 1 else None
        return _class_behind(names, made, depth + 1) if made is not None else None
    if isinstance(value, ast.Attribute):
        owner = _class_behind(names, value.value, depth + 1)
        annotation, home = _field(names.program, owner, value.attr) if owner else (None, None)
        return _own_class(home, annotation) if home is not None else None
    if not isinstance(value, ast.Call):
        return None
    found = names.program.definition(names.facts.path, names.resolve(ast.unparse(value.func)))
    home_facts = names.program.facts(found.path) if found is not None else None
    if found is None or home_facts is None:
        return None
    if class_node(names.program, found) is not None:
        return found
    home = Names(names.program, home_facts, _nothing())
    return _own_class(home, function_annotation(names.program, found))


def _own_class(names: Names, annotation: ast.expr | None) -> Definition | None:
    """Return the class of the service that an annotation names, ``Annotated`` or not."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith(
        "Annotated"
    ):
        inner = annotation.slice
        annotation = inner.elts[0] if isinstance(inner, ast.Tuple) else None
    if not isinstance(annotation, ast.Name | ast.Attribute):
        return None
    name = names.facts.resolve(ast.unparse(annotation))
    found = names.program.definition(names.facts.path, name)
    return found if found is not None and class_node(names.program, found) is not None else None


def _field(program: Program, owner: Definition, name: str) -> tuple[ast.expr | None, Names | None]:
    """Return the type of a field of a model or of a column of a table, and where it is named."""
    facts, node = program.facts(owner.path), class_node(program, owner)
    if facts is None or node is None:
        return None, None
    names = Names(program, facts, _nothing())
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == name:
            annotation: ast.expr = each.annotation
            if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith(
                "Mapped"
            ):
                annotation = annotation.slice
            return annotation, names
        if (
            isinstance(each, ast.Assign)
            and ast.unparse(each.targets[0]) == name
            and isinstance(each.value, ast.Call)
            and ast.unparse(each.value.func).endswith("Column")
            and each.value.args
        ):
            kind = ast.unparse(each.value.args[0]).partition("(")[0].rpartition(".")[2]
            plain = COLUMNS.get(kind)
            return (ast.Name(plain), names) if plain is not None else (None, None)
    for base in node.bases:
        inherited = _own_class(names, base)
        if inherited is not None and inherited != owner:
            return _field(program, inherited, name)
    return None, None


def _of_call(names: Names, call: ast.Call, depth: int) -> Sent | None:
    text = ast.unparse(call.func)
    if isinstance(call.func, ast.Attribute):
        if call.func.attr == "model_dump":
            as_json = any(
                each.arg == "mode" and getattr(each.value, "value", None) == "json"
                for each in call.keywords
            )
            return PLAINLY if as_json else None
        if call.func.attr in ("isoformat", "model_dump_json"):
            return PLAINLY
        owner = sent_as(names, call.func.value, depth + 1)
        if call.func.attr in TEXT_METHODS and owner == PLAINLY:
            return PLAINLY
    name = names.resolve(text)
    if name in PLAIN_CALLS:
        return PLAINLY
    found = names.program.definition(names.facts.path, name)
    home = names.program.facts(found.path) if found is not None else None
    if found is None or home is None:
        return None
    if is_sendable_model(names.program, found):
        return found
    function = home.function(found.name)
    if function is None or function.is_generator or function.annotation is None:
        return None
    annotation = function_annotation(names.program, found)
    return _of_type(Names(names.program, home, _nothing()), annotation)


def function_annotation(program: Program, found: Definition) -> ast.expr | None:
    """Return the annotation of what a function of a module returns."""
    content = program.read(found.path)
    for node in ast.parse(content).body if content is not None else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == found.name:
            return node.returns
    return None


def _of_type(names: Names, annotation: ast.expr | None) -> Sent | None:
    """Return how a value of an annotated type is sent."""
    if annotation is None:
        return None
    if isinstance(annotation, ast.Name | ast.Attribute):
        found = names.program.definition(
            names.facts.path, names.facts.resolve(ast.unparse(annotation))
        )
        if found is not None:
            return found if is_sendable_model(names.program, found) else None
    return PLAINLY if _is_made_of(names, annotation, PLAIN) else None


def _is_made_of(
    names: Names, annotation: ast.expr, allowed: frozenset[str], own: int | None = None
) -> bool:
    """Whether all types in an annotation are ``allowed``, or models and enumerations of its own.

    ``own`` is how deep models may nest still, None where there may be none.
    """
    if isinstance(annotation, ast.Constant):
        return annotation.value is None
    if isinstance(annotation, ast.BinOp):
        return _is_made_of(names, annotation.left, allowed, own) and _is_made_of(
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
            _is_made_of(names, each, allowed, own)
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
    names = Names(program, facts, _nothing())
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
        or _is_made_of(names, each.annotation, FIELDS, nested)
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


def _nothing() -> ast.FunctionDef:
    """Return a function without names of its own."""
    node = ast.parse("def nothing(): ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    return node
