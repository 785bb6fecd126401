"""What a Dockerfile says: stages made of instructions with their byte ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.repository.service import Word
    from mega_optimizer.repository.source import Source


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of an instruction: ``--mount=type=cache,target=/x`` is named ``mount``."""

    name: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Heredoc:
    """The body of a here-document, without the line of its marker and its terminator."""

    name: str
    body: Source


@dataclass(frozen=True, slots=True)
class Argument:
    """An ``ARG`` before the first ``FROM``; ``default`` is None where the builder must be told."""

    name: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. Offsets are bytes of the file, lines count from 1.

    ``keyword`` is in upper case. ``values`` are the arguments as BuildKit's parser splits them,
    quotes kept. ``exec_form`` holds the words of a JSON list (ranges include the quotes), ``shell``
    the text that a shell would read, without continuations and comment lines. ``onbuild`` is what
    ``ONBUILD`` triggers. An ``opaque`` instruction is known by keyword and range only.
    """

    keyword: str
    start: int
    end: int
    line: int
    end_line: int
    values: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    arguments_start: int = -1
    arguments_end: int = -1
    exec_form: tuple[Word, ...] | None = None
    shell: Source | None = None
    heredocs: tuple[Heredoc, ...] = ()
    onbuild: Instruction | None = None
    opaque: bool = False

    def flag(self, name: str) -> str | None:
        """Return the value of the last flag called ``name``, else None."""
        return next((flag.value for flag in reversed(self.flags) if flag.name == name), None)


@dataclass(frozen=True, slots=True)
class Stage:
    """A build stage.

    ``base`` is what ``FROM`` names, as written; ``image`` the same with the defaults of ``ARG``
    filled in, None where a needed argument has no default. ``parent`` is the index of the stage
    that it is built on, None for an image. ``instructions`` do not include the ``FROM``.
    """

    index: int
    name: str | None
    base: str
    image: str | None
    platform: str | None
    parent: int | None
    origin: Instruction
    instructions: tuple[Instruction, ...] = ()


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile. ``newline`` is the line ending of its first line."""

    path: str
    instructions: tuple[Instruction, ...]
    stages: tuple[Stage, ...]
    arguments: tuple[Argument, ...] = ()
    escape: str = "\\"
    newline: str = "\n"
