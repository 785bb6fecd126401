"""Keep the repository's history and local caches out of the build context.

https://docs.docker.com/build/concepts/context/#dockerignore-files
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.git_readers import git_readers, named_scripts
from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.repository.dockerfile import copies, environment_at
from mega_optimizer.repository.dockerfile.expand import expand
from mega_optimizer.repository.dockerignore import (
    Pattern,
    context_files,
    ignore_file,
    ignored,
    parse_dockerignore,
)
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dockerfile import Dockerfile, Stage

_DOCKERFILE_NAME = re.compile(r"(?i)(?:^|.*\.)(?:docker|container)file(?:\..*)?$")
_WHOLE_CONTEXT = frozenset({".", "./", "/", "*", "./*", "/*", "**", "./."})
_FILE_NAME = re.compile(r"(?<![\w./-])[\w./-]+\.(?:txt|py|sh|toml|cfg|lock|ini)\b")
_MANIFEST = re.compile(
    r"^(?:requirements.*\.(?:txt|in)|pyproject\.toml|setup\.py|setup\.cfg|Pipfile)$"
)
_LEFT_BEHIND = re.compile(r"__pycache__|\.py\[|\.pyc|venv|^env$|_cache$")
_FOLDERS = (".github", ".idea", ".vscode")
_BUILD_FILES = ("pyproject.toml", "setup.cfg", "MANIFEST.in")
_MAKES_ENVIRONMENT = re.compile(
    rb"uv +(?:\S+ +)*?(?:sync|venv)|-m +venv|virtualenv|poetry|pipenv|pdm|conda"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of an ignore file, and a path that it is there to keep out."""

    line: str
    sample: str
    # Tracked files below it may stay out too: nothing in an image reads them.
    may_be_tracked: bool = False
    # Worth a change to a file that somebody wrote: the history, and what is large or everywhere.
    essential: bool = False


def find(context: Context) -> Iterator[Fix | Skip]:
    """Yield the ignore file that the service's build lacks, or the lines that it lacks."""
    service = context.service
    if service.dockerfile is None:
        return
    dockerfile = context.dockerfile(service.dockerfile)
    if isinstance(dockerfile, Problem):
        yield _unreadable(dockerfile)
        return
    place = _copy_of_whole_context(dockerfile)
    idle = None
    if place is None:
        reason = "No COPY or ADD takes the whole build context"
        idle = Skip(Place(dockerfile.path), "context-not-copied", reason)
    elif not _context_is_known(context, dockerfile):
        reason = "Nothing proves which folder this Dockerfile is built with"
        idle = Skip(place, "context-unknown", reason)
    existing = ignore_file(context.files, service.root, dockerfile.path)
    content = context.read(existing) if existing else b""
    if isinstance(content, Problem):
        yield _unreadable(content)
        return
    patterns = parse_dockerignore(existing or "", content)
    if isinstance(patterns, Problem):
        yield _unreadable(patterns)
        return
    path = existing or posixpath.join(service.root, ".dockerignore")

    missing = tuple(_missing(context, patterns))
    if existing:
        missing = tuple(entry for entry in missing if entry.essential)
        missing = missing if any(entry.line != ".venv" for entry in missing) else ()
    place = place or Place(dockerfile.path)
    obstacle = _obstacle(context, place, patterns, missing) if missing else None
    if (
        not existing
        and obstacle is None
        and idle is None
        and not _is_worth_a_file(context, missing)
    ):
        reason = "nothing says that its build context ever holds more than the checkout"
        idle = Skip(place, "nothing-left-behind", reason) if missing else None
    if idle is not None:
        needs_folder = any(_is_named_in_code(context, folder) for folder in _FOLDERS)
        yield idle if obstacle or needs_folder else replace(idle, agrees_to=path)
    elif obstacle is not None:
        yield obstacle
    elif missing:
        yield _fix(place, path, content, missing)


def _is_worth_a_file(context: Context, missing: tuple[Entry, ...]) -> bool:
    """Whether a first ignore file keeps out what is there: history, or what git itself ignores.

    A checkout holds neither caches nor environments; that people have them beside the code is what
    an entry of a .gitignore says.
    """
    if any(entry.line == ".git" for entry in missing):
        return True
    return any(_LEFT_BEHIND.search(name) for name in _ignored_by_git(context))


def _unreadable(problem: Problem) -> Skip:
    return Skip(Place(problem.path, problem.line), problem.code, problem.message)


def _copy_of_whole_context(dockerfile: Dockerfile) -> Place | None:
    for stage in dockerfile.stages:
        for line, source in _sources(dockerfile, stage):
            if source in _WHOLE_CONTEXT:
                return Place(dockerfile.path, line)
    return None


