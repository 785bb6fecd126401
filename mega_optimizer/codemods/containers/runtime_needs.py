"""What a service needs of its image at run time that the runtime stage would lack.

Looked at are the commands that start and check the service (Dockerfile, compose, Kubernetes, the
scripts that they name), its own Python modules, and the packages that it depends on.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.git_readers import git_readers
from mega_optimizer.codemods.containers.image_recipe import shipped_files, ships_history
from mega_optimizer.codemods.containers.runtime_libraries import (
    CALLED_PROGRAMS,
    COMPILERS_AT_RUN_TIME,
    OWN_INTERPRETERS,
    SERVE_FILES,
    UNKNOWN_LIBRARIES,
    libraries_of,
)
from mega_optimizer.codemods.containers.service_commands import (
    Started,
    mounted_paths,
    started_commands,
    started_scripts,
)
from mega_optimizer.codemods.containers.system_packages import PROGRAMS, TOOLCHAIN
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.shell import parse_shell
from mega_optimizer.repository.source import Source
from mega_optimizer.repository.tree import is_product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.containers.python_images import PythonImage
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.python import Call

_INSTALLERS = frozenset({"pip", "pip3", "uv", "uvx", "poetry", "pipenv", "pipx", "conda"})
# Programs for people who work in the container, with whatever else is in it.
_INTERACTIVE = frozenset({"ipython", "jupyter", "jupyter-lab", "jupyter-notebook", "jupyterhub"})
_RESETS_PATH = frozenset(
    {"cron", "crond", "sudo", "su", "runuser", "login", "sshd", "systemctl", "service"}
)
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
_RUNNER_LITERALS = (
    b"subprocess", b"os.system", b"popen", b"which", b"os.exec", b"os.spawn", b"pexpect",
    b"find_executable", b"anyio",
)  # fmt: skip
_HIDDEN_RUNNERS = re.compile(
    rb"^[ \t]*(?:import|from)[ \t]+(?:sh|plumbum|invoke|fabric|delegator|sarge)\b", re.MULTILINE
)
_COMPILES = re.compile(
    rb"torch\.compile\b|\btorch_compile\b|\bpyximport\b|\bnumba\.pycc\b|\bcpp_extension\b"
    rb"|\bload_inline\b|\.set_source\(|\bffi\.verify\(|^[ \t]*(?:import|from)[ \t]+triton\b"
    rb"|\bCmdStanModel\b|\bbuild_ext\b|\bcupy\.RawKernel\b|\binductor\b",
    re.MULTILINE,
)
_LOADS_LIBRARIES = re.compile(
    rb"\bCDLL\(|\bLoadLibrary\(|\bfind_library\(|\bdlopen\(|\bcdll\.[a-z]"
)
_WINDOWS = re.compile(
    rb"^[ \t]*(?:import|from)[ \t]+(?:tkinter|turtle|_tkinter|idlelib)\b", re.MULTILINE
)
_INSTALLS = re.compile(
    rb"[\"']-m[\"'], *[\"']pip[\"']|[\"'](?:pip3?|uv)[\"'], *[\"'](?:pip|install)[\"']"
    rb"|\bpip\.main\(|\bensurepip\b|\bpip\._internal\b"
    rb"|\bspacy\.cli\b|\bspacy download\b|\bimport pip\b"
)
_PATHS = re.compile(
    rb"/usr/(?:local/)?bin/(?:python|pip|gunicorn|uvicorn|celery|flask|alembic|django)[\w.]*"
    rb"|/usr/local/lib/python|site-packages|dist-packages|\bbase_prefix\b|\bgetsitepackages\b"
    rb"|\bgetusersitepackages\b"
)
_SYSTEM_FILES = re.compile(rb"/usr/share/(?!zoneinfo|nginx)\w")
_FILE_TYPES = re.compile(
    rb"\bmimetypes\b|\bStaticFiles\b|\bFileResponse\b|\bsend_file\b|\bsend_from_directory\b"
    rb"|\bguess_type\b|\bstatic_folder\b|\bwhitenoise\b|\bfiles=|\badd_static\b"
    rb"|\bstatic_file\b|\badd_static_route\b|\bapp\.static\(|\bStaticFileHandler\b|\bSimpleHTTPRequestHandler\b|\bupload_from_filename\b"
)
_CONFIGURATIONS = (".conf", ".ini", ".cfg", ".sh", ".service", ".crontab", "Procfile", ".bash")


@dataclass(frozen=True, slots=True)
class Needs:
    """The Debian packages that the runtime stage needs beside those that the image installs."""

    packages: tuple[str, ...] = ()


class _Refused(Exception):
    """A need that cannot be met."""

    def __init__(self, skip: Skip) -> None:
        super().__init__(skip.reason)
        self.skip = skip


def runtime_needs(
    context: Context,
    recipe: Recipe,
    image: PythonImage,
    packages: Mapping[str, frozenset[str]],
    kept: frozenset[str],
) -> Needs | Skip:
    """Return what is to be installed in the runtime stage, or why that is not known.

    ``packages`` are the Python packages with their extras, ``kept`` the Debian packages that
    stay in the image because it names them.
    """
    search = _Search(context, recipe, image, kept)
    try:
        search.commands()
        search.modules()
        search.dependencies(packages)
    except _Refused as refused:
        return refused.skip
    return Needs(tuple(name for name in search.needed if name not in kept))


class _Search:
    """Collects what is needed, and stops at the first need that cannot be met."""

    def __init__(
        self, context: Context, recipe: Recipe, image: PythonImage, kept: frozenset[str]
    ) -> None:
        self.context = context
        self.recipe = recipe
        self.was_full = not image.slim
        self.kept = kept
        self.needed: dict[str, None] = {}

    def need(self, *packages: str) -> None:
        self.needed |= dict.fromkeys(packages)

    def refuse(self, place: Place, code: str, reason: str) -> None:
        raise _Refused(Skip(place, code, reason))

    def program(self, name: str, place: Place) -> None:
        """Take note that the program ``name`` is run at ``place``."""
        program = posixpath.basename(name)
        if program in _INSTALLERS:
            self.refuse(place, "installs-at-run-time", f"{program} is used while the service runs")
        if program in _INTERACTIVE:
            self.refuse(place, "development-image", f"{program} is for people who may want more")
        if program in _RESETS_PATH:
            self.refuse(place, "path-reset", f"{program} may start programs with another PATH")
        if re.match(r"/usr/(local/)?bin/(python|pip)", name):
            self.refuse(place, "interpreter-path", f"{name} is not the Python of the packages")
        if program in TOOLCHAIN:
            self.refuse(place, "runtime-compiler", f"{program} is run by the service")
        if program in PROGRAMS and self.was_full:
            self.need(PROGRAMS[program])

    def script(self, text: str, place: Place, depth: int = 0) -> None:
        """Take note of the programs that a shell would run for ``text``."""
        for command in parse_shell(Source(text.encode("utf-8", "surrogateescape"), None)):
            for started in started_commands(command):
                self.program(started, place)
            if depth < 3:
                for word in command.words[1:]:
                    if " " in word.text.strip():
                        self.script(word.text, place, depth + 1)

    def commands(self) -> None:
        """Look at what starts and checks the service."""
        for place, text in mounted_paths(self.context):
            hides = posixpath.normpath(text) in ("/", "/opt") or text.startswith("/opt/venv")
            if hides or _PATHS.search(text.encode("utf-8", "surrogateescape")):
                self.refuse(place, "own-environment", f"{text} is mounted from outside")
        for deployment in self.context.service.deployments:
            for name in ("PATH", "PYTHONHOME", "VIRTUAL_ENV"):
                if name in deployment.environment:
                    self.refuse(deployment.place, "path-reset", f"it sets {name}")
        for started in started_scripts(self.context, self.recipe):
            self._started(started)

    def _started(self, started: Started) -> None:
        found = _PATHS.search(started.text.encode("utf-8", "surrogateescape"))
        if found and not self._is_copied(found[0].decode()):
            reason = f"{found[0].decode()} is not where the packages are"
            self.refuse(started.place, "interpreter-path", reason)
        self.script(started.text, started.place)

    def _is_copied(self, path: str) -> bool:
        return any(
            transfer.destination == path
            or (transfer.into and path.startswith(f"{transfer.destination}/"))
            for transfer in self.recipe.transfers
        )

    def modules(self) -> None:
        """Look at the Python code of the service, and at the configuration beside it."""
        shipped = shipped_files(self.context, self.recipe)
        for path in self.context.service.modules:
            # A setup.py runs in the builder, which has all that the image had.
            is_setup = posixpath.basename(path) == "setup.py"
            if path in shipped and is_product(path, self.context.service.root) and not is_setup:
                content = self.context.read(path)
                if isinstance(content, bytes):
                    self._module(path, content)
        for path in sorted(shipped):
            content = self.context.read(path) if path.endswith(_CONFIGURATIONS) else b""
            found = _PATHS.search(content) if isinstance(content, bytes) else None
            if isinstance(content, bytes) and found:
                reason = f"{found[0].decode()} is not where the packages are"
                self.refuse(_place(path, content, found), "interpreter-path", reason)
        if self.was_full and "git" not in self.kept and ships_history(self.context, self.recipe):
            reader = next(git_readers(self.context, (self.recipe.dockerfile,)), None)
            if reader is not None:
                reason = "it may ask git for the commit, and go on without an answer"
                self.refuse(reader, "reads-git", reason)

    def _module(self, path: str, content: bytes) -> None:
        patterns = [
            (_COMPILES, "runtime-compiler", "{} compiles while the program runs"),
            (_INSTALLS, "installs-at-run-time", "{} installs packages while the program runs"),
            (_PATHS, "interpreter-path", "{} depends on where the packages are"),
        ]
        if self.was_full:
            patterns += [
                (_LOADS_LIBRARIES, "loads-shared-library", "{} loads a library by its name"),
                (_WINDOWS, "runtime-library", "the slim image lacks the library behind {}"),
                (_HIDDEN_RUNNERS, "runtime-tool", "{} runs programs of the system"),
                (_SYSTEM_FILES, "system-files", "{} may come with the full image only"),
            ]
        first = content[:80].split(b"\n")[0]
        if first.startswith(b"#!/usr/") and b"/env " not in first:
            reason = (
                f"{first[2:].decode('utf-8', 'replace').strip()} is not the Python of the packages"
            )
            self.refuse(Place(path), "interpreter-path", reason)
        for pattern, code, reason in patterns:
            found = pattern.search(content)
            if found and not _is_comment(content, found.start()):
                text = " ".join(found[0].decode("utf-8", "replace").split())
                self.refuse(_place(path, content, found), code, reason.format(text))
        if self.was_full and _FILE_TYPES.search(content):
            self.need("media-types")
        if any(literal in content for literal in _RUNNER_LITERALS):
            self._runners(path)

    def _runners(self, path: str) -> None:
        facts = self.context.python(path)
        if isinstance(facts, Problem):
            reason = f"{path} cannot be read: {facts.message}"
            self.refuse(Place(path), "runtime-tool", reason)
            return
        for call in facts.calls:
            name = call.name or call.text
            if name in _RUNNERS or (call.name is None and call.text.endswith(_LAST_PARTS)):
                self._run(path, call)

    def _run(self, path: str, call: Call) -> None:
        place = Place(path, call.line)
        value = next(iter(call.positional), None) or call.argument("args")
        texts = _program_texts(value)
        if texts is not None:
            for text in texts:
                self.script(text, place)
        elif self.was_full:
            reason = f"{call.text} runs a program that is only known at run time"
            self.refuse(place, "runtime-tool", reason)

    def dependencies(self, packages: Mapping[str, frozenset[str]]) -> None:
        """Look at what the packages that the service depends on need."""
        place = Place(self.recipe.path, self.recipe.stage.origin.line)
        codes = [
            (COMPILERS_AT_RUN_TIME, "runtime-compiler", "{} compiles while the program runs"),
            (
                OWN_INTERPRETERS,
                "own-interpreter",
                "{} embeds Python and finds packages its own way",
            ),
        ]
        if self.was_full:
            reason = "the system libraries of {} are not known"
            codes.append((UNKNOWN_LIBRARIES, "unknown-shared-library", reason))
        for names, code, reason in codes:
            for name in sorted(names & packages.keys()):
                self.refuse(place, code, reason.format(name))
        libraries = libraries_of(packages)
        if not self.was_full:
            # Of what the tables know, a slim image has only what its compilers draw in.
            self.need(*(name for name in libraries if name == "libgomp1"))
            return
        self.need(*libraries)
        for name, programs in CALLED_PROGRAMS.items():
            if name in packages:
                self.need(*programs)
        if SERVE_FILES & packages.keys() or ("flask" in packages and self._has_static_files()):
            self.need("media-types")

    def _has_static_files(self) -> bool:
        root = self.context.service.root
        return any(
            "static/" in path[len(root) :] for path in shipped_files(self.context, self.recipe)
        )


_LAST_PARTS = tuple(f".{name}" for name in ("Popen", "check_output", "check_call", "getoutput"))


def _program_texts(value: object) -> tuple[str, ...] | None:
    """Return the texts of the program and of shell commands in ``value``; None for unknown."""
    from mega_optimizer.repository.python.facts import Value

    if not isinstance(value, Value):
        return None
    if value.kind == "constant":
        return (value.constant,) if isinstance(value.constant, str) else None
    if value.kind == "collection" and value.arguments:
        first, *rest = (argument.value for argument in value.arguments)
        if first.name == "sys.executable" or first.text == "sys.executable":
            return ()
        if first.kind != "constant" or not isinstance(first.constant, str):
            return None
        texts = [first.constant]
        texts += [each.constant for each in rest if isinstance(each.constant, str)]
        # What follows may be a script of its own: `["sh", "-c", "git log"]`.
        return (texts[0], *(text for text in texts[1:] if " " in text))
    return None


def _is_comment(content: bytes, position: int) -> bool:
    return b"#" in content[content.rfind(b"\n", 0, position) + 1 : position]


def _place(path: str, content: bytes, found: re.Match[bytes]) -> Place:
    return Place(path, content.count(b"\n", 0, found.start()) + 1)
