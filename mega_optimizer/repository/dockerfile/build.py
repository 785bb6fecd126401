"""Turn one node of the grammar, and what BuildKit says of it, into an Instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mega_optimizer.repository.dockerfile.model import Flag, Heredoc, Instruction
from mega_optimizer.repository.service import Word
from mega_optimizer.repository.source import Source, contiguous

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tree_sitter import Node


class CommandHeredoc(Protocol):
    """A here-document as BuildKit's parser gives it."""

    name: str


class Command(Protocol):
    """An instruction as BuildKit's parser gives it."""

    cmd: str
    json: bool
    start_line: int
    end_line: int
    value: Sequence[str]
    flags: Sequence[str]
    heredocs: Sequence[CommandHeredoc]


_WITH_SHELL = frozenset({"RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK"})


def unread_instruction(content: bytes, start: int, end: int, command: Command) -> Instruction:
    """Return an instruction of which only the keyword and the lines are known."""
    stop = start + len(content[start:end].rstrip(b"\r\n"))
    return Instruction(
        command.cmd.upper(),
        start,
        stop,
        command.start_line,
        command.end_line,
        tuple(command.value),
        opaque=True,
    )


def read_instruction(
    content: bytes,
    node: Node,
    shift: int,
    command: Command,
    line: int,
    escape: str = "\\",
) -> Instruction:
    """Return the instruction of ``node``, whose offsets are ``shift`` away from those in the file.

    It is opaque where the grammar met an error inside, or where the text that a shell would see
    is not the one that BuildKit sees.
    """
    keyword = node.type.split("_")[0].upper()
    start, end = node.start_byte + shift, node.end_byte + shift
    values = tuple(command.value)
    inner = _inner(content, node, shift, command, line, escape) if keyword == "ONBUILD" else None
    flags = tuple(_flags(content, node, shift))
    arguments = _arguments(node)
    if arguments is None:
        return Instruction(
            keyword,
            start,
            end,
            line,
            command.end_line,
            values,
            flags,
            onbuild=inner,
            opaque=node.has_error,
        )
    first, last = arguments[0] + shift, arguments[1] + shift
    exec_form = None
    shell = None
    heredocs = tuple(_heredocs(content, node, shift, command))
    opaque = len(heredocs) != len(command.heredocs) or len(flags) != len(command.flags)
    if command.json:
        exec_form = tuple(_json_words(content, node, shift))
        agrees = not node.has_error and tuple(word.text for word in exec_form) == values
        if not agrees:
            # The grammar knows no comments between the words of a list, and stops there.
            last = _end_of_line(content, command.end_line)
            exec_form = _words_of_list(content, first, last, escape)
            agrees = tuple(word.text for word in exec_form) == values
            end = max(end, last) if agrees else end
        opaque = opaque or not agrees
    elif keyword in _WITH_SHELL:
        shell = _agreed(_shell(content, node, shift), _bytes(values[-1] if values else "", content))
        opaque = opaque or shell is None
    else:
        opaque = opaque or node.has_error
    return Instruction(
        keyword,
        start,
        end,
        line,
        command.end_line,
        values,
        flags,
        first,
        last,
        exec_form,
        None if opaque else shell,
        heredocs,
        inner,
        opaque,
    )


def _agreed(shell: Source | None, theirs: bytes) -> Source | None:
    """Return ``shell`` if it is the text that BuildKit sees, else None.

    The whitespace around a dropped line differs, and means nothing to a shell. The grammar may
    miss a line break at the end of the file: where the texts agree, that is no error. The mark of
    a continuation right there is not part of the text.
    """
    if shell is None or shell.offsets is None:
        return None
    if _squeezed(shell.text) == _squeezed(theirs):
        return shell
    shorter = Source(shell.text[:-1], shell.offsets[:-1])
    return shorter if _squeezed(shorter.text) == _squeezed(theirs) else None


