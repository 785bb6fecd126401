"""What is known of a value that becomes JSON: the kinds of its leaves, keys and containers.

A shape may be several things at once (``str | None``, a list or an object): what a value may be on
any way through the program is joined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mega_optimizer.codemods.program import Definition

INTEGERS = frozenset({"int", "int64"})
FLOATS = frozenset({"float", "finite"})
NUMBERS = INTEGERS | FLOATS
DEPTH = 12  # containers in containers


@dataclass(frozen=True, slots=True)
class Shape:
    """``leaves`` are of ``str bool none int int64 float finite``.

    ``item`` is what a list holds and ``value`` what an object with string keys holds; ``many``
    says that their number is not written in the program. ``instance`` is the class of an object
    that is no JSON by itself. ``parsed`` is what a JSON parser gave: anything that is JSON.
    ``unknown`` names what could not be seen.
    """

    leaves: frozenset[str] = frozenset()
    item: Shape | None = None
    value: Shape | None = None
    many: bool = False
    instance: Definition | None = None
    unknown: str = ""
    parsed: bool = False


NOTHING = Shape()
STR = Shape(frozenset({"str"}))
BOOL = Shape(frozenset({"bool"}))
NONE = Shape(frozenset({"none"}))
INT = Shape(frozenset({"int"}))
INT64 = Shape(frozenset({"int64"}))
FLOAT = Shape(frozenset({"float"}))
FINITE = Shape(frozenset({"finite"}))
PARSED = Shape(frozenset({"str", "bool", "none", "int", "float"}), many=True, parsed=True)


def unknown(text: str) -> Shape:
    """Return the shape of what cannot be seen."""
    return Shape(unknown=text)


def sequence(item: Shape, *, many: bool) -> Shape:
    """Return the shape of a list."""
    return Shape(item=item, many=many)


def mapping(value: Shape, *, many: bool) -> Shape:
    """Return the shape of an object with string keys."""
    return Shape(value=value, many=many)


def join(*shapes: Shape, depth: int = DEPTH) -> Shape:
    """Return the shape of what may be any of ``shapes``."""
    known = list(dict.fromkeys(each for each in shapes if each != NOTHING))
    if not known:
        return NOTHING
    if len(known) == 1:
        return known[0]
    if depth == 0:
        return unknown("nested too deeply")
    items = [each.item for each in known if each.item is not None]
    values = [each.value for each in known if each.value is not None]
    instances = {each.instance for each in known if each.instance is not None}
    missing = next((each.unknown for each in known if each.unknown), "")
    return Shape(
        frozenset().union(*(each.leaves for each in known)),
        join(*items, depth=depth - 1) if items else None,
        join(*values, depth=depth - 1) if values else None,
        any(each.many for each in known),
        next(iter(instances)) if len(instances) == 1 else None,
        missing or ("one of several classes" if len(instances) > 1 else ""),
        any(each.parsed for each in known),
    )


def first_unknown(shape: Shape) -> str:
    """Return what in a shape is not proven to be JSON, ``""`` where all of it is."""
    if shape.unknown:
        return shape.unknown
    if shape.instance is not None:
        return f"an object of {shape.instance.name}"
    parts = (each for each in (shape.item, shape.value) if each is not None)
    return next((found for each in parts if (found := first_unknown(each))), "")


def all_leaves(shape: Shape) -> frozenset[str]:
    """Return the kinds of all leaves, however deep."""
    parts = [each for each in (shape.item, shape.value) if each is not None]
    return shape.leaves.union(*(all_leaves(each) for each in parts))


def holds_many(shape: Shape) -> bool:
    """Whether a list or an object of the shape holds as much as the data make it."""
    parts = (each for each in (shape.item, shape.value) if each is not None)
    return shape.many or any(holds_many(each) for each in parts)


def holds_many_containers(shape: Shape) -> bool:
    """Whether lists or objects of unknown number are held by a list or an object."""
    parts = [each for each in (shape.item, shape.value) if each is not None]
    if shape.many and any(each.item or each.value for each in parts):
        return True
    return any(holds_many_containers(each) for each in parts)


def only(shape: Shape, kinds: Iterable[str]) -> bool:
    """Whether a shape is nothing but a leaf of ``kinds``."""
    bare = shape.item is None and shape.value is None and shape.instance is None
    return (
        bare
        and not shape.parsed
        and not shape.unknown
        and bool(shape.leaves)
        and shape.leaves <= set(kinds)
    )


def without_none(shape: Shape) -> Shape:
    """Return what is left of a shape where the value is not None."""
    return replace(shape, leaves=shape.leaves - {"none"})


def held(shape: Shape) -> Shape:
    """Return what a list or an object holds: what an index or a key gives."""
    if shape.unknown:
        return shape
    parts = [each for each in (shape.item, shape.value) if each is not None]
    parts += [PARSED] if shape.parsed else []
    return join(*parts) if parts else unknown("what it holds")


def iterated(shape: Shape) -> Shape:
    """Return what a loop over a value gives: the items of a list, the keys of an object."""
    if shape.unknown:
        return shape
    parts = [shape.item] if shape.item is not None else []
    parts += [STR] if shape.value is not None or "str" in shape.leaves else []
    parts += [PARSED] if shape.parsed else []
    return join(*parts) if parts else unknown("what a loop gives")


def valued(shape: Shape) -> Shape | None:
    """Return what an object of the shape holds, None where it may be no object."""
    if shape.unknown:
        return None
    return PARSED if shape.parsed else shape.value


def has_parsed(shape: Shape) -> bool:
    """Whether a part of the shape is whatever a JSON parser gave."""
    parts = (each for each in (shape.item, shape.value) if each is not None)
    return shape.parsed or any(has_parsed(each) for each in parts)
