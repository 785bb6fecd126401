"""Refresh what locks a manifest after an edit, running no code of the target.

No other package may move: what uv would change besides is a skip (``lock-moves-others``).
Locks of Poetry, PDM and Pipenv are left alone, because their own lockers may build the project.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.engine.resolve import PLATFORM, Question, lowest_python, worded
from mega_optimizer.repository.dependencies.model import Manifest
from mega_optimizer.repository.dependencies.requirements import (
    compile_command,
    logical_lines,
    read_requirements,
)
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mega_optimizer.engine.resolve import Resolver
    from mega_optimizer.repository.dependencies.model import Dependencies, Dependency
    from mega_optimizer.repository.files import Files

ENTRY = re.compile(rb"[A-Za-z0-9]")
PROJECT = re.compile(rb"[\w.-]+ \([\w./-]*(?:pyproject\.toml|setup\.\w+)\)")


def refresh_locks(
    files: Files,
    dependencies: Dependencies,
    changed: Mapping[str, bytes],
    resolver: Resolver | None,
    *,
    stale_locks: bool = False,
    python: str | None = None,
) -> Mapping[str, bytes] | Skip:
    """Return the new content of every lock of the manifests in ``changed`` (path → new bytes).

    ``files`` and ``dependencies`` are those before the change; without a resolver no lock can be
    refreshed. With ``stale_locks`` locks are
    left as they are. ``python`` is the version that compiled files are for, where they do not say.

    Skip codes: ``lock-not-refreshable``, ``lock-moves-others``.
    """
    from mega_optimizer.engine.uv_lock import refresh_uv_lock

    refreshed: dict[str, bytes] = {}
    if stale_locks:
        return refreshed
    for manifest in dependencies.manifests:
        lock = manifest.path if manifest.compiled_from in changed else manifest.lock
        is_changed = manifest.compiled_from in changed or manifest.path in changed
        if lock is None or not is_changed or lock in refreshed:
            continue
        result: bytes | Skip
        if resolver is None:
            return Skip(Place(lock), "lock-not-refreshable", "no resolver was asked")
        if manifest.compiled_from in changed:
            source = manifest.compiled_from or ""
            result = _compiled(files, dependencies, source, lock, changed, resolver, python)
        elif posixpath.basename(lock) == "uv.lock":
            result = refresh_uv_lock(files, manifest, changed, resolver)
        elif lock.endswith(".txt"):
            source = manifest.path
            result = _compiled(files, dependencies, source, lock, changed, resolver, python)
        else:
            name = posixpath.basename(lock)
            reason = f"{name} can only be refreshed by a locker that may build the project"
            result = Skip(Place(lock), "lock-not-refreshable", reason)
        if isinstance(result, Skip):
            return result
        refreshed[lock] = result
    return refreshed


def _compiled(
    files: Files,
    dependencies: Dependencies,
    source: str,
    output: str,
    changed: Mapping[str, bytes],
    resolver: Resolver,
    python: str | None,
) -> bytes | Skip:
    """Return a compiled requirements file with the lines of what ``source`` gained."""
    place = Place(output)
    content = files.read(output)
    locked = read_requirements(output, content)
    before, after = _declared(source, files.read(source)), _declared(source, changed[source])
    if isinstance(locked, Problem) or before is None or after is None:
        return Skip(place, "lock-not-refreshable", f"{source} cannot be read")
    header = [line.raw.decode("utf-8", "replace").strip() for line in logical_lines(content)][:12]
    command = compile_command(header)
    if locked.problems or locked.own_index or command[:2] == ["uv", "export"]:
        reason = "it has lines, indexes or an origin that cannot be reproduced"
        return Skip(place, "lock-not-refreshable", reason)
    known = {worded(entry) for entry in before}
    added = [worded(entry) for entry in after if worded(entry) not in known]
    if not added:
        return content
    version = _python_version(command, header) or python
    version = version or lowest_python(dependencies.requires_python)
    question = Question(
        tuple(added),
        tuple(worded(entry) for entry in locked.dependencies if entry.origin == "index"),
        options=("--python-version", version, *_options(content, command)),
    )
    answer = resolver.compile(question)
    if isinstance(answer, Problem):
        code = "lock-moves-others" if answer.code == "no-solution" else "lock-not-refreshable"
        return Skip(place, code, answer.message)
    blocks = _new_blocks(answer, locked, _origin(content, source))
    return _merged(content, blocks)


def _declared(path: str, content: bytes) -> list[Dependency] | None:
    from mega_optimizer.repository.dependencies.pyproject import read_pyproject
    from mega_optimizer.repository.dependencies.setup_cfg import read_setup_cfg

    name = posixpath.basename(path)
    readers = {"pyproject.toml": read_pyproject, "setup.cfg": read_setup_cfg}
    manifest = readers.get(name, read_requirements)(path, content)
    if isinstance(manifest, Problem):
        return None
    return [entry for entry in manifest.dependencies if not entry.group]


def _python_version(command: Sequence[str], header: Sequence[str]) -> str | None:
    """Return the version of Python that a compiled file says it is for."""
    for before, word in zip(command, [*command[1:], ""], strict=False):
        name, equals, value = before.partition("=")
        if name in ("--python-version", "-p", "--python"):
            version = value if equals else word
            return version if re.fullmatch(r"\d+(\.\d+)+", version) else None
    found = re.search(r"with Python (\d+\.\d+)", "\n".join(header), re.IGNORECASE)
    return found[1] if found else None


def _options(content: bytes, command: Sequence[str]) -> list[str]:
    """Return the options of uv that give the style the file is written in."""
    universal = "--universal" in command
    options = ["--universal"] if universal else ["--python-platform", PLATFORM]
    if b"--hash=" in content:
        options.append("--generate-hashes")
    if b"# via" not in content:
        options.append("--no-annotate")
    elif re.search(rb"(?m)^[A-Za-z0-9].*# via", content):
        options += ["--annotation-style", "line"]
    return options


def _origin(content: bytes, source: str) -> bytes:
    """Return how the file words that its input asks for a package (``-r requirements.in``)."""
    name = posixpath.basename(source).encode()
    found = re.search(rb"-r [^\s,]*" + re.escape(name), content) or PROJECT.search(content)
    return found[0] if found else b"-r " + name


def _new_blocks(answer: str, locked: Manifest, origin: bytes) -> dict[str, bytes]:
    """Return the lines of what ``answer`` has and the file has not, by normalised name."""
    known = {entry.name for entry in locked.dependencies}
    blocks: dict[str, bytes] = {}
    for name, block in _blocks(answer.encode()):
        if name not in known:
            block = block.replace(b"-r requirements.in", origin)
            blocks[name] = blocks.get(name, b"") + block
    return blocks


def _blocks(content: bytes) -> list[tuple[str, bytes]]:
    """Return the entries of a compiled file with the indented comments below them."""
    blocks: list[tuple[str, bytes]] = []
    for line in logical_lines(content):
        if ENTRY.match(line.raw):
            name = re.split(r"[^A-Za-z0-9._-]", line.text, maxsplit=1)[0]
            blocks.append((re.sub(r"[-_.]+", "-", name).lower(), line.raw))
        elif blocks and line.raw[:1] in (b" ", b"\t") and line.raw.strip():
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + line.raw)
    return blocks


def _merged(content: bytes, blocks: Mapping[str, bytes]) -> bytes:
    """Insert ``blocks`` where their names sort; every other byte stays."""
    ending = b"\r\n" if b"\r\n" in content else b"\n"
    for name, block in sorted(blocks.items()):
        block = block.replace(b"\n", ending)
        position = end = 0
        for known, text in _blocks(content):
            start = content.index(text, position)
            position = start + len(text)
            if known < name:
                end = position
        if end == 0:
            first = next(iter(_blocks(content)), None)
            end = content.index(first[1]) if first else len(content)
        if end and not content[:end].endswith((b"\n", b"\r")):
            content = content[:end] + ending + block.removesuffix(ending) + content[end:]
        else:
            content = content[:end] + block + content[end:]
    return content
