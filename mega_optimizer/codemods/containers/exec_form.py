"""Start the program itself, not a shell around it: CMD and ENTRYPOINT in exec form.

https://docs.docker.com/reference/dockerfile/#shell-and-exec-form: "the shell form … the executable
won't be PID 1 of the container, and won't receive Unix signals". dash of Debian 12 does keep
running beside the one command that it was given (``sh -c 'sleep 3'`` shows two processes).
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.build_steps import pieces
from mega_optimizer.codemods.containers.shipped import BuiltImage, built_image
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.repository.dockerfile import copies, shell_at
from mega_optimizer.repository.shell import is_shell, parse_argument, shell_argument
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Instruction
    from mega_optimizer.repository.service import Word
    from mega_optimizer.repository.shell import Command

_STARTS = re.compile(rb"^[ \t]*(?:CMD|ENTRYPOINT)\b", re.MULTILINE | re.IGNORECASE)
# POSIX.1-2024, XCU 2.15, and what dash and bash add: no programs, or not the same ones.
_BUILTINS = frozenset(
    {
        *(".", ":", "[", "[[", "alias", "bg", "cd", "command", "declare", "eval", "exit"),
        *("export", "fg", "getopts", "hash", "jobs", "let", "local", "read", "readonly"),
        *("return", "set", "shift", "source", "trap", "type", "ulimit", "umask", "unset", "wait"),
    }
)
_NEEDS_SHELL = re.compile(rb"[$`*?~\[{!]")
_NOT_ONE_COMMAND = re.compile(r"[|&;<>()\n`]")
# These have no ENTRYPOINT, or one that ends in `exec "$@"`.
_KNOWN_BASES = re.compile(
    r"(?:docker\.io/|[\w.-]+/library/|public\.ecr\.aws/docker/library/)?"
    r"(?:library/)?(?:python|pypy|debian|ubuntu|alpine|buildpack-deps|fedora|amazonlinux|node"
    r"|nvidia/cuda|pytorch/pytorch|continuumio/\w+|condaforge/\w+|ghcr\.io/astral-sh/uv"
    r"|redhat/ubi\d+|bitnami/python|cimg/python|tiangolo/uvicorn-gunicorn[\w-]*)(?:[:@].*)?"
)


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for the CMD and the ENTRYPOINT in force that start a shell for one command."""
    image = built_image(context, _STARTS)
    if isinstance(image, Skip):
        yield image
    if not isinstance(image, BuiltImage):
        return
    for keyword in ("ENTRYPOINT", "CMD"):
        instruction = image.last(keyword)
        if instruction is None or (keyword == "CMD" and _is_reset(image, instruction)):
            continue
        if instruction.opaque:
            reason = "the parsers read it differently"
            yield Skip(image.place(instruction), "opaque-shell", reason)
        elif instruction.exec_form is None:
            yield _from_shell_form(context, image, instruction)
        else:
            yield from _from_shell_argument(image, instruction)


def _is_reset(image: BuiltImage, cmd: Instruction) -> bool:
    """Whether a later stage sets another ENTRYPOINT, which takes this CMD out of force."""
    entrypoint = image.last("ENTRYPOINT")
    return (
        entrypoint is not None
        and entrypoint.start > cmd.start
        and not any(cmd is each for each in image.stage.instructions)
    )


def _from_shell_form(context: Context, image: BuiltImage, instruction: Instruction) -> Outcome:
    place = image.place(instruction)
    stage = next(part for part in image.layers if instruction in part.instructions)
    if shell_at(image.dockerfile, stage, instruction) != ("/bin/sh", "-c"):
        return Skip(place, "own-shell", "SHELL names another shell, which this text is for")
    chain = pieces(image.content, instruction, image.commands(stage, instruction))
    if not chain or len(chain) > 1 or chain[0].command.assignments:
        reason = "the shell does more here than to start one program"
        return Skip(place, "shell-syntax", reason)
    command = chain[0].command
    raws = [image.content[word.start : word.end] for word in command.words]
    if any(b"\n" in raw for raw in raws):
        return Skip(place, "shell-syntax", "a word goes on in the next line")
    obstacle = _obstacle(context, image, instruction, command)
    if obstacle:
        return Skip(place, *obstacle)
    edits = _list_of_words(image, command.words)
    if any(_NEEDS_SHELL.search(raw) for raw in raws):
        edits = _executed_by_shell(image, command.words, b" ".join(raws))
    if edits is None:
        return Skip(place, "encoding", "it is not UTF-8, which a JSON list must be")
    message = f"Start {command.program} itself, so that it gets the signal to stop"
    return Fix(place, message, edits)


def _list_of_words(image: BuiltImage, words: tuple[Word, ...]) -> tuple[Edit, ...] | None:
    """Return the edits that make a JSON list of ``words``, each where it stands."""
    edits = []
    for position, word in enumerate(words):
        quoted = _json(word.text)
        if quoted is None:
            return None
        opening = b"[" if position == 0 else b""
        closing = b"]" if position == len(words) - 1 else b","
        edits.append(Edit(image.path, word.start, word.end, opening + quoted + closing))
    return tuple(edits)


