"""Shell text as simple commands: what runs, in which order, and where each word stands.

Parsed with tree-sitter-bash. Everything that depends on more than the text (loops, conditions,
substitutions) stays marked, so that a reader can leave it alone.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from mega_optimizer.repository.service import Word
from mega_optimizer.repository.source import Source, contiguous, unescaped_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tree_sitter import Node, Parser

    from mega_optimizer.repository.dockerfile.model import Instruction

Operator = Literal["", "&&", "||", ";", "|", "&"]
Surrounding = Literal[
    "", "group", "condition", "loop", "function", "substitution", "heredoc", "error"
]
# Deeper than people nest, and far from Python's own limit of recursion.
_DEEPEST = 60
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh"})


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command.

    A word's text is what the shell passes on, with expansions left as written (``$PORT``).
    ``joined`` is the operator in front of the command, ``inside`` the construct that decides
    whether, how often or by whom it is run (``group``: braces or a subshell, run as it stands).
    """

    words: tuple[Word, ...]
    assignments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    joined: Operator = ""
    inside: Surrounding = ""
    exec_form: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the words."""
        return tuple(word.text for word in self.words)

    @property
    def program(self) -> str:
        """The name of the program without its folder, ``""`` for a bare assignment."""
        return posixpath.basename(self.words[0].text) if self.words else ""


def commands(
    instruction: Instruction, shell: tuple[str, ...] = ("/bin/sh", "-c")
) -> tuple[Command, ...]:
    """Return the simple commands of an instruction in order of writing.

    ``shell`` is what ``SHELL`` has set; text for anything but a POSIX shell is not looked into.
    The bodies of here-documents come last, ``inside`` them.
    """
    if instruction.opaque:
        return ()
    if instruction.exec_form is not None:
        return (Command(instruction.exec_form, exec_form=True),) if instruction.exec_form else ()
    if instruction.shell is None or not is_shell(shell[0] if shell else ""):
        return ()
    found = parse_shell(instruction.shell, strict=True)
    bodies = (
        command
        for heredoc in instruction.heredocs
        if not heredoc.body.text.startswith(b"#!") or b"sh" in heredoc.body.text.split(b"\n")[0]
        for command in parse_shell(heredoc.body, "heredoc", strict=True)
    )
    return (*found, *bodies)


def is_shell(program: str) -> bool:
    """Whether ``program`` is a POSIX shell, by name."""
    return posixpath.basename(program) in _SHELLS


def shell_argument(words: tuple[Word, ...]) -> Word | None:
    """Return the text that ``sh -c TEXT``, ``bash -lc TEXT`` … reads as a script, else None."""
    if not words or not is_shell(words[0].text):
        return None
    for position, word in enumerate(words[1:-1], start=1):
        if not word.text.startswith("-"):
            return None
        if not word.text.startswith("--") and "c" in word.text:
            return words[position + 1]
    return None


def parse_argument(word: Word, content: bytes | None, *, json: bool) -> tuple[Command, ...]:
    """Return the commands in the script that ``word`` holds.

    ``content`` is the file of the word; its range is looked up there. Positions are -1 where the
    script cannot be found again in the file byte by byte.
    """
    text = word.text.encode("utf-8", "surrogateescape")
    source = Source(text, None)
    if content is not None and 0 <= word.start < word.end:
        raw = content[word.start : word.end]
        if json:
            source = unescaped_json(content, word.start, word.end)
        elif raw == text:
            source = contiguous(content, word.start, word.end)
        elif raw[1:-1] == text:
            source = contiguous(content, word.start + 1, word.end - 1)
    return parse_shell(source)


def parse_shell(
    source: Source, inside: Surrounding = "", *, strict: bool = False
) -> tuple[Command, ...]:
    """Return the simple commands of a script in order of writing.

    Where the grammar meets an error it goes on behind it; ``strict`` marks all as ``error`` then.
    """
    root = _parser().parse(source.text).root_node
    if strict and root.has_error:
        inside = "error"
    return tuple(_walk(source, root, "", inside, 0))


@cache
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


_INSIDE: Mapping[str, Surrounding] = MappingProxyType(
    {
        "subshell": "group",
        "compound_statement": "group",
        "if_statement": "condition",
        "case_statement": "condition",
        "for_statement": "loop",
        "c_style_for_statement": "loop",
        "while_statement": "loop",
        "function_definition": "function",
        "command_substitution": "substitution",
        "process_substitution": "substitution",
        "ERROR": "error",
    }
)
_STRENGTH: tuple[Surrounding, ...] = (
    "",
    "group",
    "condition",
    "loop",
    "function",
    "substitution",
    "heredoc",
    "error",
)
_OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {"&&": "&&", "||": "||", ";": ";", "\n": ";", "|": "|", "|&": "|", "&": "&"}
)
_REDIRECTS = frozenset({"file_redirect", "heredoc_redirect", "herestring_redirect"})
_SIMPLE = frozenset({"command", "declaration_command", "variable_assignment", "test_command"})


def _walk(
    source: Source, node: Node, joined: Operator, inside: Surrounding, depth: int
) -> Iterator[Command]:
    """Yield the simple commands below ``node``; ``joined`` stands in front of the first."""
    if depth > _DEEPEST:
        return
    if node.type in _SIMPLE:
        yield _simple(source, node, (), joined, inside)
        yield from _substitutions(source, node, inside, depth)
        return
    if node.type == "redirected_statement":
        yield from _redirected(source, node, joined, inside, depth)
        return
    here = _stronger(inside, _INSIDE.get(node.type, ""))
    operator = joined
    for child in node.children:
        if child.type in _OPERATORS:
            operator = _OPERATORS[child.type]
        elif child.is_named and child.type != "comment":
            yield from _walk(source, child, operator, here, depth + 1)
            operator = ";"


def _stronger(outer: Surrounding, inner: Surrounding) -> Surrounding:
    return max(outer, inner, key=_STRENGTH.index)


def _redirected(
    source: Source, node: Node, joined: Operator, inside: Surrounding, depth: int
) -> Iterator[Command]:
    body = node.child_by_field_name("body")
    if body is None:
        return
    # The grammar counts words after a redirection as part of it: `pip > log install x`.
    late = tuple(
        destination
        for child in node.named_children
        if child.type == "file_redirect"
        for destination in child.children_by_field_name("destination")[1:]
    )
    if body.type == "command":
        yield _simple(source, body, late, joined, inside)
        yield from _substitutions(source, body, inside, depth)
    else:
        yield from _walk(source, body, joined, inside, depth + 1)


def _substitutions(
    source: Source, node: Node, inside: Surrounding, depth: int
) -> Iterator[Command]:
    """Yield what a command's words execute: ``$(…)`` and backquotes."""
    pending = list(reversed(node.named_children))
    while pending:
        child = pending.pop()
        if child.type in ("command_substitution", "process_substitution"):
            yield from _walk(source, child, "", inside, depth + 1)
        else:
            pending += reversed(child.named_children)


