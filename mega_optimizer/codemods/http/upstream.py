"""Whether a URL leads to the same host in every call: only then is a kept connection of use."""

from __future__ import annotations

import re
from string import Formatter
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import Inputs, is_constant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts, Value

HOST = re.compile(r"https?://[^/%{}]+[/?]")
START = re.compile(r"(?:https?://)?[^/]*")


def is_settled(program: Program, facts: PythonFacts, url: Value, scope: str) -> bool:
    """Whether scheme and host of ``url``, evaluated in function ``scope``, are always the same."""

    def constant(value: Value) -> bool:
        return is_constant(program, facts, value, scope, Inputs())

    if url.kind == "name" and (url.name or "").startswith(f":{scope}."):
        local = facts.assigned(url.text, scope)
        return local is not None and local != url and is_settled(program, facts, local, scope)
    if url.kind == "call" and url.text == ".format":
        return _is_settled_template(url, constant)
    if url.kind == "call" and url.name == "urllib.parse.urljoin" and url.arguments:
        return is_settled(program, facts, url.arguments[0].value, scope)
    if url.kind not in ("fstring", "binary"):
        return constant(url)
    start = ""
    for part in _parts(url):
        if part.kind == "constant":
            start += str(part.constant)
        elif constant(part):
            start += "host" if start else "http://host"
        else:
            return False
        if HOST.match(start):
            return True
    return "%" not in start


def _is_settled_template(url: Value, constant: Callable[[Value], bool]) -> bool:
    template = url.arguments[0].value.constant if url.arguments else None
    if not isinstance(template, str):
        return False
    start = START.match(template)
    given = url.arguments[1:]
    positional = [each.value for each in given if each.keyword is None and not each.star]
    named = {each.keyword: each.value for each in given if each.keyword}
    fields = [
        name for _, name, _, _ in Formatter().parse(start[0] if start else "") if name is not None
    ]
    for number, name in enumerate(fields):
        at = number if not name else int(name) if name.isdigit() else None
        value = named.get(name) if at is None else next(iter(positional[at : at + 1]), None)
        if value is None or not constant(value):
            return False
    return True


def _parts(value: Value) -> Iterator[Value]:
    """Yield what a string is put together of, from left to right."""
    if value.kind not in ("fstring", "binary"):
        yield value
        return
    for each in value.arguments:
        yield from _parts(each.value)
