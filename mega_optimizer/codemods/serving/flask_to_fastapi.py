"""Convert services of Flask that are one module and speak JSON to FastAPI.

What FastAPI has no counterpart for is a blocker, each with a code of its own; one skip says all of
them. Where a service stays with Flask, ``serving/production-server`` changes what serves it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.serving.flask_additions import generated_names
from mega_optimizer.codemods.serving.flask_launch import read_starts, start_edits
from mega_optimizer.codemods.serving.flask_module import (
    Blocker,
    blockers_in_order,
    read_flask_module,
)
from mega_optimizer.codemods.serving.uvloop import REQUIREMENTS
from mega_optimizer.codemods.source import read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.serving.flask_launch import Start
    from mega_optimizer.codemods.serving.flask_module import FlaskModule
    from mega_optimizer.repository.dependencies.model import Dependency

# Uvicorn takes httptools where it is there: without it, h11 makes it slower than what it replaces.
# What serving/uvloop would add to the result comes along, so that a second run changes nothing.
REQUIRES = ("uvicorn>=0.20", *REQUIREMENTS.values(), "fastapi>=0.100")
IMPORT = rb"(?m)^\s*(?:from|import)\s+flask\b"
LEAVING = ("flask", "werkzeug")
SHOWN = 8  # blockers in one sentence


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for a service that can be converted, else one skip with all blockers."""
    program = context.program
    modules = list(program.containing(IMPORT, program.product, b"flask"))
    made = list(program.containing(rb"\bFlask\(", tuple(modules), b"Flask("))
    if not made:
        return
    if len(modules) > 1:
        reason = f"Flask is used in {len(modules)} modules: {', '.join(modules[:SHOWN])}"
        yield Skip(Place(made[0]), "several-modules", reason)
        return
    path = made[0]
    content, facts = context.read(path), context.python(path)
    source = read_source(path, content) if isinstance(content, bytes) else content
    if isinstance(source, Problem) or isinstance(facts, Problem):
        problem = source if isinstance(source, Problem) else facts
        assert isinstance(problem, Problem)
        yield Skip(Place(path, problem.line), problem.code, problem.message)
        return
    module = read_flask_module(facts, source)
    starts, against = read_starts(context, module)
    module.blockers += [*against, *_around(context, module)]
    blockers = list(blockers_in_order(module))
    if blockers:
        said = "; ".join(f"{each.text} ({each.place})" for each in blockers[:SHOWN])
        more = f"; and {len(blockers) - SHOWN} more" if len(blockers) > SHOWN else ""
        yield Skip(module.place, blockers[0].code, f"FastAPI would not do the same: {said}{more}")
        return
    count = sum(len(each.routes) for each in module.handlers)
    yield Fix(
        module.place,
        f"Serve {count} {'route' if count == 1 else 'routes'} with FastAPI instead of Flask",
        partial(_edits, context, module, starts),
        REQUIRES,
        beside="flask",
        drops=LEAVING if all(each.threaded for each in starts) else (*LEAVING, "gunicorn"),
    )


def _around(context: Context, module: FlaskModule) -> Iterator[Blocker]:
    """Yield what stands around the module: its tests, its importers, and its environment."""
    program, path = context.program, module.facts.path
    for test in program.tests:
        if path in program.imports(test):
            yield Blocker(Place(test), "tests-use-flask", f"{test} tests the application of Flask")
    for other in program.product:
        if other != path and path in program.imports(other):
            yield Blocker(Place(other), "imported-elsewhere", f"{other} imports the module")
    taken = sorted(generated_names(module) & module.facts.bound_names)
    if taken:
        yield Blocker(module.place, "names-taken", f"{', '.join(taken)} mean something else")
    if any(handler.takes_names for handler in module.handlers):
        text = "variables of a handler are called request, raw_body or payload"
        yield Blocker(module.place, "names-taken", text)
    extension = next((each for each in _declared(context) if each.name.startswith("flask-")), None)
    if extension is not None:
        yield Blocker(extension.place, "extensions", f"{extension.name} is declared")
    dotenv = next((each for each in _declared(context) if each.name == "python-dotenv"), None)
    if dotenv is not None and b"load_dotenv" not in module.source.content:
        text = "Flask's server reads .env files by itself"
        yield Blocker(dotenv.place, "dotenv", text)
    static = f"{path.rpartition('/')[0]}/static/".lstrip("/")
    if any(each.startswith(static) for each in context.files.paths):
        yield Blocker(module.place, "static-files", f"Flask serves the files below {static}")


def _declared(context: Context) -> Iterator[Dependency]:
    for manifest in context.dependencies.manifests:
        yield from manifest.dependencies


def _edits(context: Context, module: FlaskModule, starts: list[Start]) -> Edits | Skip:
    from mega_optimizer.codemods.serving.flask_conversion import converted

    code = converted(module)
    if isinstance(code, Skip):
        return code
    commands = start_edits(context, starts)
    if isinstance(commands, Skip):
        return commands
    return (*code, *commands)
