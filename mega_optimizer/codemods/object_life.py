"""How long the objects of a class live: as long as the process, or as long as a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import CACHES
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import DEPENDENCIES, runs_per_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, PythonFacts


def lives_long(program: Program, path: str, owner: str) -> bool:
    """Whether all objects of a class are made at import, or in functions that keep them."""
    made = list(_making(program, path, owner))
    return bool(made) and all(not call.scope or _keeps(facts, call) for facts, call in made)


def made_per_request(program: Program, path: str, owner: str) -> bool:
    """Whether a request makes an object of a class and drops it at its end."""
    for facts, call in _making(program, path, owner):
        kept = not call.scope or _keeps(facts, call) or _is_stored(facts, call)
        if not kept and runs_per_request(program, Definition(facts.path, call.scope)):
            return True
    return _is_dependency(program, path, owner)


def _making(program: Program, path: str, owner: str) -> Iterator[tuple[PythonFacts, Call]]:
    word = owner.rpartition(".")[2].encode()
    for other in program.containing(rb"\b" + word + rb"\(", program.product, word):
        facts = program.facts(other)
        for call in facts.calls if facts else ():
            if facts and program.definition(other, call.name) == Definition(path, owner):
                yield facts, call


def _keeps(facts: PythonFacts, call: Call) -> bool:
    function = facts.function(call.scope)
    return function is not None and (
        bool(function.global_names)
        or any(each.text.rpartition(".")[2] in CACHES for each in function.decorators)
    )


def _is_stored(facts: PythonFacts, call: Call) -> bool:
    """Whether what the call makes, or a variable that holds it, is written to an attribute."""
    holders = {each.target for each in facts.assignments if each.value == call.value}
    stored = [each.value for each in facts.stores if each.scope == call.scope]
    return any("." in each for each in holders) or any(
        each is not None and (each == call.value or each.text in holders) for each in stored
    )


def _is_dependency(program: Program, path: str, owner: str) -> bool:
    word = owner.rpartition(".")[2].encode()
    for other in program.containing(rb"\b" + word + rb"\b", program.product, word):
        facts = program.facts(other)
        for call in facts.calls if facts else ():
            if call.text.rpartition(".")[2] in DEPENDENCIES and any(
                program.definition(other, each.value.name) == Definition(path, owner)
                for each in call.arguments
            ):
                return True
    return False
