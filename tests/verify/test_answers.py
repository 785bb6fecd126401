"""Two answers are compared number by number, and for equality where there are none."""

from __future__ import annotations

import json

import pytest

from mega_optimizer.verify.answers import Answer, Comparison, compare


def answer(value: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode())


def compared(before: object, after: object) -> Comparison:
    return compare(answer(before), answer(after), answer(before))


def test_the_largest_differences_are_told_of_all_numbers() -> None:
    found = compared({"a": [1.0, 200], "b": 0.5}, {"a": [1.25, 201], "b": 0.5})
    assert (found.numbers, found.absolute, found.relative) == (3, 1, 0.2)
    assert found.others == ()


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ({"a": "x"}, {"a": "y"}, "$.a"),
        ({"a": [1, 2]}, {"a": [1]}, "$.a"),
        ({"a": 1}, {}, "$.a"),
        ({}, {"a": 1}, "$.a"),
        ({"a": [True]}, {"a": [1]}, "$.a[0]"),
        ({"a": 1}, {"a": "1"}, "$.a"),
        ({"a": None}, {"a": 0}, "$.a"),
        ({"a": float("nan")}, {"a": 0.5}, "$.a"),
        ({"a": float("inf")}, {"a": -float("inf")}, "$.a"),
        ([1], {"a": 1}, "$"),
        ({"a": 10**400}, {"a": 0.5}, "$.a"),
    ],
)
def test_what_is_no_number_is_equal_or_not(before: object, after: object, place: str) -> None:
    found = compared(before, after)
    assert found.others == (place,)
    assert found.absolute == 0


@pytest.mark.parametrize("value", [float("nan"), 0, 1.5, True, None, "x", [], {}, [{"a": [0.1]}]])
def test_equal_answers_do_not_differ(value: object) -> None:
    found = compared(value, value)
    assert (found.absolute, found.relative, found.others, found.unsteady) == (0, 0, (), ())


def test_what_differs_from_call_to_call_is_not_compared() -> None:
    before = {"id": "a", "took": 0.1, "score": 0.5, "trace": {"x": [1, 2]}}
    again = {"id": "b", "took": 0.3, "score": 0.5, "trace": {"x": [1, 3]}}
    after = {"id": "c", "took": 9.0, "score": 0.75, "trace": {"x": [1, 4]}}
    found = compare(answer(before), answer(after), answer(again))
    assert found.unsteady == ("$.id", "$.took", "$.trace.x[1]")
    assert (found.numbers, found.absolute, found.others) == (2, 0.25, ())


def test_other_statuses_and_other_bodies_differ() -> None:
    assert compare(answer(1), answer(1, 500), answer(1)).others == ("status",)
    text = Answer(200, b"\x89PNG 1")
    assert compare(text, Answer(200, b"\x89PNG 2"), text).others == ("body",)
    assert compare(text, text, text) == Comparison()
    assert compare(text, Answer(200, b"\x89PNG 2"), Answer(200, b"\x89PNG 3")).others == ()


def test_answers_that_are_nested_too_deep_are_equal_or_not() -> None:
    one, other = (b"[" * 5000 + digit + b"]" * 5000 for digit in (b"1", b"2"))
    assert compare(Answer(200, one), Answer(200, other), Answer(200, one)).others == ("body",)
    assert compare(Answer(200, one), Answer(200, one), Answer(200, one)).others == ()
