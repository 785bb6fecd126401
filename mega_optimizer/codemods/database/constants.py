"""Whether an expression means the same for the whole life of a process, and what it depends on."""

from __future__ import annotations

import re
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
# What a property or method of a settings class may call, self aside.
COMPOSING = PURE_METHODS | frozenset(
    {
        "build", "create", "quote", "quote_plus", "join", "startswith", "endswith", "removeprefix",
        "str", "int", "bool", "isinstance", "cast", "PostgresDsn", "MultiHostUrl", "AnyUrl", "Url",
        "URL", "make_url", "SecretStr", "ValueError", "RuntimeError", "getenv",
    }
)  # fmt: skip
READS = re.compile(r"(?i)load|parse|read|config|settings|dotenv|^dict$")
CONSTRUCTORS = frozenset({"__init__", "__post_init__", "model_post_init", "__new__"})
CONSTANT_PACKAGES = frozenset(
    {"json", "orjson", "sqlalchemy", "psycopg", "psycopg2", "httpx", "aiohttp", "ssl"}
)


@dataclass(slots=True)
class Inputs:
    """What an expression draws on: names a test may patch, and the string constants in it."""

    words: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    pure: frozenset[str] = frozenset()  # further functions that are pure


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
                if not _is_settled(program, facts, value.arguments[0].value, value.text[1:]):
                    return False
            return parts_are_constant()
        case "subscript":
            _note_strings(value, inputs, words=True)
            known = value.name == "os.environ" or _is_configuration(program, facts, value)
            return known and parts_are_constant()
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
    return not attribute or _is_settled(program, home, assigned, attribute)


def _is_settled(program: Program, facts: PythonFacts, made: Value, attribute: str) -> bool:
    """Whether ``attribute`` of the object that ``made`` makes keeps its value.

    That is believed of what the service's own code does not define. Its own classes must not
    write the attribute after they were made, nor fetch it from somewhere (a token, a vault).
    """
    found = program.definition(facts.path, made.name) if made.kind == "call" else None
    home = program.facts(found.path) if found is not None else None
    if found is None or home is None:
        return True
    maker = home.function(found.name)
    if maker is not None:  # a loader: what it returns is what counts
        return all(
            each is None or each.kind != "call" or _is_settled(program, home, each, attribute)
            for each in maker.returns
            if each is None or each.name != made.name
        )
    name = attribute.partition(".")[0]
    return not any(
        each.text == f"self.{name}"
        and each.scope.startswith(f"{found.name}.")
        and each.scope.rpartition(".")[2] not in CONSTRUCTORS
        for each in home.stores
    ) and _only_composes(home, found.name, name, set())


def _only_composes(facts: PythonFacts, owner: str, method: str, seen: set[str]) -> bool:
    """Whether a property or method of a class calls nothing but what puts its result together."""
    seen.add(method)
    for call in facts.calls:
        if call.scope != f"{owner}.{method}" or call.name in ENVIRONMENT:
            continue
        receiver, _, last = call.text.rpartition(".")
        own = receiver in ("self", "cls") and facts.function(f"{owner}.{last}") is not None
        if own and (last in seen or _only_composes(facts, owner, last, seen)):
            continue
        if last not in COMPOSING:
            return False
    return True


def _is_configuration(program: Program, facts: PythonFacts, value: Value) -> bool:
    """Whether ``value`` is an item of a mapping that a module holds or reads once, from a file."""
    inner = value.arguments[0].value if not value.text and value.arguments else None
    if inner is not None and inner.kind == "subscript":
        return _is_configuration(program, facts, inner)
    found = program.definition(facts.path, value.name)
    home = program.facts(found.path) if found is not None else None
    if found is None or home is None or home.bindings.get(found.name) != f":{found.name}":
        return False
    made = home.assigned(found.name)
    if made is None or not (made.kind == "collection" or READS.search(made.text)):
        return False
    if any(each.path == made.text for each in home.classes):
        return False
    filled = re.compile(rf"(?:.+\.)?{found.name}\.(?:update|clear|pop|setdefault|reload|set)")
    return not any(
        call.scope and filled.fullmatch(call.text)
        for path in program.product
        if (other := program.facts(path)) is not None
        for call in other.calls
    )


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
        for position, each in enumerate(value.arguments):  # the name, then the default
            _note_strings(each.value, inputs, words=position == 0)
        return True
    if (
        value.name in PURE
        or value.name in inputs.pure
        or (value.text.startswith(".") and value.text[1:] in PURE_METHODS)
    ):
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
