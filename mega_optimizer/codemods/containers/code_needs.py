"""What the Python code of a service needs of its image, beside its packages."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import shipped_files
from mega_optimizer.codemods.containers.program_needs import script_needs
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.tree import is_product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.containers.program_needs import Need
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.python import Call
    from mega_optimizer.repository.python.facts import Value

_RUNNERS = frozenset(
    {
        "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output",
        "subprocess.Popen", "subprocess.getoutput", "subprocess.getstatusoutput", "os.system",
        "os.popen", "shutil.which", "asyncio.create_subprocess_exec",
        "asyncio.create_subprocess_shell", "asyncio.subprocess.create_subprocess_exec",
        "asyncio.subprocess.create_subprocess_shell", "os.execv", "os.execve", "os.execvp",
        "os.execvpe", "os.execl", "os.execlp", "os.spawnv", "os.spawnvp", "os.spawnl",
        "os.spawnlp", "os.posix_spawn", "os.posix_spawnp", "pexpect.spawn", "pexpect.run",
        "distutils.spawn.find_executable", "anyio.run_process", "anyio.open_process",
    }
)  # fmt: skip
# They run programs too, whatever object they are called on.
_RUNNING_METHODS = (".Popen", ".check_output", ".check_call", ".getoutput")
_RUNNER_LITERALS = (
    b"subprocess", b"os.system", b"popen", b"which", b"os.exec", b"os.spawn", b"pexpect",
    b"find_executable", b"anyio",
)  # fmt: skip
_COMPILES = re.compile(
    rb"torch\.compile\b|\btorch_compile\b|\bpyximport\b|\bnumba\.pycc\b|\bcpp_extension\b"
    rb"|\bload_inline\b|\.set_source\(|\bffi\.verify\(|^[ \t]*(?:import|from)[ \t]+triton\b"
    rb"|\bCmdStanModel\b|\bbuild_ext\b|\bcupy\.RawKernel\b|\binductor\b",
    re.MULTILINE,
)
_INSTALLS = re.compile(
    rb"[\"']-m[\"'], *[\"']pip[\"']|[\"'](?:pip3?|uv)[\"'], *[\"'](?:pip|install)[\"']"
    rb"|\bpip\.main\(|\bensurepip\b|\bpip\._internal\b"
    rb"|\bspacy\.cli\b|\bspacy download\b|\bimport pip\b"
)
PACKAGE_PATHS = re.compile(
    rb"/usr/(?:local/)?bin/(?:python|pip|gunicorn|uvicorn|celery|flask|alembic|django)[\w.]*"
    rb"|/usr/local/lib/python|site-packages|dist-packages|\bbase_prefix\b|\bgetsitepackages\b"
    rb"|\bgetusersitepackages\b"
)
_LOADS_LIBRARIES = re.compile(
    rb"\bCDLL\(|\bLoadLibrary\(|\bfind_library\(|\bdlopen\(|\bcdll\.[a-z]"
)
_NEEDS_TK = re.compile(
    rb"^[ \t]*(?:import|from)[ \t]+(?:tkinter|turtle|_tkinter|idlelib)\b", re.MULTILINE
)
_HIDDEN_RUNNERS = re.compile(
    rb"^[ \t]*(?:import|from)[ \t]+(?:sh|plumbum|invoke|fabric|delegator|sarge)\b", re.MULTILINE
)
_SYSTEM_FILES = re.compile(rb"/usr/share/(?!zoneinfo|nginx)\w+")
_FILE_TYPES = re.compile(
    rb"\bmimetypes\b|\bStaticFiles\b|\bFileResponse\b|\bsend_file\b|\bsend_from_directory\b"
    rb"|\bguess_type\b|\bstatic_folder\b|\bwhitenoise\b|\bfiles=|\badd_static\b"
    rb"|\bstatic_file\b|\badd_static_route\b|\bapp\.static\(|\bStaticFileHandler\b"
    rb"|\bSimpleHTTPRequestHandler\b|\bupload_from_filename\b"
)
_IN_ANY_IMAGE = (
    (_COMPILES, "runtime-compiler", "{} compiles while the program runs"),
    (_INSTALLS, "installs-at-run-time", "{} installs packages while the program runs"),
    (PACKAGE_PATHS, "interpreter-path", "{} depends on where the packages are"),
)
_IN_THE_FULL_IMAGE = (
    (_LOADS_LIBRARIES, "loads-shared-library", "{} loads a library by its name"),
    (_NEEDS_TK, "runtime-library", "the slim image lacks the library behind {}"),
    (_HIDDEN_RUNNERS, "runtime-tool", "{} runs programs of the system"),
    (_SYSTEM_FILES, "system-files", "{} may come with the full image only"),
)
_CONFIGURATIONS = (".conf", ".ini", ".cfg", ".sh", ".service", ".crontab", "Procfile", ".bash")


def code_needs(context: Context, recipe: Recipe, *, was_full: bool) -> Iterator[Need]:
    """Yield what the modules that the image holds need, and the configuration beside them."""
    shipped = shipped_files(context, recipe)
    for path in context.service.modules:
        # A setup.py runs in the builder, which has all that the image had.
        is_setup = posixpath.basename(path) == "setup.py"
        if path in shipped and is_product(path, context.service.root) and not is_setup:
            content = context.read(path)
            if isinstance(content, bytes):
                yield from _module_needs(context, path, content, was_full)
    for path in sorted(shipped):
        content = context.read(path) if path.endswith(_CONFIGURATIONS) else b""
        found = PACKAGE_PATHS.search(content) if isinstance(content, bytes) else None
        if isinstance(content, bytes) and found:
            reason = f"{found[0].decode()} is not where the packages are"
            yield Skip(_place(path, content, found), "interpreter-path", reason)


def _module_needs(context: Context, path: str, content: bytes, was_full: bool) -> Iterator[Need]:
    first = content.partition(b"\n")[0].strip()
    if first.startswith(b"#!/usr/") and b"/env " not in first:
        reason = f"{first[2:].decode('utf-8', 'replace')} is not the Python of the packages"
        yield Skip(Place(path), "interpreter-path", reason)
    patterns = (*_IN_ANY_IMAGE, *_IN_THE_FULL_IMAGE) if was_full else _IN_ANY_IMAGE
    for pattern, code, reason in patterns:
        for found in pattern.finditer(content):
            if not _is_comment(content, found.start()):
                text = " ".join(found[0].decode("utf-8", "replace").split())
                yield Skip(_place(path, content, found), code, reason.format(text))
    if was_full and _FILE_TYPES.search(content):
        yield "media-types"
    if any(literal in content for literal in _RUNNER_LITERALS):
        yield from _runner_needs(context, path, was_full)


def _runner_needs(context: Context, path: str, was_full: bool) -> Iterator[Need]:
    facts = context.python(path)
    if isinstance(facts, Problem):
        if was_full:
            yield Skip(Place(path), "runtime-tool", f"{path} cannot be read: {facts.message}")
        return
    for call in facts.calls:
        if not _runs_a_program(call):
            continue
        place = Place(path, call.line)
        texts = _program_texts(next(iter(call.positional), None) or call.argument("args"))
        for text in texts or ():
            yield from script_needs(text, place, was_full=was_full)
        if texts is None and was_full:
            reason = f"{call.text} runs a program that is only known at run time"
            yield Skip(place, "runtime-tool", reason)


def _runs_a_program(call: Call) -> bool:
    if call.name is None:
        return call.text in _RUNNERS or call.text.endswith(_RUNNING_METHODS)
    return call.name in _RUNNERS


def _program_texts(value: Value | None) -> tuple[str, ...] | None:
    """Return the texts of the program and of shell commands in ``value``; None for unknown."""
    if value is None:
        return None
    if value.kind == "constant":
        return (value.constant,) if isinstance(value.constant, str) else None
    if value.kind != "collection" or not value.arguments:
        return None
    first, *rest = (argument.value for argument in value.arguments)
    if "sys.executable" in (first.name, first.text):
        return ()
    if first.kind != "constant" or not isinstance(first.constant, str):
        return None
    # What follows may be a script of its own: `["sh", "-c", "git log"]`.
    scripts = (each.constant for each in rest if isinstance(each.constant, str))
    return (first.constant, *(text for text in scripts if " " in text))


def _is_comment(content: bytes, position: int) -> bool:
    return b"#" in content[content.rfind(b"\n", 0, position) + 1 : position]


def _place(path: str, content: bytes, found: re.Match[bytes]) -> Place:
    return Place(path, content.count(b"\n", 0, found.start()) + 1)