def _bytes(text: str, content: bytes) -> bytes:
    """Return ``text`` in the bytes of the file, which may not be UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return text.encode("latin-1", "replace")
    return text.encode()


def _squeezed(text: bytes) -> bytes:
    return b"".join(text.split())


def _inner(
    content: bytes,
    node: Node,
    shift: int,
    command: Command,
    line: int,
    escape: str,
) -> Instruction | None:
    child = next((child for child in node.named_children if _is_instruction(child)), None)
    return read_instruction(content, child, shift, command, line, escape) if child else None


def _is_instruction(node: Node) -> bool:
    return node.type.endswith("_instruction")


def _flags(content: bytes, node: Node, shift: int) -> Iterator[Flag]:
    for child in node.named_children:
        if child.type in ("param", "mount_param"):
            start, end = child.start_byte + shift, child.end_byte + shift
            text = content[start:end].decode("utf-8", "surrogateescape")
            name, _, value = text.removeprefix("--").partition("=")
            yield Flag(name, value, start, end)


_NOT_ARGUMENTS = frozenset(
    {"param", "mount_param", "line_continuation", "comment", "heredoc_block"}
)


def _arguments(node: Node) -> tuple[int, int] | None:
    """Return the range from the first to the last argument, in the offsets of the grammar."""
    inside = [child for child in node.children[1:] if child.type not in _NOT_ARGUMENTS]
    return (inside[0].start_byte, inside[-1].end_byte) if inside else None


def _json_words(content: bytes, node: Node, shift: int) -> Iterator[Word]:
    import json

    for child in _descendants(node, "json_string"):
        start, end = child.start_byte + shift, child.end_byte + shift
        raw = content[start:end].decode("utf-8", "replace")
        try:
            text = json.loads(raw)
        except ValueError:
            text = raw
        yield Word(text, start, end)


def _end_of_line(content: bytes, number: int) -> int:
    """Return where the line ``number`` (from 1) ends, its whitespace at the end left out."""
    lines = content.splitlines(keepends=True)[:number]
    return sum(map(len, lines)) - (len(lines[-1]) - len(lines[-1].rstrip())) if lines else 0


def _words_of_list(content: bytes, start: int, end: int, escape: str) -> tuple[Word, ...]:
    """Return the strings of a JSON list over several lines, with comments between them."""
    import json
    import re

    offsets: list[int] = []
    position = start
    for line in content[start:end].splitlines(keepends=True):
        text = line.strip()
        is_kept = position == start or (text and not text.startswith(b"#"))
        stripped = line.rstrip()
        length = len(stripped) - (1 if stripped.endswith(escape.encode()) else 0)
        offsets += range(position, position + (length if is_kept else 0))
        position += len(line)
    source = Source(bytes(content[offset] for offset in offsets), offsets)
    words = []
    for found in re.finditer(rb'"(?:\\.|[^"\\])*"', source.text):
        try:
            value = json.loads(found[0])
        except ValueError:
            return ()
        words.append(Word(value, *source.file_range(*found.span())))
    return tuple(words)


def _heredocs(
    content: bytes,
    node: Node,
    shift: int,
    command: Command,
) -> Iterator[Heredoc]:
    blocks = _descendants(node, "heredoc_block")
    for block, theirs in zip(blocks, command.heredocs, strict=False):
        inside = [child for child in block.named_children if child.type == "heredoc_content"]
        start = inside[0].start_byte + shift if inside else block.start_byte + shift
        end = inside[-1].end_byte + shift if inside else start
        yield Heredoc(theirs.name, contiguous(content, start, end))


def _descendants(node: Node, kind: str) -> Iterator[Node]:
    pending = list(reversed(node.children))
    while pending:
        child = pending.pop()
        if child.type == kind:
            yield child
        else:
            pending += reversed(child.children)


def _shell(content: bytes, node: Node, shift: int) -> Source | None:
    """Return the text that the shell gets: continuations, comments and blank lines left out."""
    shell = next(_descendants(node, "shell_command"), None)
    if shell is None:
        return None
    position, stop = shell.start_byte + shift, shell.end_byte + shift
    offsets: list[int] = []
    for child in shell.children:
        if child.type in ("line_continuation", "comment"):
            offsets += range(position, child.start_byte + shift)
            position = child.end_byte + shift
    offsets += range(position, stop)
    kept = [offset for offset in offsets if content[offset] not in b"\r\n"]
    return Source(bytes(content[offset] for offset in kept), kept)
