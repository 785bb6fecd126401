"""What class a loader of settings makes, and whether two instances of it could ever differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Definition, Program
    from mega_optimizer.repository.place import Place
    from mega_optimizer.repository.python import Call, Class, PythonFacts

BASE_SETTINGS = frozenset(
    {"pydantic_settings.BaseSettings", "pydantic.BaseSettings", "pydantic.v1.BaseSettings"}
)
BASES = 4  # how many classes of its own a settings class may stand on
# Hooks with which a class reads something that is not the environment at start-up.
OWN_SOURCES = frozenset(
    {
        "settings_customise_sources", "customise_sources", "__init__", "__new__",
        "model_post_init", "__getattr__", "__getattribute__",
    }
)  # fmt: skip
FRESH = re.compile(
    r"(?:^|\.)(?:now|utcnow|today|time|monotonic|perf_counter|uuid1|uuid4|token_\w+|randint|"
    r"random|choice|randbytes|urandom|open|read_text|read_bytes|urlopen|get_secret_value_from|"
    r"getpid|gethostname)$"
)
EMPTY = frozenset({"list", "dict", "set", "tuple"})


@dataclass(frozen=True, slots=True)
class SettingsClass:
    """The classes behind a settings object, the most derived first, each with its module."""

    classes: tuple[Definition, ...]
    fields: frozenset[str]
    words: frozenset[str]  # fields and string constants: what a variable of the environment may be

    @property
    def name(self) -> str:
        """The name of the class that the loader makes."""
        return self.classes[0].name


def settings_class(program: Program, facts: PythonFacts, call: Call) -> SettingsClass | None:
    """Return the class that ``call`` makes where it is one of pydantic's settings, else None.

    Also a frozen dataclass or a NamedTuple of this service, which is filled by its loader.
    """
    found = program.definition(facts.path, call.name)
    chain: list[Definition] = []
    while found is not None and len(chain) < BASES:
        home = program.facts(found.path)
        if home is None:
            return None
        defined = [each for each in home.classes if each.path == found.name]
        if len(defined) != 1:
            return None
        chain.append(found)
        names = [base.name for base in defined[0].bases]
        if any(name in BASE_SETTINGS for name in names) or _is_immutable(defined[0], names):
            return _described(program, tuple(chain))
        found = next(
            (own for name in names if (own := program.definition(found.path, name)) is not None),
            None,
        )
    return None


def _is_immutable(own: Class, bases: list[str | None]) -> bool:
    if "typing.NamedTuple" in bases:
        return True
    return any(
        each.name == "dataclasses.dataclass"
        and (frozen := each.argument("frozen")) is not None
        and frozen.constant is True
        for each in own.decorators
    )


def _described(program: Program, classes: tuple[Definition, ...]) -> SettingsClass:
    import ast

    fields: set[str] = set()
    words: set[str] = set()
    for each in classes:
        for node in _bodies(program, each):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                fields.add(node.target.id)
            elif isinstance(node, ast.Assign):
                fields |= {one.id for one in node.targets if isinstance(one, ast.Name)}
            words |= {
                one.value
                for one in ast.walk(node)
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            }
    fields.discard("model_config")
    return SettingsClass(classes, frozenset(fields), frozenset(fields | words))


def _bodies(program: Program, definition: Definition) -> Iterator[ast.stmt]:
    import ast

    content = program.read(definition.path)
    for node in ast.parse(content).body if content is not None else ():
        if isinstance(node, ast.ClassDef) and node.name == definition.name:
            yield from node.body


def source_objection(program: Program, made: SettingsClass, place: Place) -> Skip | None:
    """Return why two instances made in one process may differ, else None."""
    for each in made.classes:
        home = program.facts(each.path)
        if home is None:
            return Skip(place, "own-sources", f"{each.path} cannot be read")
        for function in home.functions:
            owner, _, name = function.path.rpartition(".")
            if owner == each.name and name in OWN_SOURCES:
                reason = f"{each.name} defines {name}, which may read what changes"
                return Skip(place, "own-sources", reason)
        for call in home.calls:
            if call.scope != each.name and not call.scope.startswith(f"{each.name}."):
                continue
            factory = call.argument("default_factory")
            if factory is not None and factory.text not in EMPTY:
                reason = f"a default of {each.name} is made anew for each instance"
                return Skip(place, "fresh-values", reason)
            if call.scope != each.name and FRESH.search(call.text):
                reason = f"{call.scope} calls {call.text}, which may answer otherwise next time"
                return Skip(place, "fresh-values", reason)
    return None
