"""What a function of a service calls: forwards, through helpers, methods and injected objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.program import Definition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, Function, PythonFacts, Value

LIMIT = 40  # functions followed from one
BASES = 4  # how far a method is looked for in base classes


def calls_of(program: Program, caller: Definition) -> Iterator[Call]:
    """Yield the calls in the body of a function, those of its nested functions included."""
    for call in program.calls(caller.path, caller.name.partition(".")[0]):
        if call.scope == caller.name or call.scope.startswith(f"{caller.name}."):
            yield call


def reached(program: Program, start: Definition) -> list[Definition]:
    """Return ``start`` and the functions of the service that run when it does, nearest first.

    What is called through variables of unknown type is not seen.
    """
    found = [start]
    for caller in found:
        if len(found) > LIMIT:
            break
        for call in calls_of(program, caller):
            callee = callee_of(program, caller, call)
            if callee is not None and callee not in found:
                found.append(callee)
    return found


def function_of(program: Program, found: Definition) -> Function | None:
    """Return the facts about a function of the service."""
    facts = program.facts(found.path)
    return facts.function(found.name) if facts is not None else None


def callee_of(program: Program, caller: Definition, call: Call) -> Definition | None:
    """Return the function of the service that ``call``, in the body of ``caller``, runs.

    Receivers are known where they are ``self``, a parameter annotated with a class, a variable
    that is assigned the instance of a class once, or such a variable of a module.
    """
    facts = program.facts(caller.path)
    if facts is None:
        return None
    receiver, _, method = call.text.rpartition(".")
    if receiver in ("self", "cls") and "." in caller.name:
        return _method(program, Definition(caller.path, call.scope.rpartition(".")[0]), method)
    found = program.definition(caller.path, call.name)
    if found is not None:
        return _runs(program, found)
    owner = _type_of(program, facts, receiver, call.scope)
    return _method(program, owner, method) if owner is not None else None


def _runs(program: Program, found: Definition) -> Definition | None:
    """Return what runs when the definition is called: a function, or a constructor."""
    if function_of(program, found) is not None:
        return found
    if _is_class(program, found):
        return _method(program, found, "__init__")
    owner, _, method = found.name.rpartition(".")
    home = program.facts(found.path)
    if not owner or home is None:
        return None
    if _is_class(program, Definition(found.path, owner)):
        return _method(program, Definition(found.path, owner), method)
    value = home.assigned(owner.rpartition(".")[2], owner.rpartition(".")[0])
    made = _class_of(program, home, value)
    return _method(program, made, method) if made is not None else None


def _type_of(program: Program, facts: PythonFacts, receiver: str, scope: str) -> Definition | None:
    """Return the class of the object that the variable ``receiver`` of a function holds."""
    function = facts.function(scope)
    for each in function.parameters if function is not None else ():
        if each.name != receiver or each.annotation is None:
            continue
        annotation = each.annotation
        if annotation.kind == "subscript" and annotation.text.endswith("Annotated"):
            annotation = annotation.arguments[0].value
        return _as_class(program, program.definition(facts.path, annotation.name))
    return _class_of(program, facts, facts.assigned(receiver, scope))


def _class_of(program: Program, facts: PythonFacts, value: Value | None) -> Definition | None:
    """Return the class whose instance ``value`` makes, or a function returns by its annotation."""
    if value is None or value.kind != "call":
        return None
    found = program.definition(facts.path, value.name)
    maker = function_of(program, found) if found is not None else None
    if found is not None and maker is not None:
        returns = maker.annotation
        return _as_class(program, program.definition(found.path, returns.name if returns else None))
    return _as_class(program, found)


def _as_class(program: Program, found: Definition | None) -> Definition | None:
    return found if found is not None and _is_class(program, found) else None


def _is_class(program: Program, found: Definition) -> bool:
    facts = program.facts(found.path)
    return facts is not None and any(each.path == found.name for each in facts.classes)


def _method(program: Program, owner: Definition, name: str) -> Definition | None:
    """Return the method of a class, or of the first base that has it."""
    for _ in range(BASES):
        method = Definition(owner.path, f"{owner.name}.{name}")
        if function_of(program, method) is not None:
            return method
        facts = program.facts(owner.path)
        bases = next((c.bases for c in facts.classes if c.path == owner.name), ()) if facts else ()
        parent = program.definition(owner.path, bases[0].name) if bases else None
        if parent is None:
            return None
        owner = parent
    return None
