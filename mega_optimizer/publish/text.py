"""Text of a target in Markdown and in messages: it shall ping, link and format nothing."""

from __future__ import annotations

import re

# After these a forge sees a mention, an issue or a link; a zero-width space keeps it from that.
_REFERENCES = re.compile(r"([@#!]|://|\bGH-)(?=\w)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~&])")
ZERO_WIDTH_SPACE = "\u200b"


def printable(text: str) -> str:
    """Return ``text`` on one line, with escapes for what cannot be printed, pinging nobody."""
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
    return _REFERENCES.sub(rf"\1{ZERO_WIDTH_SPACE}", shown)


def plain(text: str) -> str:
    """Return ``text`` for Markdown, in which none of it is markup, a mention or a link."""
    return printable(_MARKDOWN.sub(r"\\\1", text))


def code(text: str) -> str:
    """Return ``text`` as a code span of Markdown that also survives a cell of a table."""
    shown = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    ).replace("|", "¦")  # a pipe ends the cell, even in a code span
    ticks = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    space = " " if "`" in shown else ""
    return f"{ticks}{space}{shown}{space}{ticks}" if shown else ""


def block(text: str) -> str:
    """Return ``text`` as a fenced block that nothing in it can end."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}console\n{text}\n{fence}"
