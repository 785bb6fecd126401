"""Whether a service counts on settings that are made anew for each call."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.cache.settings_class import SettingsClass
    from mega_optimizer.codemods.database.constants import Inputs
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.place import Place
    from mega_optimizer.repository.python import Call, PythonFacts

ENVIRONMENT_WRITERS = frozenset({"setenv", "delenv", "putenv", "unsetenv"})
FILE_READERS = frozenset({"load_dotenv", "set_key", "unset_key", "chdir"})
ENVIRONMENT_METHODS = frozenset({"update", "setdefault", "pop", "clear", "popitem"})
CHANGES = (
    rb"\bsetenv\b|\bdelenv\b|\bputenv\b|\bunsetenv\b|\benviron\b|\bload_dotenv\b|\bset_key\b"
    rb"|\bunset_key\b|\bchdir\b"
)
IN_PLACE = frozenset(
    {
        "append", "extend", "insert", "remove", "pop", "clear", "update", "setdefault", "add",
        "discard", "sort", "reverse",
    }
)  # fmt: skip


def use_objection(
    program: Program, made: SettingsClass, inputs: Inputs, place: Place
) -> Skip | None:
    """Return why the service needs its settings made anew, else None."""
    words = {word.upper() for word in (*made.words, *inputs.words, *inputs.texts) if word}
    everything = (*program.product, *program.tests)
    for path in program.containing(CHANGES, everything):
        facts = program.facts(path)
        if facts is not None and (line := _changes_environment(facts, words)):
            reason = f"{path}:{line} changes the environment that the settings are read from"
            return Skip(place, "environment-changes", reason)
    fields = b"|".join(re.escape(name.encode()) for name in sorted(made.fields))
    if fields:
        pattern = rb"\.(?:%s)\b|setattr\(" % fields
        for path in program.containing(pattern, everything):
            facts = program.facts(path)
            if facts is not None and (line := _writes(facts, made)):
                reason = f"{path}:{line} may write to the settings, which all would then share"
                return Skip(place, "mutated", reason)
    name = made.name.encode()
    for path in program.containing(rb"\b" + re.escape(name) + rb"\b", program.tests, name):
        facts = program.facts(path)
        if facts is not None and any(_patches(call, made.name) for call in facts.calls):
            return Skip(place, "patched", f"{path} puts something else in place of {made.name}")
    return None


def _changes_environment(facts: PythonFacts, words: set[str]) -> int | None:
    """Return the line of a function that changes a variable which may be one of the settings."""
    for call in facts.calls:
        if not call.scope:
            continue
        receiver, _, last = call.text.rpartition(".")
        if last in FILE_READERS:
            return call.line
        if last in ENVIRONMENT_WRITERS and _concerns(_first_text(call), words):
            return call.line
        if receiver.endswith("environ") and last in ENVIRONMENT_METHODS:
            known = _first_text(call) if last in ("setdefault", "pop") else None
            if _concerns(known, words):
                return call.line
        patched = last == "dict" and any("environ" in each for each in _texts(call))
        if patched:
            return call.line
    # a decorator stands outside of the function that it is for
    for function in facts.functions:
        for each in function.decorators:
            if each.text.endswith("patch.dict"):
                return function.line
    for store in facts.stores:
        if store.scope and store.text.endswith("environ"):
            key = store.key if isinstance(store.key, str) else None
            if _concerns(key, words):
                return store.line
    return None


def _first_text(call: Call) -> str | None:
    first = call.positional[0].constant if call.positional else None
    return first if isinstance(first, str) else None


def _texts(call: Call) -> Iterator[str]:
    for each in call.arguments:
        yield each.value.text
        if isinstance(each.value.constant, str):
            yield each.value.constant


def _concerns(variable: str | None, words: set[str]) -> bool:
    """Whether a variable of the environment may feed one of the fields; unknown ones may."""
    return variable is None or any(variable.upper().endswith(word) for word in words)


def _writes(facts: PythonFacts, made: SettingsClass) -> int | None:
    for store in facts.stores:
        owner, _, field = store.text.rpartition(".")
        # Written in a method of another class, ``self`` is not the settings.
        if field in made.fields and owner not in ("", "self", "cls"):
            return store.line
    for call in facts.calls:
        owner, _, method = call.text.rpartition(".")
        holder, _, field = owner.rpartition(".")
        in_place = field in made.fields and holder not in ("", "self", "cls")
        if in_place and method in IN_PLACE:
            return call.line
        if method == "setattr" or call.text == "setattr":
            named = [each for each in _texts(call) if each in made.fields]
            whole = call.text == "setattr" and any("settings" in t.lower() for t in _texts(call))
            if named or whole:
                return call.line
    return None


def _patches(call: Call, name: str) -> bool:
    if call.text.rpartition(".")[2] not in ("patch", "object", "setattr"):
        return False
    return any(each.rpartition(".")[2] == name for each in _texts(call))
