"""What a container runs: ENTRYPOINT and CMD together, through the scripts of the repository."""

from __future__ import annotations

import fnmatch
import posixpath
from typing import TYPE_CHECKING

from mega_optimizer.repository.dockerfile.expand import expand
from mega_optimizer.repository.dockerfile.stages import (
    copies,
    environment_at,
    lineage,
    shell_at,
    stage_named,
    workdir_at,
)
from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.launch.files import shell_launch
from mega_optimizer.repository.launch.script import Script, container_sites, script_sites
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.service import LaunchSite
from mega_optimizer.repository.shell import is_shell, parse_shell, shell_argument
from mega_optimizer.repository.wrappers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.repository.dockerfile.model import Dockerfile, Instruction, Stage
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.service import Word

# The PATH of every base image that matters here, in the order of the official Python image.
_PATH = ("/usr/local/bin", "/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def dockerfile_launch(
    dockerfile: Dockerfile, stage: Stage, files: Files, context: str | None = None
) -> tuple[LaunchSite, ...]:
    """Return what a container of ``stage`` runs, as Docker combines ENTRYPOINT and CMD.

    A shell script of the repository that is started is read; its sites stand in that script.
    ``context`` is the build context; None tries the folder of the Dockerfile and those above.
    Nothing is returned where the base image decides what runs.
    """
    entrypoint, command = start_instructions(dockerfile, stage)
    content = _read(files, dockerfile.path)
    environment = {
        name: value
        for name, value in environment_at(dockerfile, stage, arguments=False).items()
        if value is not None
    }
    arguments: tuple[LaunchSite, ...] = ()
    rest: tuple[Word, ...] = ()
    if command is not None and (entrypoint is None or entrypoint.exec_form is not None):
        script = Script(Place(dockerfile.path, command.line), "dockerfile", content, json=True)
        if command.exec_form is not None:
            rest = command.exec_form
            arguments = tuple(container_sites(rest, script, environment))
        elif command.shell is not None and is_shell(shell_at(dockerfile, stage, command)[0]):
            text = command.shell.text.decode("utf-8", "replace")
            script = Script(Place(dockerfile.path, command.line), "dockerfile", content)
            arguments = tuple(script_sites(parse_shell(command.shell), script, environment, text))
    if entrypoint is None or entrypoint.exec_form == ():
        started = _script_file(dockerfile, stage, rest, files, context)
        if started is None and command is not None and command.shell is not None:
            started = _shell_form_script(dockerfile, stage, command, files, context)
        return _script_launch(started, (), files, environment) or arguments
    script = Script(Place(dockerfile.path, entrypoint.line), "dockerfile", content, json=True)
    if entrypoint.exec_form is None:
        if entrypoint.shell is None:
            return ()
        started = _shell_form_script(dockerfile, stage, entrypoint, files, context)
        text = entrypoint.shell.text.decode("utf-8", "replace")
        plain = Script(script.place, "dockerfile", content)
        return _script_launch(started, (), files, environment) or tuple(
            script_sites(parse_shell(entrypoint.shell), plain, environment, text)
        )
    words = entrypoint.exec_form
    if not unwrapped(words)[0] and arguments:
        started = _script_file(dockerfile, stage, rest, files, context)
        return _script_launch(started, (), files, environment) or arguments
    started = _script_file(dockerfile, stage, words, files, context)
    return _script_launch(started, arguments, files, environment) or tuple(
        container_sites((*words, *rest), script, environment)
    )


def start_instructions(
    dockerfile: Dockerfile, stage: Stage
) -> tuple[Instruction | None, Instruction | None]:
    """Return the ENTRYPOINT and the CMD in force at the end of ``stage``.

    A stage that sets ENTRYPOINT without CMD drops the CMD that it inherited.
    """
    entrypoint: Instruction | None = None
    command: Instruction | None = None
    for part in lineage(dockerfile, stage):
        own = {
            instruction.keyword: instruction
            for instruction in part.instructions
            if instruction.keyword in ("ENTRYPOINT", "CMD") and not instruction.opaque
        }
        if "ENTRYPOINT" in own:
            entrypoint, command = own["ENTRYPOINT"], None
        command = own.get("CMD", command)
    return entrypoint, command


def _read(files: Files, path: str) -> bytes | None:
    try:
        return files.read(path)
    except UnreadableFile:
        return None


def _script_launch(
    path: str | None,
    arguments: tuple[LaunchSite, ...],
    files: Files,
    environment: dict[str, str],
) -> tuple[LaunchSite, ...]:
    """Return the sites of a script; a single one without a server where nothing can be told."""
    content = _read(files, path) if path is not None else None
    if path is None or content is None:
        return ()
    sites = shell_launch(path, content, arguments, environment)
    return sites or (LaunchSite(Place(path), "shell", path),)