def _sources(dockerfile: Dockerfile, stage: Stage) -> Iterator[tuple[int, str]]:
    """Yield (line, path) of what ``stage`` takes from its build context."""
    for instruction in stage.instructions:
        copy = copies(instruction)
        if copy and copy.from_stage is None:
            environment = environment_at(dockerfile, stage, instruction)
            for source in copy.sources:
                written = expand(source, environment)
                if written is not None and "://" not in written:
                    yield instruction.line, written
        for flag in instruction.flags:
            options = dict(part.partition("=")[::2] for part in flag.value.split(","))
            binds = flag.name == "mount" and options.get("type", "bind") == "bind"
            if binds and "from" not in options:
                yield instruction.line, options.get("source", options.get("src", "."))


def _context_is_known(context: Context, dockerfile: Dockerfile) -> bool:
    """Whether the root of the service is the build context for certain.

    Compose names the context; without compose, the root must be the only folder that holds all
    files which the Dockerfile copies or runs by name. Names that are nowhere prove nothing.
    """
    service = context.service
    copied = {
        source.lstrip("/").removeprefix("./")
        for stage in dockerfile.stages
        for _, source in _sources(dockerfile, stage)
        if source not in _WHOLE_CONTEXT
    }
    run = {
        name.removeprefix("./")
        for instruction in dockerfile.instructions
        if instruction.keyword in ("RUN", "CMD", "ENTRYPOINT")
        for value in instruction.values
        for name in _FILE_NAME.findall(value)
    }
    held = {
        root: {name for name in copied | run if _exists(context, posixpath.join(root, name))}
        for root in {service.root, posixpath.dirname(dockerfile.path), ""}
    }
    everything = set().union(*held.values())
    fitting = {root for root, names in held.items() if names == everything}
    built_by_compose = any(entry.kind == "compose" for entry in service.deployments)
    return service.root in fitting if built_by_compose else fitting == {service.root}


def _exists(context: Context, path: str) -> bool:
    path = posixpath.normpath(path)
    folder = f"{path}/"
    return path in context.files or any(name.startswith(folder) for name in context.files.paths)


def _missing(context: Context, patterns: tuple[Pattern, ...]) -> Iterator[Entry]:
    """Yield the entries that would keep something more out, and nothing that the build needs."""
    tracked = [inner for inner, _ in context_files(context.files, context.service.root, patterns)]
    for entry in _candidates(context, tracked):
        pattern = Pattern(entry.line, 0)
        if ignored(patterns, entry.sample):
            continue
        if not entry.may_be_tracked and any(pattern.matches(path) for path in tracked):
            continue
        yield entry


def _candidates(context: Context, tracked: list[str]) -> Iterator[Entry]:
    """Yield what is worth a line in this context, the largest first."""
    if not context.service.root and context.files.holds_history:
        yield Entry(".git", ".git/HEAD", may_be_tracked=True, essential=True)
        for folder in _FOLDERS:
            has_it = any(path.startswith(f"{folder}/") for path in tracked)
            if has_it and not _is_named_in_code(context, folder):
                yield Entry(folder, f"{folder}/x", may_be_tracked=True)
    modules = [path for path in tracked if path.endswith(".py")]
    installs = any(_MANIFEST.fullmatch(path) for path in tracked)
    if installs or len(modules) > 1:
        deepest = max(map(posixpath.dirname, modules), key=len, default="")
        cache = posixpath.join(deepest, "__pycache__/x.pyc")
        yield Entry("**/__pycache__", cache, essential=True)
    if installs:
        yield Entry(".venv", ".venv/bin/python", essential=True)
        if "venv" in _ignored_by_git(context):
            yield Entry("venv", "venv/bin/python")
    yield from (
        Entry(cache, f"{cache}/x")
        for cache, proofs in _CACHES.items()
        if any(re.search(proofs, path) for path in tracked)
    )


def _is_named_in_code(context: Context, folder: str) -> bool:
    literal = f"{folder}/".encode()
    if any(context.modules(literal)):
        return True
    scripts = (
        path
        for path in context.files.paths
        if path.endswith((".sh", *_BUILD_FILES)) or _DOCKERFILE_NAME.match(posixpath.basename(path))
    )
    contents = (context.read(path) for path in scripts)
    return any(isinstance(content, bytes) and literal in content for content in contents)


# A tool's cache, and the files that prove that the tool is used in this folder.
_CACHES = {
    ".pytest_cache": r"^(pytest\.ini|conftest\.py|tests?/.*\.py|test_\w+\.py)$",
    ".mypy_cache": r"^\.?mypy\.ini$",
    ".ruff_cache": r"^\.?ruff\.toml$",
    ".tox": r"^tox\.ini$",
}


