"""TOML that may be hostile: values through tomllib, byte ranges through a scanner of our own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from mega_optimizer.repository.place import Problem

MAXIMUM_BYTES = 32 * 1024 * 1024
MAXIMUM_DEPTH = 64
BOM = b"\xef\xbb\xbf"

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """The byte range of a key (``key``, for a value of a table) and of its value."""

    key: int
    start: int
    end: int


def load_toml(path: str, content: bytes) -> dict[str, Any] | Problem:
    """Return the document, or why it cannot be read (``toml-error``, ``templated`` …)."""
    if len(content) > MAXIMUM_BYTES:
        return Problem(path, "too-large", f"larger than {MAXIMUM_BYTES} bytes")
    try:
        return tomllib.loads(content.removeprefix(BOM).decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        code = "templated" if b"{{" in content or b"{%" in content else "toml-error"
        return Problem(path, code, f"not valid TOML: {error}")
    except UnicodeDecodeError:
        return Problem(path, "encoding", "not UTF-8")
    except RecursionError:
        return Problem(path, "too-deep", "nested too deeply")
    except ValueError as error:  # an integer of more digits than Python reads
        return Problem(path, "toml-error", f"not valid TOML: {error}")


def toml_spans(content: bytes) -> dict[Path, Span]:
    """Return where every value of a **valid** document stands, by its path of keys and indexes.

    Tables of an array of tables carry their index. What is nested deeper than
    ``MAXIMUM_DEPTH`` is left out.
    """
    scanner = _Scanner(content)
    scanner.document()
    return scanner.spans


class _Scanner:
    """Walks the bytes once. Latin-1 makes characters and bytes the same; TOML's marks are ASCII."""

    def __init__(self, content: bytes) -> None:
        self.text = content.decode("latin-1")
        self.at = len(BOM) if content.startswith(BOM) else 0
        self.spans: dict[Path, Span] = {}
        self.tables: dict[Path, int] = {}

    def document(self) -> None:
        prefix: Path = ()
        while self.skip_blank():
            if self.text.startswith("[[", self.at):
                self.at += 2
                keys = self.located(self.key())
                index = self.tables.get(keys, -1) + 1
                self.tables[keys] = index
                prefix = (*keys, index)
                self.at = self.text.index("]]", self.at) + 2
            elif self.text[self.at] == "[":
                self.at += 1
                prefix = self.located(self.key())
                self.at = self.text.index("]", self.at) + 1
            else:
                self.pair(prefix, 0)

    def located(self, keys: Path) -> Path:
        """Put the index of the current element behind each key that names an array of tables."""
        path: Path = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            if position < len(keys) - 1 and path in self.tables:
                path = (*path, self.tables[path])
        return path

    def pair(self, prefix: Path, depth: int) -> None:
        key_start = self.at
        path = (*prefix, *self.key())
        self.at = self.text.index("=", self.at) + 1
        self.value(path, key_start, depth)

    def key(self) -> Path:
        parts: list[str | int] = []
        while True:
            self.skip_space()
            start = self.at
            if self.text[start] in "\"'":
                self.string()
                raw = self.text[start : self.at].encode("latin-1").decode("utf-8")
                parts.append(next(iter(tomllib.loads(f"{raw} = 0"))))
            else:
                while self.text[self.at] not in " \t.=]\"'":
                    self.at += 1
                parts.append(self.text[start : self.at])
            self.skip_space()
            if self.text[self.at] != ".":
                return tuple(parts)
            self.at += 1

    def value(self, path: Path, key_start: int, depth: int) -> None:
        self.skip_blank()
        start = self.at
        mark = self.text[start]
        if mark in "\"'":
            self.string()
        elif mark == "[":
            self.array(path, depth + 1)
        elif mark == "{":
            self.inline_table(path, depth + 1)
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\r\n":
                self.at += 1
            while self.text[self.at - 1] in " \t":
                self.at -= 1
        if depth <= MAXIMUM_DEPTH:
            self.spans[path] = Span(key_start, start, self.at)

    def string(self) -> None:
        quote = self.text[self.at]
        if self.text.startswith(quote * 3, self.at):
            self.at += 3
            while not self.text.startswith(quote * 3, self.at):
                self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
            self.at += 3
            while self.text.startswith(quote, self.at):  # up to two quotes may end the content
                self.at += 1
            return
        self.at += 1
        while self.text[self.at] != quote:
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        self.at += 1

    def array(self, path: Path, depth: int) -> None:
        self.at += 1
        index = 0
        while self.skip_blank() and self.text[self.at] != "]":
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self.value((*path, index), self.at, depth)
            index += 1
        self.at += 1

    def inline_table(self, path: Path, depth: int) -> None:
        self.at += 1
        while self.skip_blank() and self.text[self.at] != "}":
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self.pair(path, depth)
        self.at += 1

    def skip_space(self) -> None:
        while self.text[self.at] in " \t":
            self.at += 1

    def skip_blank(self) -> bool:
        """Skip white space, line ends and comments; return whether anything is left."""
        while self.at < len(self.text):
            mark = self.text[self.at]
            if mark == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif mark in " \t\r\n":
                self.at += 1
            else:
                return True
        return False
