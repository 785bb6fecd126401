"""Words of the target on their way to a person: they must not command the terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return ``text`` with control characters, and what else cannot be seen, as escapes.

    Line ends are kept. An escape sequence in a target's file could otherwise repaint the report.
    """
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in text
    )