def _executed_by_shell(
    image: BuiltImage, words: tuple[Word, ...], text: bytes
) -> tuple[Edit, ...] | None:
    """Return the edit that lets a shell fill in the variables and then become the program."""
    quoted = _json("exec " + text.decode("utf-8", "surrogateescape"))
    if quoted is None:
        return None
    return (Edit(image.path, words[0].start, words[-1].end, b'["sh", "-c", ' + quoted + b"]"),)


def _json(text: str) -> bytes | None:
    try:
        return json.dumps(text, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None


def _obstacle(
    context: Context, image: BuiltImage, instruction: Instruction, command: Command
) -> tuple[str, str] | None:
    """Return the code and the reason why ``command`` keeps its shell form, if any."""
    if command.program == "exec":
        return "execs-already", "the shell becomes the program by itself"
    if command.program in _BUILTINS:
        return "shell-builtin", f"{command.program} is part of the shell"
    if instruction.keyword == "ENTRYPOINT":
        given = image.last("CMD")
        if given is not None and given.start > image.layers[-1].origin.start:
            return "arguments-ignored", f"it would get the words of CMD (line {given.line})"
        if context.service.deployments and _passes_arguments(context):
            return "arguments-ignored", "it would get the arguments that a deployment gives"
    else:
        entrypoint = image.last("ENTRYPOINT")
        if entrypoint is not None and not _only_wraps(entrypoint):
            reason = f"the entry point (line {entrypoint.line}) gets this command as arguments"
            return "entrypoint-reads-command", reason
        if entrypoint is None and not _KNOWN_BASES.fullmatch(image.base or ""):
            reason = f"{image.base or 'the base image'} may have an entry point that reads it"
            return "entrypoint-unknown", reason
    return _script_obstacle(context, image, command)


def _only_wraps(entrypoint: Instruction) -> bool:
    """Whether an ENTRYPOINT is nothing, or ``tini --`` and the like."""
    return entrypoint.exec_form is not None and not unwrapped(entrypoint.exec_form)[0]


def _passes_arguments(context: Context) -> bool:
    """Whether a deployment gives arguments, which a shell-form ENTRYPOINT does not get."""
    for deployment in context.service.deployments:
        content = context.read(deployment.place.path)
        if isinstance(content, bytes) and re.search(rb"^\s*(?:command|args):", content, re.M):
            return True
    return False


def _script_obstacle(
    context: Context, image: BuiltImage, command: Command
) -> tuple[str, str] | None:
    """Return why the program cannot surely be started without a shell: it may lack its ``#!``."""
    words, _ = unwrapped(command.words)
    program = words[0].text if words else ""
    name = posixpath.basename(program)
    copied = {
        posixpath.basename(part)
        for instruction in image.instructions("COPY", "ADD")
        if (copy := copies(instruction))
        for part in (*copy.sources, copy.destination)
    }
    if "/" not in program and name not in copied:
        return None
    if "$" in program:
        return "program-unknown", f"{program} depends on a variable"
    root = f"{context.service.root}/" if context.service.root else ""
    scripts = [
        path
        for path in context.files.paths
        if path.startswith(root) and posixpath.basename(path) == name
    ]
    for path in scripts:
        content = context.read(path)
        if not isinstance(content, bytes) or not content.startswith(b"#!"):
            return "no-shebang", f"{path} does not say which program reads it"
    if not scripts and not re.match(r"/(?:usr/|opt/|app/)?(?:[\w.-]+/)*bin/", program):
        return "program-unknown", f"{program} is no file of the repository"
    return None


def _from_shell_argument(image: BuiltImage, instruction: Instruction) -> Iterator[Outcome]:
    """Yield the fix of ``["sh", "-c", "program …"]``: the shell becomes the program."""
    argument = _shell_text(image, instruction)
    if argument is None:
        return
    place = image.place(instruction)
    text = argument.text.strip()
    if text.startswith("exec "):
        return
    found = parse_argument(argument, image.content, json=True)
    if len(found) != 1 or found[0].inside or found[0].assignments or not found[0].words:
        yield Skip(place, "shell-syntax", "the shell does more here than to start one program")
        return
    command = found[0]
    if _NOT_ONE_COMMAND.search(text) or command.words[0].start < 0:
        yield Skip(place, "shell-syntax", "the shell does more here than to start one program")
        return
    if command.program in _BUILTINS:
        yield Skip(place, "shell-builtin", f"{command.program} is part of the shell")
        return
    start = command.words[0].start
    message = f"Let the shell become {command.program}, so that it gets the signal to stop"
    yield Fix(place, message, (Edit(image.path, start, start, b"exec "),))


def _shell_text(image: BuiltImage, instruction: Instruction) -> Word | None:
    """Return the text that a shell reads, given behind ``-c`` or by CMD to such an ENTRYPOINT."""
    words, _ = unwrapped(instruction.exec_form or ())
    if instruction.keyword == "CMD":
        entrypoint = image.last("ENTRYPOINT")
        if entrypoint is not None and not _only_wraps(entrypoint):
            before, _ = unwrapped(entrypoint.exec_form or ())
            words = (*before, *words) if before and before[-1].text == "-c" else ()
    argument = shell_argument(words)
    if argument is None or not is_shell(words[0].text):
        return None
    is_own = any(argument is word for word in instruction.exec_form or ())
    return argument if is_own else None
