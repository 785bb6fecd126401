"""Which parameters a dependency of FastAPI is handed to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import DEPENDENCIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts, Value


def dependents(program: Program, target: Definition) -> Iterator[tuple[PythonFacts, str, str]]:
    """Yield (module, function, parameter) for what ``target`` is injected into.

    That is a default ``Depends(target)``, an annotation ``Annotated[..., Depends(target)]``, or a
    variable that stands for such an annotation.
    """
    aliases = set(_aliases(program, target))
    for found in (target, *aliases):
        word = found.name.rpartition(".")[2].encode()
        pattern = rb"\b" + re.escape(word) + rb"\b"
        for path in program.containing(pattern, program.product, word):
            facts = program.facts(path)
            if facts is None:
                continue
            for function in facts.functions:
                for each in function.parameters:
                    parts = [part for part in (each.default, each.annotation) if part is not None]
                    if any(
                        _injects(program, facts, part, target)
                        or program.definition(path, part.name) in aliases
                        for part in parts
                    ):
                        yield facts, function.path, each.name


def _aliases(program: Program, target: Definition) -> Iterator[Definition]:
    word = target.name.rpartition(".")[2].encode()
    for path in program.containing(rb"\bAnnotated\b", program.product, word):
        facts = program.facts(path)
        for each in facts.assignments if facts is not None else ():
            if (
                facts is not None
                and not each.scope
                and _injects(program, facts, each.value, target)
            ):
                yield Definition(path, each.target)


def _injects(program: Program, facts: PythonFacts, value: Value, target: Definition) -> bool:
    if value.kind == "subscript":
        return any(_injects(program, facts, each.value, target) for each in value.arguments)
    if value.kind != "call" or value.text.rpartition(".")[2] not in DEPENDENCIES:
        return False
    return any(
        program.definition(facts.path, each.value.name) == target for each in value.arguments
    )
