"""Compare the answers to one request: numbers by their difference, the rest for equality."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

SHOWN = 10
_LONGEST_PATH = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the HTTP status (None: nothing), and the body or a digest of a large one."""

    status: int | None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers, the earlier one first.

    ``numbers`` counts the numbers of both; the largest differences are over those, relative to the
    larger of two. ``others`` are the places (``$.a[0]``) where anything else differs, ``unsteady``
    those that differ from call to call and were not compared.
    """

    numbers: int = 0
    absolute: float = 0.0
    relative: float = 0.0
    others: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Difference:
    place: str
    absolute: float | None = None  # None: no numbers
    relative: float = 0.0


def compare(before: Answer, after: Answer, again: Answer) -> Comparison:
    """Compare the answers of a service before and after a rewrite.

    ``again`` is another answer of the service before: what differs between those two is unsteady.
    """
    unsteady = frozenset(each.place for each in _answer_differences(before, again))
    numbers, found = 0, []
    for each in _compared(before, after):
        if _is_within(each.place, unsteady):
            continue
        numbers += each.absolute is not None
        if each.absolute != 0:
            found.append(each)
    measured = [each for each in found if each.absolute is not None]
    return Comparison(
        numbers,
        max((each.absolute or 0.0 for each in measured), default=0.0),
        max((each.relative for each in measured), default=0.0),
        tuple(each.place for each in found if each.absolute is None)[:SHOWN],
        tuple(sorted(unsteady))[:SHOWN],
    )


def _answer_differences(one: Answer, other: Answer) -> Iterator[_Difference]:
    return (each for each in _compared(one, other) if each.absolute != 0)


def _compared(one: Answer, other: Answer) -> Iterator[_Difference]:
    """Yield every pair of numbers, and every place where something else differs."""
    if one.status != other.status:
        yield _Difference("status")
        return
    if one.body == other.body:
        first = second = _parsed(one.body)
    else:
        first, second = _parsed(one.body), _parsed(other.body)
    if first is _NO_JSON or second is _NO_JSON:
        if one.body != other.body:
            yield _Difference("body")
        return
    try:
        yield from list(_values(first, second, "$"))
    except RecursionError:
        if one.body != other.body:
            yield _Difference("body")


_NO_JSON = object()


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _NO_JSON


def _values(one: object, other: object, place: str) -> Iterator[_Difference]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys((*one, *other)):
            inner = f"{place}.{key}"[:_LONGEST_PATH]
            if key in one and key in other:
                yield from _values(one[key], other[key], inner)
            else:
                yield _Difference(inner)
    elif isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            yield _Difference(place)
            return
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _values(left, right, f"{place}[{at}]"[:_LONGEST_PATH])
    elif _is_number(one) and _is_number(other):
        yield _numbers(one, other, place)  # type: ignore[arg-type]
    elif one != other or type(one) is not type(other):
        yield _Difference(place)


def _numbers(one: float, other: float, place: str) -> _Difference:
    if one == other or (one != one and other != other):  # or both are NaN
        return _Difference(place, 0.0)
    try:
        absolute = float(abs(one - other))
        relative = abs(one - other) / max(abs(one), abs(other))
    except OverflowError:
        return _Difference(place)
    if not math.isfinite(absolute):
        return _Difference(place)  # infinity or no number on one side only
    return _Difference(place, absolute, relative)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_within(place: str, others: Collection[str]) -> bool:
    """Whether ``place`` is one of ``others``, or a part of one."""
    return any(
        place == each or place.startswith((f"{each}.", f"{each}[")) for each in others
    ) or bool({"status", "body", "$"} & set(others))
