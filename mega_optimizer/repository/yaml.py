"""YAML as nodes with byte ranges. Nothing is constructed, and nothing that explodes is parsed.

Imported only by what reads manifests: ruamel.yaml takes a while to load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ruamel.yaml.error import StringMark

# Composing runs at about 270 kB per CPU second (blanks are nearly free). The largest manifest of
# fourteen public repositories has 25 kB, nests 11 levels and holds 999 nodes.
MAX_BYTES = 256 << 10
# 20,000 opening brackets cost 12.5 s.
MAX_NESTING = 64
# A 396-byte file of aliases stands for billions of nodes.
MAX_NODES = 50_000

_TEMPLATED = re.compile(rb"\{\{|\{%")
_FLOW = re.compile(rb"[\[{]|[\]}]")
_INLINE_BLOCKS = re.compile(rb"^[ \t]*(?:[-?][ \t]+){%d}" % MAX_NESTING, re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Node:
    """One YAML node. ``text`` is a scalar's value; ``start`` and ``end`` are byte offsets.

    ``style`` is how a scalar is written: ``""`` plain, ``'``, ``"``, ``|`` or ``>``. ``line``
    counts from 1. An aliased node is the anchor's own, with the anchor's place.
    """

    kind: Literal["mapping", "sequence", "scalar"]
    start: int
    end: int
    line: int
    text: str = ""
    style: str = ""
    entries: tuple[tuple[Node, Node], ...] = field(default=(), repr=False)
    elements: tuple[Node, ...] = field(default=(), repr=False)

    def get(self, *keys: str | int) -> Node | None:
        """Return the node that ``keys`` (mapping keys, sequence positions) lead to, else None."""
        node: Node | None = self
        for key in keys:
            if node is None:
                return None
            if isinstance(key, int):
                node = node.elements[key] if key < len(node.elements) else None
            else:
                node = next((value for name, value in node.items() if name.text == key), None)
        return node

    def items(self) -> Iterator[tuple[Node, Node]]:
        """Yield the keys and values of a mapping: its own before those that ``<<`` merges in."""
        merged: list[Node] = []
        for key, value in self.entries:
            if key.text == "<<" and not key.style:
                merged += value.elements or (value,)
            else:
                yield key, value
        known = {key.text for key, _ in self.entries}
        for mapping in merged:
            for key, value in mapping.items():
                if key.text not in known:
                    known.add(key.text)
                    yield key, value

    @property
    def is_null(self) -> bool:
        """Whether this is a scalar that means nothing at all."""
        return self.kind == "scalar" and not self.style and self.text in {"", "~", "null"}


@by_content(512)
def documents(path: str, content: bytes) -> tuple[Node, ...] | Problem:
    """Return the root nodes of the documents in ``content`` that are not empty.

    Codes: ``templated``, ``too-large``, ``yaml-nesting``, ``yaml-aliases``, ``yaml-syntax``,
    ``encoding``.
    """
    if templated := _TEMPLATED.search(content):
        line = content.count(b"\n", 0, templated.start()) + 1
        return Problem(path, "templated", "it is a template, and not YAML", line)
    size = len(content) - content.count(b" ")
    if size > MAX_BYTES:
        return Problem(path, "too-large", f"{size:,} bytes are over {MAX_BYTES:,}")
    if _nests_too_deeply(content):
        return Problem(path, "yaml-nesting", f"it nests over {MAX_NESTING} levels")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Problem(path, "encoding", "it is not UTF-8")
    offset = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    convert = _Conversion(text, offset)
    try:
        roots = list(YAML(typ="rt", pure=True).compose_all(text))
        return tuple(convert.node(root) for root in roots if root is not None)
    except RecursionError:
        return Problem(path, "yaml-nesting", "it nests too deeply")
    except _TooManyNodes:
        code = "yaml-aliases" if b"*" in content else "too-large"
        return Problem(path, code, f"it stands for over {MAX_NODES:,} nodes")
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        message = getattr(error, "problem", None) or str(error).partition("\n")[0]
        return Problem(path, "yaml-syntax", message, mark.line + 1 if mark else 1)
    except ValueError as error:
        return Problem(path, "yaml-syntax", str(error))


class _TooManyNodes(Exception):
    """More nodes than any manifest has, or aliases that contain themselves."""


class _Conversion:
    """Turns composed nodes into ours, each once, so that aliases cost nothing."""

    def __init__(self, text: str, offset: int) -> None:
        self._text = text
        self._offset = offset
        self._is_ascii = text.isascii()
        self._done: dict[int, tuple[Node, int]] = {}
        self._open: set[int] = set()
        self._last = (0, 0)

    def node(self, composed: MappingNode | SequenceNode | ScalarNode) -> Node:
        return self._convert(composed)[0]

    def _convert(self, composed: MappingNode | SequenceNode | ScalarNode) -> tuple[Node, int]:
        """Return our node, and the number of nodes that it stands for."""
        identity = id(composed)
        if identity in self._done:
            return self._done[identity]
        if identity in self._open:
            raise _TooManyNodes
        self._open.add(identity)
        start = self._byte(composed.start_mark)
        line = composed.start_mark.line + 1
        size = 1
        if isinstance(composed, ScalarNode):
            end = self._byte(composed.end_mark)
            # ruamel marks the folds of a ">" scalar by a bell.
            text = composed.value.replace("\a", "") if composed.style == ">" else composed.value
            node = Node("scalar", start, end, line, text, composed.style or "")
        elif isinstance(composed, MappingNode):
            entries = []
            for key, value in composed.value:
                (ours, key_size), (theirs, value_size) = self._convert(key), self._convert(value)
                entries.append((ours, theirs))
                size += key_size + value_size
            end = self._end(composed, entries[-1][1] if entries else None)
            node = Node("mapping", start, end, line, entries=tuple(entries))
        else:
            elements = []
            for element in composed.value:
                ours, element_size = self._convert(element)
                elements.append(ours)
                size += element_size
            end = self._end(composed, elements[-1] if elements else None)
            node = Node("sequence", start, end, line, elements=tuple(elements))
        if size > MAX_NODES:
            raise _TooManyNodes
        self._open.discard(identity)
        self._done[identity] = node, size
        return node, size

    def _end(self, composed: MappingNode | SequenceNode, last: Node | None) -> int:
        # A block collection is marked as ending where the next token begins, comments included.
        end = self._byte(composed.end_mark)
        if composed.flow_style or last is None:
            return end
        # An aliased last child stands elsewhere.
        return last.end if self._byte(composed.start_mark) <= last.end <= end else end

    def _byte(self, mark: StringMark) -> int:
        if self._is_ascii:
            return self._offset + int(mark.index)
        # Marks mostly move forwards, so count on from the last one.
        index, count = self._last if self._last[0] <= mark.index else (0, 0)
        count += len(self._text[index : mark.index].encode())
        self._last = (mark.index, count)
        return self._offset + count


def _nests_too_deeply(content: bytes) -> bool:
    depth = 0
    for bracket in _FLOW.findall(content):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_NESTING:
            return True
        depth = max(depth, 0)
    return _INLINE_BLOCKS.search(content) is not None
