"""Fill variables into a word of a Dockerfile, as far as their values are known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^${}]*))?\}|.?)", re.DOTALL)
_QUOTING = re.compile(r"[\"'\\]")


def expand(text: str, values: Mapping[str, str | None]) -> str | None:
    """Return ``text`` without its quotes and with ``values`` filled in; None where that is unknown.

    A value of None, like a missing one, is unknown. Understood are ``$X``, ``${X}``, ``${X:-d}``,
    ``${X-d}``, ``${X:+d}`` and ``${X+d}`` (Dockerfile reference, "Environment replacement").
    """
    unquoted = text
    if _QUOTING.search(text):
        if "$" in text and ("'" in text or "\\" in text):
            return None
        # dockerfile-parse splits quotes right as long as it is not asked to substitute.
        from dockerfile_parse.util import WordSplitter

        unquoted = WordSplitter(text).dequote()
    unknown = False

    def replace(match: re.Match[str]) -> str:
        nonlocal unknown
        name = match[1] or match[2]
        value = values.get(name) if name else None
        modifier, word = match[3], match[4]
        if name and modifier in (":-", "-"):
            return value or word if modifier == ":-" else (word if value is None else value)
        if value is None:
            unknown = True
            return ""
        if modifier:
            return word if value or modifier == "+" else ""
        return value

    expanded = _VARIABLE.sub(replace, unquoted)
    return None if unknown else expanded
