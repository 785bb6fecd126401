"""How a service of Flask is started, and how Uvicorn would start it in its place."""

from __future__ import annotations

import ast
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.codemods.launch_sites import with_words
from mega_optimizer.codemods.serving.development import Served, served_by
from mega_optimizer.codemods.serving.flask_module import Blocker
from mega_optimizer.codemods.serving.scripts import script_of
from mega_optimizer.codemods.serving.surroundings import (
    debugging,
    is_for_developers,
    mounted_code,
)
from mega_optimizer.repository.dockerfile import lineage, shipping_stage
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.codemods.serving.flask_module import FlaskModule
    from mega_optimizer.repository.dockerfile import Instruction
    from mega_optimizer.repository.service import LaunchSite

# Variables that only Flask's own commands read.
VARIABLES = frozenset({"FLASK_APP", "FLASK_RUN_HOST", "FLASK_RUN_PORT"})
ADDRESS = re.compile(r"(?P<host>[\w.]*):(?P<port>\d+)")
# gunicorn's options by what they are for Uvicorn; None for what only concerns its own workers.
GUNICORN = {
    "-b": "bind", "--bind": "bind", "-w": "--workers", "--workers": "--workers",
    "--log-level": "--log-level", "--threads": "threads", "-k": "class", "--worker-class": "class",
    "-t": None, "--timeout": None, "--graceful-timeout": None, "--access-logfile": None,
    "--error-logfile": None,
}  # fmt: skip
# Files that may start a service, and what in them does so with Flask.
STARTING = re.compile(
    r"(?:^|/)(?:Makefile|Procfile|justfile|\.flaskenv|\.env|[^/]+\.(?:sh|ya?ml|toml|ini|cfg|json))$"
)
STARTS = re.compile(rb"\bflask (?:--\S+ \S+ )?run\b|\bgunicorn \S|\buwsgi\b|\bFLASK_[A-Z]+")
THREADED = frozenset({"gthread"})


@dataclass(frozen=True, slots=True)
class Start:
    """The words ``first:last`` of ``site`` that give way to ``words``; none where all may stay."""

    site: LaunchSite
    first: int = 0
    last: int = 0
    words: tuple[str, ...] = ()
    threaded: bool = True


def read_starts(context: Context, module: FlaskModule) -> tuple[list[Start], list[Blocker]]:
    """Return how each launch site would start the converted module, and what stands against it."""
    starts: list[Start] = []
    blockers: list[Blocker] = []
    for site in context.launch:
        if site.source == "python":
            continue
        found = _start(context, module, site)
        if isinstance(found, Blocker):
            blockers.append(found)
        else:
            starts.append(found)
    if not starts and not blockers:
        blockers.append(Blocker(module.place, "launch-unknown", "what starts it is not known"))
    if any(not each.threaded for each in starts):
        blockers += _shared_objects(context, module)
    blockers += _in_variables(context)
    if not module.blockers and not blockers:
        blockers += _elsewhere(context, module)
    return starts, blockers


def _start(context: Context, module: FlaskModule, site: LaunchSite) -> Start | Blocker:
    if is_for_developers(context, site):
        return Blocker(site.place, "launch-for-developers", "a command is written for developers")
    if site.server == "gunicorn":
        return _gunicorn(context, module, site)
    if site.server not in ("python", "flask"):
        text = f"what {site.command[:60]} starts is not understood"
        return Blocker(site.place, "launch-not-understood", text)
    served = served_by(context, site)
    if isinstance(served, Skip) and served.code not in ("main-block-does-more", "address-unknown"):
        return Blocker(served.place, served.code, served.reason)
    reloads = isinstance(served, Served) and served.reloads
    mounted = mounted_code(context, site) if reloads else None
    if mounted is not None:
        return Blocker(mounted, "code-mounted", "code is mounted, to be reloaded when it changes")
    if site.server == "python":
        script = script_of(context, site, site.application or "")
        if script is None or script.path != module.facts.path or module.run is None:
            text = f"{site.command[:60]} does not start this module"
            return Blocker(site.place, "launch-not-understood", text)
        return Start(site)
    if (
        not isinstance(served, Served)
        or served.application != module.name
        or (
            served.host.variable or served.port.variable or not _runs(context, site, served, module)
        )
    ):
        text = "which application flask run serves, or where, cannot be told"
        return Blocker(site.place, "launch-not-understood", text)
    words = [posixpath.join(posixpath.dirname(site.words[0].text), "uvicorn")]
    if served.options:
        words += ["--app-dir", served.options[1]]
    words += ["--host", served.host.text or "", "--port", served.port.text or ""]
    return Start(site, *served.words, (*words, f"{served.module}:{module.name}"))


def _runs(context: Context, site: LaunchSite, served: Served, module: FlaskModule) -> bool:
    folder = served.options[1] if served.options else ""
    name = posixpath.join(folder, *served.module.split(".")) + ".py"
    script = script_of(context, site, name)
    return script is not None and script.path == module.facts.path


