"""Load a model once for the process instead of once for each request.

Reading and unpickling a model takes longer than predicting with it. What is loaded may be shared
where predicting changes nothing in it; see ``loaders``.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import CACHES, Inputs, is_constant
from mega_optimizer.codemods.database.hazards import varies
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.ml.loaders import LITERALS, is_loader, is_slow_to_load
from mega_optimizer.codemods.ml.slow_models import share_slow_models
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_per_request, users
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Argument, Call, Function, PythonFacts

_LOADS = (
    rb"\b(?:load|load_model|from_pretrained|from_single_file|pipeline)\("
    rb"|\b(?:InferenceSession|SentenceTransformer|Booster)\("
)
_CHANGES_MODEL = re.compile(
    r"\.(?:fit|partial_fit|fit_transform|set_params|load_state_dict|add_pipe|train|update|to|half"
    r"|quantize|add_tokens|load_adapter|set_adapter|compile)$"
)
_WRITES_MODEL = re.compile(
    r"^(?:joblib|pickle|cloudpickle|dill|skops\.io)\.dump$|^torch\.save$"
    r"|\.(?:save_model|save_pretrained|hf_hub_download|snapshot_download|download_file)$"
)
TESTS_REPLACE = frozenset({"load", "load_model", "from_pretrained", "joblib", "pickle"})


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each module that loads models per request, skips where it may not."""
    program = context.program
    for path in program.containing(_LOADS, program.product, *LITERALS):
        facts = context.python(path)
        if isinstance(facts, Problem):
            continue  # a module that cannot be read is reported by the rules of its framework
        qualified: list[Call] = []
        slow: list[Call] = []
        for call in facts.calls:
            if not call.scope or not is_loader(call):
                continue
            if is_slow_to_load(call.name or ""):
                slow.append(call)
                continue
            objection = _objection(program, facts, call)
            if objection is None:
                qualified.append(call)
            else:
                yield objection
        if qualified:
            yield from _rewrite(context, facts, qualified)
        if slow:
            replaced = partial(_replaced, program)
            yield from share_slow_models(context, facts, slow, replaced, TESTS_REPLACE)


def _objection(program: Program, facts: PythonFacts, call: Call) -> Skip | None:
    place = Place(facts.path, call.line, call.column)
    function = facts.function(call.scope)
    if function is None:
        return Skip(place, "shape-not-known", "stands in a class body, or in one of many functions")
    if any(each.text.rpartition(".")[2] in CACHES for each in function.decorators):
        return Skip(place, "cached", "the function is cached already")
    if _is_kept(facts, function, call):
        return Skip(place, "model-kept", "the model is kept beyond the call already")
    inputs = Inputs()
    if call.unpacks or not all(
        _is_constant_argument(program, facts, each, call.scope, inputs) for each in call.arguments
    ):
        return Skip(place, "arguments-not-constant", "what is loaded may differ from call to call")
    here = Definition(facts.path, call.scope)
    if not runs_per_request(program, here):
        reason = f"no route, dependency or task was seen to use {call.scope}"
        return Skip(place, "not-per-request", reason, facts.path)
    return _changed_or_replaced(program, facts, call, here, place) or varies(
        program, inputs, place, None, TESTS_REPLACE
    )


def _is_kept(facts: PythonFacts, function: Function, call: Call) -> bool:
    targets = [
        each.target
        for each in facts.assignments
        if each.scope == call.scope and each.value == call.value
    ]
    if function.global_names or any("." in target for target in targets):
        return True
    return bool(targets) and any(
        each.scope == call.scope and each.value is not None and each.value.text == targets[0]
        for each in facts.stores
    )


def _is_constant_argument(
    program: Program, facts: PythonFacts, argument: Argument, scope: str, inputs: Inputs
) -> bool:
    """Whether an argument is constant, or a file that is opened under a constant name."""
    value = argument.value
    parts: tuple[Argument, ...] = (argument,)
    if value.kind == "call" and value.name == "builtins.open":
        parts = value.arguments
    elif value.kind == "name" and value.name is None:
        opened = [each for each in facts.called("builtins.open") if each.scope == scope]
        parts = opened[0].arguments if len(opened) == 1 else parts
    return all(
        not each.star and is_constant(program, facts, each.value, scope, inputs) for each in parts
    )


def _changed_or_replaced(
    program: Program, facts: PythonFacts, call: Call, here: Definition, place: Place
) -> Skip | None:
    """Return what changes the model after it was loaded, or puts another in its place."""
    around = [here, *(user for user in users(program, here) if user is not None)]
    for each in around:
        home = program.facts(each.path)
        for other in home.calls if home else ():
            if other.scope == each.name and other is not call and _CHANGES_MODEL.search(other.text):
                reason = f"{each.name} calls {other.text}, which may change what was loaded"
                return Skip(place, "model-changed", reason)
    return _replaced(program, place)


def _replaced(program: Program, place: Place) -> Skip | None:
    for path in program.product:
        home = program.facts(path) if _may_write(program, path) else None
        for other in home.calls if home else ():
            if _WRITES_MODEL.search(other.name or other.text) and runs_per_request(
                program, Definition(path, other.scope), unknown=True
            ):
                reason = f"{path} replaces models while the service runs"
                return Skip(place, "model-replaced", reason)
    return None


def _may_write(program: Program, path: str) -> bool:
    pattern = rb"\bdump\b|torch\.save|save_model|save_pretrained|download"
    return next(program.containing(pattern, (path,)), None) is not None


def _rewrite(context: Context, facts: PythonFacts, calls: list[Call]) -> Iterator[Outcome]:
    from mega_optimizer.codemods.shared_object import Kind, sharing

    kind = Kind("model", ("_model", "_load_model", "_cached_model"), lambda call: None)
    yield from sharing(context, facts, calls, kind, "load the model once for the process")