def _shell_form_script(
    dockerfile: Dockerfile,
    stage: Stage,
    instruction: Instruction,
    files: Files,
    context: str | None,
) -> str | None:
    """Return the script that a shell form of a single command starts."""
    parsed = parse_shell(instruction.shell) if instruction.shell else ()
    if len(parsed) != 1 or parsed[0].inside:
        return None
    return _script_file(dockerfile, stage, parsed[0].words, files, context)


def _script_file(
    dockerfile: Dockerfile,
    stage: Stage,
    words: tuple[Word, ...],
    files: Files,
    context: str | None,
) -> str | None:
    """Return the path in the repository of the shell script that ``words`` start."""
    inner, _ = unwrapped(words)
    if inner and is_shell(inner[0].text) and shell_argument(inner) is None:
        inner = tuple(word for word in inner[1:] if not word.text.startswith("-"))
    elif inner and (argument := shell_argument(inner)) is not None:
        name = argument.text.strip().split()
        if len(name) != 1:
            return None
        return _in_repository(dockerfile, stage, name[0], files, context)
    if not inner:
        return None
    return _in_repository(dockerfile, stage, inner[0].text, files, context)


def _in_repository(
    dockerfile: Dockerfile, stage: Stage, program: str, files: Files, context: str | None
) -> str | None:
    # A base image hardly ever sets another folder; COPY is read with the same assumption.
    folder = workdir_at(dockerfile, stage) or "/"
    if program.startswith("/"):
        candidates = [program]
    elif "/" in program:
        candidates = [posixpath.join(folder, program)]
    else:
        candidates = [posixpath.join(part, program) for part in (*_PATH, folder)]
    for candidate in candidates:
        path = repository_file(dockerfile, stage, posixpath.normpath(candidate), files, context)
        if path is not None and _is_shell_script(path, _read(files, path)):
            return path
    return None


def _is_shell_script(path: str, content: bytes | None) -> bool:
    if content is None:
        return False
    first = content.split(b"\n", 1)[0]
    if first.startswith(b"#!"):
        return is_shell(first.split()[-1].decode("latin-1")) or any(
            is_shell(part.decode("latin-1")) for part in first.removeprefix(b"#!").split()
        )
    return path.endswith((".sh", ".bash"))


def repository_file(
    dockerfile: Dockerfile,
    stage: Stage,
    container_path: str,
    files: Files,
    context: str | None = None,
) -> str | None:
    """Return the file of the repository that stands at an absolute path in the image, if known.

    The last COPY that explains the path wins; stages named by ``--from`` are followed.
    """
    contexts = [context] if context is not None else list(_folders_above(dockerfile.path))
    for folder in contexts:
        found = _copied(dockerfile, stage, container_path, files, folder, 0)
        if found is not None:
            return found
    return None


def _folders_above(path: str) -> Iterator[str]:
    folder = posixpath.dirname(path)
    yield folder
    while folder:
        folder = posixpath.dirname(folder)
        yield folder


def _copied(
    dockerfile: Dockerfile,
    stage: Stage,
    container_path: str,
    files: Files,
    context: str,
    depth: int,
) -> str | None:
    if depth > len(dockerfile.stages):
        return None
    for part in reversed(lineage(dockerfile, stage)):
        for instruction in reversed(part.instructions):
            copy = copies(instruction)
            if copy is None:
                continue
            environment = environment_at(dockerfile, part, instruction)
            destination = expand(copy.destination, environment)
            folder = workdir_at(dockerfile, part, instruction) or "/"
            if destination is None:
                continue
            target = posixpath.normpath(posixpath.join(folder, destination))
            sources = [expand(source, environment) for source in copy.sources]
            for path in _origins(sources, target, container_path):
                if copy.from_stage is None:
                    inside = posixpath.normpath(posixpath.join(context, path.lstrip("/")))
                    if inside in files:
                        return inside
                elif other := stage_named(dockerfile, copy.from_stage):
                    found = _copied(
                        dockerfile, other, posixpath.normpath(path), files, context, depth + 1
                    )
                    if found is not None:
                        return found
    return None


def _origins(sources: Sequence[str | None], target: str, container_path: str) -> Iterator[str]:
    """Yield the paths that one COPY may have taken ``container_path`` from."""
    inside = posixpath.relpath(container_path, target)
    for source in sources:
        if source is None:
            continue
        if inside == ".":
            yield source
        elif not inside.startswith("../"):
            yield posixpath.join(source, inside)
            name = posixpath.basename(source.rstrip("/"))
            if fnmatch.fnmatchcase(inside, name):
                yield posixpath.join(posixpath.dirname(source.rstrip("/")), inside)