def _ignored_by_git(context: Context) -> set[str]:
    """Return the plain names that the .gitignore files of the root and of the context hold."""
    names: set[str] = set()
    for folder in {"", context.service.root}:
        content = context.read(posixpath.join(folder, ".gitignore"))
        if isinstance(content, bytes):
            names |= {
                line.strip().strip("/") for line in content.decode("utf-8", "replace").splitlines()
            }
    return names


def _obstacle(
    context: Context,
    place: Place,
    patterns: tuple[Pattern, ...],
    missing: tuple[Entry, ...],
) -> Skip | None:
    if _is_allow_list(patterns):
        return Skip(place, "allow-list", "The ignore file lists what it lets in")
    negated = [pattern for pattern in patterns if pattern.negated]
    for entry in missing:
        if any(_speaks_of(pattern, entry) for pattern in negated):
            return Skip(place, "re-included", f"The ignore file lets {entry.line} in on purpose")
    dockerfiles = tuple(_dockerfiles(context))
    for entry in missing:
        named = _copied_by_name(dockerfiles, entry)
        if named:
            return Skip(named, "copied-by-name", f"The build takes {entry.line} by name")
        used = _environment_in_use(context, dockerfiles, entry)
        if used:
            return Skip(used, "copied-by-name", f"The image uses the {entry.line} of the context")
    if any(entry.line == ".git" for entry in missing):
        reader = next(git_readers(context, dockerfiles), None)
        if reader:
            return Skip(reader, "reads-git", f"{reader} may read the .git folder")
    return None


def _is_allow_list(patterns: tuple[Pattern, ...]) -> bool:
    return any(not pattern.negated and pattern.text in ("*", "**", "**/*") for pattern in patterns)


def _speaks_of(pattern: Pattern, entry: Entry) -> bool:
    name = entry.line.removeprefix("**/")
    return name in pattern.text.split("/") or pattern.matches(entry.sample)


def _dockerfiles(context: Context) -> Iterator[Dockerfile]:
    """Yield the Dockerfiles that may be built with the service's context."""
    prefix = f"{context.service.root}/" if context.service.root else ""
    for path in context.files.paths:
        named = path.startswith(prefix) and _DOCKERFILE_NAME.match(posixpath.basename(path))
        if path == context.service.dockerfile or named:
            dockerfile = context.dockerfile(path)
            if not isinstance(dockerfile, Problem):
                yield dockerfile


def _copied_by_name(dockerfiles: Iterable[Dockerfile], entry: Entry) -> Place | None:
    pattern = Pattern(entry.line, 0)
    for dockerfile in dockerfiles:
        for stage in dockerfile.stages:
            for line, source in _sources(dockerfile, stage):
                path = posixpath.normpath(source.lstrip("/") or ".")
                if source not in _WHOLE_CONTEXT and pattern.matches(path):
                    return Place(dockerfile.path, line)
    return None


def _environment_in_use(
    context: Context, dockerfiles: tuple[Dockerfile, ...], entry: Entry
) -> Place | None:
    """Return where an image uses a virtual environment that it does not make itself."""
    if not entry.line.endswith("venv"):
        return None
    named = re.compile(rb"(?<![\w.-])" + re.escape(entry.line.encode()) + rb"/")
    without = tuple(each for each in dockerfiles if not _makes_environment(context, each.path))
    for path in (*(each.path for each in without), *named_scripts(context, without)):
        content = context.read(path)
        found = named.search(content) if isinstance(content, bytes) else None
        if isinstance(content, bytes) and found:
            return Place(path, content.count(b"\n", 0, found.start()) + 1)
    sites = context.service.launch if without else ()
    return next((site.place for site in sites if named.search(site.command.encode())), None)


def _makes_environment(context: Context, path: str) -> bool:
    content = context.read(path)
    return not isinstance(content, bytes) or _MAKES_ENVIRONMENT.search(content) is not None


def _fix(place: Place, path: str, content: bytes, missing: tuple[Entry, ...]) -> Fix:
    newline = b"\r\n" if b"\r\n" in content else b"\n"
    lines = newline.join(entry.line.encode() for entry in missing)
    ends_open = bool(content) and not content.endswith(b"\n")
    addition = newline + lines if ends_open else lines + newline
    names = ", ".join(entry.line for entry in missing)
    message = f"Keep {names} out of the build context"
    return Fix(place, message, (Edit(path, len(content), len(content), addition),))
