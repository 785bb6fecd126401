"""Whether an expression means the same for the whole life of a process, and what it depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts, Value

DEPTH = 8
CACHES = frozenset({"lru_cache", "cache", "cached", "cached_property", "cache_resource", "memoize"})
ENVIRONMENT = frozenset({"os.getenv", "os.environ.get"})
PURE = frozenset(
    {
        "builtins.str", "builtins.int", "builtins.float", "builtins.bool", "builtins.dict",
        "urllib.parse.quote", "urllib.parse.quote_plus", "sqlalchemy.make_url",
        "sqlalchemy.engine.make_url", "sqlalchemy.engine.url.make_url", "sqlalchemy.URL.create",
        "sqlalchemy.engine.URL.create", "sqlalchemy.engine.url.URL.create",
    }
)  # fmt: skip
PURE_METHODS = frozenset(
    {
        "replace",
        "format",
        "strip",
        "lower",
        "unicode_string",
        "get_secret_value",
        "render_as_string",
    }
)
CONSTANT_PACKAGES = frozenset({"json", "orjson", "sqlalchemy"})


@dataclass(slots=True)
class Inputs:
    """What an expression draws on: names a test may patch, and the string constants in it."""

    words: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)


def is_constant(
    program: Program, facts: PythonFacts, value: Value, scope: str, inputs: Inputs, depth: int = 0
) -> bool:
    """Whether ``value``, evaluated in function ``scope``, cannot change while the process lives.

    Literals, variables that a module assigns once, attributes of such objects, environment
    variables, cached settings loaders and pure functions of these are constant; parameters are not.
    """
    if depth > DEPTH:
        return False

    def parts_are_constant() -> bool:
        return all(
            not each.star and is_constant(program, facts, each.value, scope, inputs, depth + 1)
            for each in value.arguments
        )

    match value.kind:
        case "constant":
            if isinstance(value.constant, str):
                inputs.texts.append(value.constant)
            return True
        case "fstring" | "binary" | "collection" | "union" | "attribute":
            if value.kind == "attribute":
                inputs.words.add(value.text[1:])
            return parts_are_constant()
        case "subscript":
            _note_strings(value, inputs, words=True)
            return value.name == "os.environ" and parts_are_constant()
        case "name":
            return _is_constant_name(program, facts, value, scope, inputs, depth)
        case "call":
            return _is_constant_call(program, facts, value, scope, inputs, depth)
        case _:
            return False


def _is_constant_name(
    program: Program, facts: PythonFacts, value: Value, scope: str, inputs: Inputs, depth: int
) -> bool:
    name = value.name
    if name is None:
        return False
    if scope and name.startswith(f":{scope}."):
        root, _, attribute = name.removeprefix(f":{scope}.").partition(".")
        inputs.words.add(attribute)
        local = facts.assigned(root, scope)
        return local is not None and is_constant(program, facts, local, scope, inputs, depth + 1)
    inputs.words.update(value.text.split(".")[-2:])
    found = program.definition(facts.path, name)
    if found is None:
        return name.partition(".")[0] in CONSTANT_PACKAGES
    if not found.name:
        return False
    home = program.facts(found.path)
    if home is None:
        return False
    root, _, attribute = found.name.partition(".")
    assigned = home.assigned(root)
    if assigned is None or home.bindings.get(root) != f":{root}":
        # a class of constants, or something bound more than once
        return bool(attribute) and any(each.path == root for each in home.classes)
    _note_strings(assigned, inputs)
    return True


def _note_strings(value: Value, inputs: Inputs, words: bool = False) -> None:
    for text in strings(value):
        inputs.texts.append(text)
        if words or text.isupper():
            inputs.words.add(text)


def strings(value: Value) -> Iterator[str]:
    """Yield every string constant within ``value``."""
    if isinstance(value.constant, str):
        yield value.constant
    for each in value.arguments:
        yield from strings(each.value)


def _is_constant_call(
    program: Program, facts: PythonFacts, value: Value, scope: str, inputs: Inputs, depth: int
) -> bool:
    arguments_are_constant = all(
        not each.star and is_constant(program, facts, each.value, scope, inputs, depth + 1)
        for each in value.arguments
    )
    if not arguments_are_constant:
        return False
    if value.name in ENVIRONMENT:
        _note_strings(value, inputs, words=True)
        return True
    if value.name in PURE or (value.text.startswith(".") and value.text[1:] in PURE_METHODS):
        return True
    receiver, dot, method = value.text.rpartition(".")
    if dot and receiver and method in PURE_METHODS:
        owner = None if value.name is None else value.name.rpartition(".")[0]
        part = type(value)("name", receiver, owner)
        return is_constant(program, facts, part, scope, inputs, depth + 1)
    return not value.arguments and _gives_settings(program, facts, value, inputs)


def _gives_settings(program: Program, facts: PythonFacts, value: Value, inputs: Inputs) -> bool:
    """Whether ``value`` calls a cached loader or makes pydantic settings, without arguments."""
    found = program.definition(facts.path, value.name)
    home = program.facts(found.path) if found is not None else None
    if found is None or home is None:
        return False
    inputs.words.add(found.name)
    function = home.function(found.name)
    if function is not None:
        return any(each.text.rpartition(".")[2] in CACHES for each in function.decorators)
    return any(
        each.path == found.name
        and any(base.text.rpartition(".")[2] == "BaseSettings" for base in each.bases)
        for each in home.classes
    )
