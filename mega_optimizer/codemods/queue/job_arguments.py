"""Arguments of background tasks: are they plain JSON, or a model that can be sent as JSON?

Plain are the values that the JSON of Celery gives back as they were: texts, numbers, lists and
dictionaries of them, and those of the types that kombu knows (kombu/utils/json.py, since 5.3).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.queue.sendable_models import (
    DEPTH,
    PLAIN,
    Names,
    class_node,
    is_made_of,
    is_sendable_model,
    nothing,
)

if TYPE_CHECKING:
    from mega_optimizer.codemods.program import Program

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
PLAINLY: Literal["plain"] = "plain"

Sent = Literal["plain"] | Definition


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
    home = Names(names.program, home_facts, nothing())
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
    names = Names(program, facts, nothing())
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
    return _of_type(Names(names.program, home, nothing()), annotation)


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
    return PLAINLY if is_made_of(names, annotation, PLAIN) else None
