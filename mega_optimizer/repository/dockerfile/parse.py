"""Read a Dockerfile: ranges from tree-sitter, the list of instructions from BuildKit's parser.

Where the two disagree, nothing is known for certain and the file is left alone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mega_optimizer.repository.dockerfile.build import read_instruction, unread_instruction
from mega_optimizer.repository.dockerfile.expand import expand
from mega_optimizer.repository.dockerfile.model import Argument, Dockerfile, Instruction, Stage
from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tree_sitter import Node, Parser

    from mega_optimizer.repository.dockerfile.build import Command

# Dockerfile reference, 2026.
KEYWORDS = frozenset(
    {
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    }
)
_TEMPLATED = re.compile(rb"\{%[-+ ]|\{\{-?\s*(?:cookiecutter|copier)\b|^\s*\{\{", re.MULTILINE)
_DIRECTIVE = re.compile(rb"^#[ \t]*([A-Za-z][\w-]*)[ \t]*=[ \t]*(.*?)[ \t]*\r?$")
_FRONTEND = re.compile(r"^(docker\.io/)?docker/dockerfile([:@-].*)?$")


@by_content(512)
def parse_dockerfile(path: str, content: bytes) -> Dockerfile | Problem:
    """Return the model of a Dockerfile, or why it cannot be understood.

    Codes: ``templated``, ``syntax-error`` (BuildKit would reject it) and ``dockerfile-ambiguous``
    (the parsers disagree, or the file asks for a frontend of its own).
    """
    if _TEMPLATED.search(content):
        return Problem(path, "templated", "holds template syntax")
    # BuildKit's parser is a C string's reader: what follows a NUL would be lost.
    if b"\0" in content:
        return Problem(path, "syntax-error", "holds a NUL byte")
    directives = dict(_directives(content))
    if not _FRONTEND.match(directives.get("syntax", "docker/dockerfile")):
        return Problem(path, "dockerfile-ambiguous", "asks for another frontend than Docker's")
    commands = _buildkit(content)
    if isinstance(commands, str):
        return Problem(path, "syntax-error", commands)
    for command in commands:
        keyword = command.cmd.upper()
        if keyword not in KEYWORDS:
            return Problem(
                path, "syntax-error", f"unknown instruction {keyword}", command.start_line
            )
    escape = directives.get("escape", "\\")
    instructions = _instructions(content, commands, escape)
    if instructions is None:
        return Problem(path, "dockerfile-ambiguous", "two parsers read it differently")
    first_newline = content.find(b"\n")
    newline = "\r\n" if content[:first_newline].endswith(b"\r") else "\n"
    return _assemble(path, instructions, escape, newline)


def _directives(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the parser directives: comments at the very top, before anything else."""
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        match = _DIRECTIVE.match(line)
        if not match:
            return
        yield match[1].decode().lower(), match[2].decode("utf-8", "replace")


def _buildkit(content: bytes) -> Sequence[Command] | str:
    """Return BuildKit's list of commands, or its complaint."""
    import dockerfile

    try:
        text = content.decode()
    except UnicodeDecodeError:
        # One character per byte: the structure is ASCII, and lone surrogates would crash the
        # parser, which is a library written in Go.
        text = content.decode("latin-1")
    try:
        commands: Sequence[Command] = dockerfile.parse_string(text)
    except dockerfile.GoParseError as error:
        return " ".join(str(error).split())
    # A continuation that nothing follows comes out as a command without a name.
    if not all(command.cmd for command in commands):
        return "an instruction without a keyword"
    return commands


def _parser() -> Parser:
    import tree_sitter_containerfile
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_containerfile.language()))


def _nodes(parser: Parser, content: bytes) -> list[Node]:
    root = parser.parse(content).root_node
    return [node for node in root.named_children if node.type.endswith("_instruction")]


def _instructions(
    content: bytes, commands: Sequence[Command], escape: str
) -> tuple[Instruction, ...] | None:
    """Return one instruction per command of BuildKit, None where ours cannot be matched to them."""
    parser = _parser()
    nodes = _nodes(parser, content)
    theirs = [(command.cmd.upper(), command.start_line) for command in commands]
    ours = [(node.type.split("_")[0].upper(), node.start_point[0] + 1) for node in nodes]
    if ours == theirs:
        return tuple(
            read_instruction(content, node, 0, command, command.start_line, escape)
            for node, command in zip(nodes, commands, strict=True)
        )
    if not parser.parse(content).root_node.has_error:
        return None
    # An error of the grammar swallows what follows it: read every instruction on its own.
    prefix = b"" if escape == "\\" else b"# escape=" + escape.encode() + b"\n"
    starts = [0, *(match.end() for match in re.finditer(b"\n", content)), len(content)]
    result = []
    for command in commands:
        start, end = starts[command.start_line - 1], starts[command.end_line]
        alone = _nodes(parser, prefix + content[start:end])
        if len(alone) == 1 and alone[0].type.split("_")[0].upper() == command.cmd.upper():
            shift = start - len(prefix)
            result.append(
                read_instruction(content, alone[0], shift, command, command.start_line, escape)
            )
        else:
            result.append(unread_instruction(content, start, end, command))
    return tuple(result)


def _assemble(
    path: str, instructions: tuple[Instruction, ...], escape: str, newline: str
) -> Dockerfile | Problem:
    """Group instructions into stages."""
    arguments: list[Argument] = []
    stages: list[tuple[Stage, list[Instruction]]] = []
    for instruction in instructions:
        if instruction.keyword == "FROM":
            if len(instruction.values) not in (1, 3):
                return Problem(
                    path, "syntax-error", "FROM needs an image, or AS and a name", instruction.line
                )
            if instruction.opaque:
                return Problem(path, "dockerfile-ambiguous", "FROM is unclear", instruction.line)
            known = [stage for stage, _ in stages]
            stages.append((_stage(instruction, known, arguments), []))
        elif stages:
            stages[-1][1].append(instruction)
        elif instruction.keyword == "ARG":
            arguments += (argument_of(text, arguments) for text in instruction.values)
        else:
            return Problem(
                path, "syntax-error", f"{instruction.keyword} before FROM", instruction.line
            )
    if not stages:
        return Problem(path, "syntax-error", "no FROM")
    complete = tuple(replace(stage, instructions=tuple(inside)) for stage, inside in stages)
    return Dockerfile(path, instructions, complete, tuple(arguments), escape, newline)


def argument_of(text: str, known: Sequence[Argument]) -> Argument:
    """Return the argument that one word of an ``ARG`` declares."""
    name, equals, default = text.partition("=")
    values = {argument.name: argument.default for argument in known}
    return Argument(name, expand(default, values) if equals else None)


def _stage(origin: Instruction, known: Sequence[Stage], arguments: Sequence[Argument]) -> Stage:
    base = origin.values[0]
    name = origin.values[2] if len(origin.values) == 3 else None
    image = expand(base, {argument.name: argument.default for argument in arguments})
    # Names of stages are compared without regard to case; the last one of a name counts.
    parent = next(
        (
            stage.index
            for stage in reversed(known)
            if image is not None and stage.name and stage.name.lower() == image.lower()
        ),
        None,
    )
    return Stage(len(known), name, base, image, origin.flag("platform"), parent, origin)
