"""The names of what shares a model: what gives it, and the lock of each object."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.ml.shared_text import LOADING, VERBS

if TYPE_CHECKING:
    from mega_optimizer.codemods.ml.holders import Holder
    from mega_optimizer.codemods.ml.loading import Loading
    from mega_optimizer.repository.python import PythonFacts

Found = tuple["Loading", tuple["Holder", ...]]


@dataclass(frozen=True, slots=True)
class Named:
    """The names for one load: what gives it, and the lock of each object (None without)."""

    getter: str
    locks: tuple[str | None, ...]


def names_for(facts: PythonFacts, found: tuple[Found, ...]) -> dict[int, Named] | Skip:
    """Return the names for each load, by its place in ``found``."""
    taken = set(facts.bound_names) | {LOADING}
    if LOADING in facts.bound_names:
        return Skip(found[0][0].place, "name-taken", f"{LOADING} means something else here")
    result: dict[int, Named] = {}
    for number, (loading, holders) in enumerate(found):
        own = all(each.path == loading.path for each in holders)
        getter = loading.scope if loading.is_factory else f"_{loading.variable}"
        inner = f"_{getter}" if loading.is_factory else f"_load_{loading.variable}"
        nouns = nouns_of(loading, holders)
        locks = tuple(
            (f"_{noun}_lock" if own else f"{noun}_lock") if turns else None
            for noun, turns in zip(nouns, loading.taking_turns, strict=True)
        )
        new = [inner, *(each for each in locks if each)]
        new += [] if loading.is_factory else [getter]
        clash = next((each for each in new if each in taken), None)
        if clash is not None:
            return Skip(loading.place, "name-taken", f"{clash} means something else here")
        taken |= set(new)
        result[number] = Named(getter, locks)
    return result


def nouns_of(loading: Loading, holders: tuple[Holder, ...]) -> tuple[str, ...]:
    """Return what the objects of a load are called."""
    if loading.variable is not None:
        return (loading.variable,)
    if len(loading.taking_turns) == 1:
        return (VERBS.sub("", loading.scope).strip("_") or "model",)
    returned = next(
        each.value
        for each in ast.walk(loading.function)
        if isinstance(each, ast.Return) and isinstance(each.value, ast.Tuple)
    )
    return tuple(
        each.id if isinstance(each, ast.Name) else f"part_{number}"
        for number, each in enumerate(returned.elts if isinstance(returned, ast.Tuple) else ())
    )
