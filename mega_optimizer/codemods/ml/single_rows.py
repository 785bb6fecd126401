"""Where a service predicts during requests with what it holds, and how many rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.origins import origins
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_per_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.ml.origins import Origin
    from mega_optimizer.repository.python import Call, PythonFacts, Value

LOADS = ("joblib.load", "pickle.load", "cloudpickle.load")
_METHODS = ("predict", "predict_proba")
_PREDICTS = rb"\.predict(?:_proba)?\("
_ARRAYS = ("numpy.array", "numpy.asarray", "pandas.DataFrame")


def predictions(
    context: Context, paths: tuple[str, ...]
) -> Iterator[tuple[PythonFacts, Call, tuple[Origin, ...]]]:
    """Yield the predictions in the modules ``paths``, each with what its model may be."""
    program = context.program
    for path in program.containing(_PREDICTS, paths, b".predict"):
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            receiver, _, method = call.text.rpartition(".")
            if facts is not None and method in _METHODS and receiver and call.positional:
                yield facts, call, origins(program, facts, receiver, call.scope)


def is_per_request(context: Context, facts: PythonFacts, call: Call) -> bool:
    """Whether a request makes ``call``."""
    return runs_per_request(context.program, Definition(facts.path, call.scope))


def is_one_row(facts: PythonFacts, call: Call) -> bool:
    """Whether what is passed is a list of one row, an array or table of one, or reshaped to one."""
    return _holds_one(facts, call.positional[0], call.scope)


def _holds_one(facts: PythonFacts, value: Value, scope: str) -> bool:
    if value.kind == "name":
        assigned = facts.assigned(value.text, scope)
        return (
            assigned is not None and assigned.kind != "name" and _holds_one(facts, assigned, scope)
        )
    first = value.arguments[0].value if value.arguments else None
    if value.kind == "collection":
        return len(value.arguments) == 1 and not value.arguments[0].star
    if value.kind != "call" or first is None:
        return False
    if value.text.endswith(".reshape"):
        rows = [each.value.constant for each in value.arguments if each.value.kind == "constant"]
        return rows[:1] == [1]
    if value.text.endswith(".transform"):  # one row for each row
        return _holds_one(facts, first, scope)
    if value.name in _ARRAYS:
        return first.kind == "collection" and _holds_one(facts, first, scope)
    return False