def _gunicorn(context: Context, module: FlaskModule, site: LaunchSite) -> Start | Blocker:
    unknown = Blocker(site.place, "launch-not-understood", "gunicorn is given more than an address")
    texts = [word.text for word in site.words]
    target, _, name = (site.application or "").partition(":")
    script = script_of(context, site, f"{target.replace('.', '/')}.py")
    files = context.files.paths
    configured = any(posixpath.basename(each) == "gunicorn.conf.py" for each in files)
    if script is None or script.path != module.facts.path or name != module.name or configured:
        return unknown
    words, threads, kind = [posixpath.join(posixpath.dirname(texts[0]), "uvicorn")], 1, "sync"
    position, bound = 1, False
    while position < len(texts):
        option, equals, value = texts[position].partition("=")
        if texts[position] == site.application:
            position += 1
            continue
        if option not in GUNICORN or (not equals and position + 1 == len(texts)):
            return unknown
        value = value if equals else texts[position + 1]
        position += 1 if equals else 2
        meaning = GUNICORN[option]
        if meaning == "bind":
            address = ADDRESS.fullmatch(value)
            if address is None or bound:
                return unknown
            bound = True
            words += ["--host", address["host"] or "0.0.0.0", "--port", address["port"]]
        elif meaning == "threads":
            threads = int(value) if value.isdigit() else 2
        elif meaning == "class":
            kind = value
        elif meaning is not None:
            words += [meaning, value]
    if kind not in ("sync", "gthread"):
        return unknown
    if threads > 1 or kind in THREADED:
        text = "gunicorn's threads answer about as much as FastAPI's would"
        return Blocker(site.place, "threads-already", text)
    if not bound or site.words[0].text.rpartition("/")[2] != "gunicorn":
        return unknown
    words.append(f"{target}:{name}")
    return Start(site, 0, len(texts), tuple(words), threaded=False)


def _shared_objects(context: Context, module: FlaskModule) -> Iterator[Blocker]:
    """Yield what handlers would share with others at once, where one request went at a time."""
    own = next(iter(context.program.imports(module.facts.path)), None)
    if own is not None:
        text = f"one request went at a time, and {own} may count on it"
        yield Blocker(module.place, "one-request-at-a-time", text)
        return
    for name, line in _objects(module.source.tree, module.name):
        used = any(
            isinstance(node, ast.Name) and node.id == name
            for function in ast.walk(module.source.tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
        )
        if used:
            text = f"one request went at a time, and {name} is shared by all"
            place = Place(module.facts.path, line)
            yield Blocker(place, "one-request-at-a-time", text)
            return


def _objects(tree: ast.Module, application: str) -> Iterator[tuple[str, int]]:
    """Yield the names at the top level that may be objects with a state."""
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
            continue
        for node in ast.walk(statement):
            if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Store):
                continue
            if node.id == application:
                continue
            value = getattr(statement, "value", None)
            text = ast.unparse(value) if isinstance(value, ast.expr) else ""
            harmless = isinstance(value, ast.Constant) or re.match(
                r"os\.getenv\(|os\.environ|logging\.getLogger\(|(int|float|str)\(os\.", text
            )
            if not harmless:
                yield node.id, statement.lineno


def _in_variables(context: Context) -> Iterator[Blocker]:
    """Yield the variables for Flask that stand where they are not edited."""
    debug = debugging(context)
    if debug is not None:
        yield Blocker(debug, "flask-variables", "Flask's debug mode is switched on")
    for each in context.service.deployments:
        named = sorted(name for name in each.environment if name.startswith("FLASK_"))
        if named:
            yield Blocker(each.place, "flask-variables", f"it is given {', '.join(named)}")
    for instruction in _settings(context):
        names = set(instruction.values[::2])
        flask = {name for name in names if name.startswith("FLASK_")}
        if flask and (names != flask or not flask <= VARIABLES):
            place = Place(context.service.dockerfile or "", instruction.line)
            yield Blocker(place, "flask-variables", f"the image sets {', '.join(sorted(flask))}")


def _elsewhere(context: Context, module: FlaskModule) -> Iterator[Blocker]:
    """Yield files of the service that start Flask, or set its variables, and are not edited."""
    root = f"{context.service.root}/" if context.service.root else ""
    known = {each.place.path for each in context.launch} | {context.service.dockerfile}
    for path in context.files.paths:
        if not path.startswith(root) or path in known or not STARTING.search(path):
            continue
        content = context.read(path)
        found = STARTS.search(content) if isinstance(content, bytes) else None
        if found is not None:
            text = f"{path} holds {found[0].decode()}"
            yield Blocker(Place(path), "launch-elsewhere", text)


def _settings(context: Context) -> Iterator[Instruction]:
    path = context.service.dockerfile
    parsed = context.dockerfile(path) if path else None
    if parsed is None or isinstance(parsed, Problem):
        return
    stage = shipping_stage(parsed, context.service.stage)
    for part in lineage(parsed, stage) if stage is not None else ():
        yield from (each for each in part.instructions if each.keyword == "ENV" and not each.opaque)


def start_edits(context: Context, starts: list[Start]) -> Edits | Skip:
    """Return the edits of the launch commands, and of the image's variables for Flask."""
    edits: list[Edit] = []
    for each in starts:
        if not each.words:
            continue
        found = with_words(context, each.site, each.first, each.last, each.words)
        if isinstance(found, Skip):
            return found
        edits += found
    path = context.service.dockerfile
    content = context.read(path) if path else b""
    for instruction in _settings(context):
        names = set(instruction.values[::2])
        if path and isinstance(content, bytes) and names and names <= VARIABLES:
            end = content.find(b"\n", instruction.end) + 1 or len(content)
            start = content.rfind(b"\n", 0, instruction.start) + 1
            edits.append(Edit(path, start, end, b""))
    return tuple(edits)
