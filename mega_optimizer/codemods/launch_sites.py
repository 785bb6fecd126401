"""Change the words of a launch site where it is written, in the manner of the place.

Words are replaced, inserted and removed by byte range: a JSON list stays a JSON list with the
separators that it has, a YAML list keeps its indentation and quotes, the text of a shell stays
text. Nothing is rendered anew, and a place whose manner cannot be told is left alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.repository.service import LaunchSite, Word

# What neither a shell nor YAML nor JSON reads as anything but itself, expansions left out.
_PLAIN = re.compile(r"[\w./:=@%+,-]+")
_BARE = re.compile(r"[A-Za-z/.][\w./:@+-]*[\w/]")
_VARIABLE = re.compile(r"\$\{\w+(?::-[\w./]*)?\}")
_COMMA = re.compile(rb"[ \t]*,(?:[ \t]|\\?\r?\n)*")
_DASH = re.compile(rb"[ \t]*(?:#[^\n]*)?\r?\n[ \t]*-[ \t]+")
_BLANK = re.compile(rb"(?:[ \t]|\\\r?\n|\r?\n)+")


@dataclass(frozen=True, slots=True)
class Manner:
    """How the words of one place are written: what stands between two, and their quotes."""

    kind: Literal["json", "flow", "block", "shell", "scalar"]
    separator: bytes
    quote: str = ""

    def word(self, text: str) -> bytes | None:
        """Return ``text`` as it is written here, None where that would take other quotes."""
        bare = _VARIABLE.sub("", text)
        plain = not bare or _PLAIN.fullmatch(bare) is not None
        if self.kind == "json":
            return json.dumps(text).encode()
        if self.kind in ("flow", "block"):
            if self.quote == '"':
                return json.dumps(text).encode()
            if self.quote == "'":
                return f"'{text}'".encode() if "'" not in text else None
            # Numbers, variables and ``-x`` mean something of their own to YAML or to Compose.
            if self.kind == "block" and _BARE.fullmatch(text):
                return text.encode()
            return json.dumps(text).encode()
        if plain:
            return text.encode()
        if self.kind == "shell" and "'" not in text and "$" not in text:
            return f"'{text}'".encode()
        return None


def manner(content: bytes, site: LaunchSite, near: int = 0) -> Manner | None:
    """Return how the words of ``site`` are written around the word ``near`` of it.

    None where that is not plain. The words of an ENTRYPOINT and of a CMD stand apart.
    """
    words = _together(content, site.words, near)
    if not words or site.source == "python":
        return None
    raws = [content[word.start : word.end] for word in words]
    quote = next((raw[:1].decode() for raw in raws[::-1] if raw[:1] in (b'"', b"'")), "")
    gaps = [
        content[left.end : right.start]
        for left, right in pairwise(words)
        if left.end <= right.start
    ]
    if site.source == "dockerfile" and all(raw.startswith(b'"') for raw in raws):
        commas = [gap for gap in gaps if _COMMA.fullmatch(gap)]
        if len(commas) == len(gaps) and (gaps or _stands_in_a_list(content, words[0])):
            return Manner("json", commas[-1] if commas else b", ", '"')
    if site.source in ("compose", "kubernetes"):
        return _in_yaml(content, words, gaps, quote)
    if all(_BLANK.fullmatch(gap) for gap in gaps):
        # Inside of a JSON string or another quoted text, quotes would need quotes.
        start = content.rfind(b"\n", 0, words[0].start) + 1
        nested = re.search(rb"[\"']", content[start : words[0].start]) is not None
        return Manner("scalar" if nested else "shell", b" ", quote)
    return None


def _together(content: bytes, words: Sequence[Word], near: int) -> list[Word]:
    """Return the words around ``near`` that are written in one list or one text."""
    if not words[near : near + 1] or words[near].start < 0:
        return []
    first, last = near, near + 1
    while first > 0 and _are_neighbours(content, words[first - 1], words[first]):
        first -= 1
    while last < len(words) and _are_neighbours(content, words[last - 1], words[last]):
        last += 1
    return list(words[first:last])


def _are_neighbours(content: bytes, left: Word, right: Word) -> bool:
    if left.start < 0 or right.start < left.end:
        return False
    gap = content[left.end : right.start]
    return any(one.fullmatch(gap) for one in (_COMMA, _DASH, _BLANK))


def _in_yaml(
    content: bytes, words: Sequence[Word], gaps: Sequence[bytes], quote: str
) -> Manner | None:
    if gaps and all(_DASH.fullmatch(gap) for gap in gaps):
        separator = re.sub(rb"#[^\n]*", b"", gaps[-1]).lstrip(b" \t")
        return Manner("block", separator, quote)
    if gaps and all(_COMMA.fullmatch(gap) for gap in gaps):
        return Manner("flow", gaps[-1], quote)
    if not gaps:
        start = content.rfind(b"\n", 0, words[0].start) + 1
        before = content[start : words[0].start]
        if re.fullmatch(rb"[ \t]*-[ \t]+", before):
            newline = b"\r\n" if content[:start].endswith(b"\r\n") else b"\n"
            return Manner("block", newline + before, quote)
        if _stands_in_a_list(content, words[0]):
            return Manner("flow", b", ", quote)
    return Manner("scalar", b" ", "") if all(_BLANK.fullmatch(gap) for gap in gaps) else None


def _stands_in_a_list(content: bytes, word: Word) -> bool:
    return content[: word.start].rstrip(b" \t").endswith((b"[", b","))


def with_words(
    context: Context, site: LaunchSite, first: int, last: int, texts: Sequence[str]
) -> Edits | Skip:
    """Return the edits that put ``texts`` in the place of the words ``first:last`` of ``site``.

    ``first == last`` inserts in front of the word ``first`` (at the end where there is none).
    Skip codes: ``site-not-editable`` where the words cannot be found again in the file or the new
    ones cannot be written there, and those of reading the file.
    """
    content = context.read(site.place.path)
    if isinstance(content, Problem):
        return Skip(site.place, content.code, content.message)
    layout = manner(content, site, first if first < last else max(first - 1, 0))
    concerned = site.words[max(first - 1, 0) : last + 1]
    if layout is None or any(word.start < 0 for word in site.words[first:last]) or not concerned:
        return _not_editable(site, "its words cannot be found again in the file")
    if first == last and first > 0 and site.words[first - 1].start < 0:
        return _not_editable(site, "its words cannot be found again in the file")
    written = [layout.word(text) for text in texts]
    if any(each is None for each in written):
        return _not_editable(site, "the new words would need other quotes than the place has")
    joined = layout.separator.join(each for each in written if each is not None)
    path = site.place.path
    if first == last:
        if first == 0:
            start = site.words[0].start
            return (Edit(path, start, start, joined + layout.separator),)
        end = site.words[first - 1].end
        return (Edit(path, end, end, layout.separator + joined),)
    start, end = site.words[first].start, site.words[last - 1].end
    if texts:
        return (Edit(path, start, end, joined),)
    if first > 0 and site.words[first - 1].start >= 0:
        start = site.words[first - 1].end
    elif last < len(site.words):
        end = site.words[last].start
    else:
        return _not_editable(site, "nothing would be left of it")
    between = content[start : site.words[first].start]
    if b"#" in between:
        return _not_editable(site, "a comment stands between its words")
    return (Edit(path, start, end, b""),)


def _not_editable(site: LaunchSite, why: str) -> Skip:
    return Skip(site.place, "site-not-editable", f"the launch command cannot be edited: {why}")


def option_range(site: LaunchSite, *names: str) -> tuple[int, int] | None:
    """Return the range of words that the first of ``names`` given and its value take up.

    ``--reload`` takes one word, ``--workers 4`` two, ``--workers=4`` one.
    """
    texts = [word.text for word in site.words]
    for position, text in enumerate(texts):
        head, equals, _ = text.partition("=")
        if head in names:
            bare = equals or position + 1 == len(texts) or texts[position + 1].startswith("-")
            return position, position + (1 if bare else 2)
    return None