def _simple(
    source: Source,
    node: Node,
    late: tuple[Node, ...],
    joined: Operator,
    inside: Surrounding,
) -> Command:
    if node.type == "test_command":
        start, end = source.file_range(node.start_byte, node.end_byte)
        text = source.text[node.start_byte : node.end_byte].decode("utf-8", "surrogateescape")
        return Command((Word(text, start, end),), joined=joined, inside=inside)
    parts = [node] if node.type == "variable_assignment" else [*node.children, *late]
    words: list[Word] = []
    assignments: dict[str, str] = {}
    for part in parts:
        if part.type == "variable_assignment" and not words:
            name, _, value = _text(source, part).partition("=")
            assignments[name] = value
        elif part.type not in _REDIRECTS and part.start_byte < part.end_byte:
            start, end = source.file_range(part.start_byte, part.end_byte)
            words.append(Word(_text(source, part), start, end))
    broken = _stronger(inside, "error") if node.has_error else inside
    return Command(tuple(words), MappingProxyType(assignments), joined, broken)


def _text(source: Source, node: Node) -> str:
    """Return the text of a word after the shell has removed its quotes."""
    return _unquoted(source, node, 0).decode("utf-8", "surrogateescape")


def _unquoted(source: Source, node: Node, depth: int) -> bytes:
    raw = source.text[node.start_byte : node.end_byte]
    match node.type:
        case "raw_string":
            return raw[1:-1]
        case "ansi_c_string":
            return raw[2:-1]
        case "word":
            return _without_backslashes(raw)
        case "string":
            return _unescaped(raw[1:-1])
        case "command_name" | "concatenation" | "variable_assignment" if depth < _DEEPEST:
            pieces = []
            position = node.start_byte
            for child in node.children:
                pieces += [
                    source.text[position : child.start_byte],
                    _unquoted(source, child, depth + 1),
                ]
                position = child.end_byte
            return b"".join(pieces)
    return raw


def _without_backslashes(raw: bytes) -> bytes:
    import re

    # A backslash before a line break joins the lines, before anything else it quotes.
    return re.sub(rb"\\(\r?\n|.)", lambda match: match[1].strip(b"\r\n"), raw)


def _unescaped(raw: bytes) -> bytes:
    import re

    return re.sub(rb'\\(\n|["$`\\])', lambda match: match[1].strip(b"\n"), raw)
