"""What a variable may hold: what was assigned to it, through functions and imports.

The variables of models are seldom typed; where every value of one is known, its kind is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts, Value

DEPTH = 5  # functions, variables and modules that a value may come through


@dataclass(frozen=True, slots=True)
class Origin:
    """An expression of the module with these facts, evaluated in ``scope``."""

    facts: PythonFacts
    scope: str
    value: Value


def origins(program: Program, facts: PythonFacts, text: str, scope: str) -> tuple[Origin, ...]:
    """Return every expression that the dotted ``text`` may hold in ``scope``, empty if not known.

    ``None`` as a value is left out: who uses it as something else has made sure that it is not.
    The caller sees to it that nothing but plain assignments binds the name.
    """
    found = _of_text(program, facts, text, scope, DEPTH)
    return tuple(found) if found else ()


def _of_text(
    program: Program, facts: PythonFacts, text: str, scope: str, depth: int
) -> list[Origin] | None:
    if depth == 0:
        return None
    root, _, rest = text.partition(".")
    if root in ("self", "cls"):
        return _of_attribute(program, facts, rest, scope, depth)
    around = scope
    while around and not rest:
        function = facts.function(around)
        if function is not None:
            if any(each.name == text for each in function.parameters):
                return None
            if text not in function.global_names:
                values = _assigned(facts, text, around)
                if values:
                    return _expanded(program, values, depth)
        around = around.rpartition(".")[0]
    values = _assigned(facts, text, "")
    values += [
        origin
        for function in facts.functions
        if text in function.global_names
        for origin in _assigned(facts, text, function.path)
    ]
    if values:
        return _expanded(program, values, depth)
    home = program.definition(facts.path, facts.resolve(text))
    other = program.facts(home.path) if home is not None and home.path != facts.path else None
    if home is None or other is None:
        return None
    return _of_text(program, other, home.name, "", depth - 1)


def _assigned(facts: PythonFacts, text: str, scope: str) -> list[Origin]:
    return [
        Origin(facts, scope, each.value)
        for each in facts.assignments
        if each.target == text and each.scope == scope
    ]


def _of_attribute(
    program: Program, facts: PythonFacts, attribute: str, scope: str, depth: int
) -> list[Origin] | None:
    """Return what methods of the class around ``scope`` assign to an attribute of the object."""
    owner = next((each.path for each in facts.classes if scope.startswith(f"{each.path}.")), None)
    if owner is None or not attribute or "." in attribute:
        return None
    values = [
        Origin(facts, each.scope, each.value)
        for each in facts.assignments
        if each.target in (f"self.{attribute}", f"cls.{attribute}")
        and each.scope.startswith(f"{owner}.")
    ]
    values += _assigned(facts, attribute, owner)
    return _expanded(program, values, depth) if values else None


def _expanded(program: Program, values: list[Origin], depth: int) -> list[Origin] | None:
    """Follow variables and calls of the program's own functions; None where one leads nowhere."""
    found: list[Origin] = []
    for origin in values:
        value = origin.value
        if value.kind == "constant" and value.constant is None:
            continue
        if value.text == ".set_params" and value.arguments:  # gives the estimator itself
            origin = replace(origin, value=value.arguments[0].value)
            value = origin.value
        if value.kind in ("name", "attribute"):
            inner = _of_text(program, origin.facts, value.text, origin.scope, depth - 1)
        elif value.kind == "call":
            inner = _of_call(program, origin, depth)
        else:
            inner = [origin]
        if inner is None:
            return None
        found += inner
    return found


def _of_call(program: Program, origin: Origin, depth: int) -> list[Origin] | None:
    home = program.definition(origin.facts.path, origin.value.name)
    facts = program.facts(home.path) if home is not None else None
    if home is None or facts is None or depth == 0:
        return [origin]
    function = facts.function(home.name)
    if function is None or function.is_generator or function.is_async:
        return [origin]
    values = [Origin(facts, home.name, each) for each in function.returns if each is not None]
    return _expanded(program, values, depth - 1) if values else None


def own_classes(program: Program, word: str) -> Iterator[str]:
    """Yield the modules that define a class which has ``word`` among its bases."""
    for path in program.with_word(word):
        facts = program.facts(path)
        for each in facts.classes if facts else ():
            if any(base.text.rpartition(".")[2] == word for base in each.bases):
                yield path
                break
