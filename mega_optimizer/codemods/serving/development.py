"""Which development server a launch command starts, and what of it gunicorn would serve."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.serving.addresses import Setting
from mega_optimizer.codemods.serving.django_project import django_application
from mega_optimizer.codemods.serving.flask_program import (
    FACTORIES,
    FlaskProgram,
    flask_program,
    makes_flask,
    returns_flask,
)
from mega_optimizer.codemods.serving.scripts import script_of
from mega_optimizer.repository.dockerfile import environment_at, shipping_stage
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.serving.scripts import Script
    from mega_optimizer.repository.service import LaunchSite

_ADDRESS = re.compile(r"(?:(?P<host>[\w.]+|\[[\da-fA-F:]+\]):)?(?P<port>\d+)")
# Options of ``flask run`` that only concern developing, and those that take a value.
_FLASK_FLAGS = frozenset(
    {"--reload", "--no-reload", "--debugger", "--no-debugger", "--with-threads", "--debug",
     "--no-debug"}
)  # fmt: skip
_FLASK_VALUES = frozenset({"--host", "-h", "--port", "-p", "--extra-files", "--exclude-patterns"})


@dataclass(frozen=True, slots=True)
class Served:
    """What a development server serves.

    ``words`` is the range of words of the launch site that gives way to ``program`` (the words
    that start gunicorn), ``options``, and the import string. ``path`` and ``unguarded`` are the
    file and the lines that would start a server whenever the module is imported.
    """

    framework: str
    module: str
    application: str
    host: Setting
    port: Setting
    program: tuple[str, ...]
    words: tuple[int, int]
    options: tuple[str, ...] = ()
    reloads: bool = False
    path: str | None = None
    unguarded: tuple[int, int] | None = None


def served_by(context: Context, site: LaunchSite) -> Served | Skip | None:
    """Return what the development server of ``site`` serves; None where it starts none."""
    if site.server == "flask" and any(word.text == "run" for word in site.words[1:]):
        return _flask_run(context, site)
    if site.server != "python" or site.application is None:
        return None
    texts = [word.text for word in site.words]
    position = texts.index(site.application) if site.application in texts else 0
    rest = texts[position + 1 :]
    if posixpath.basename(site.application) == "manage.py" and rest[:1] == ["runserver"]:
        return _django(context, site, position, rest[1:])
    if not (context.service.trait("flask") and position):
        return None
    script = script_of(context, site, site.application)
    content = context.read(script.path) if script is not None else b""
    if script is None or isinstance(content, Problem):
        return None
    found = flask_program(context.program, script.path, content)
    if not isinstance(found, FlaskProgram):
        return found
    if rest:
        reason = "the program is given arguments that gunicorn would not hand on"
        return Skip(site.place, "arguments-unknown", reason)
    as_module = texts[position - 1].endswith("m") and texts[position - 1].startswith("-")
    return Served(
        "flask",
        script.module,
        found.application,
        found.host,
        found.port,
        ("gunicorn",) if as_module else ("-m", "gunicorn"),
        (position, len(texts)),
        ("--pythonpath", script.folder) if script.folder else (),
        found.reloads,
        script.path,
        found.unguarded,
    )


def _django(
    context: Context, site: LaunchSite, position: int, rest: list[str]
) -> Served | Skip | None:
    script = script_of(context, site, site.application or "")
    if script is None or script.folder:
        return None
    operands = [text for text in rest if not text.startswith("-")]
    unknown = [text for text in rest if text.startswith("-") and text != "--noreload"]
    address = _ADDRESS.fullmatch(operands[0]) if operands else None
    if unknown or len(operands) > 1 or (operands and address is None):
        reason = f"{' '.join(unknown or operands)} has no counterpart"
        return Skip(site.place, "arguments-unknown", reason)
    application = django_application(context, script.path)
    if isinstance(application, Skip):
        return application
    host = (address["host"] if address else None) or "127.0.0.1"
    return Served(
        "django",
        application,
        "application",
        Setting(host.strip("[]")),
        Setting(address["port"] if address else "8000"),
        ("-m", "gunicorn"),
        (position, len(site.words)),
        reloads="--noreload" not in rest,
    )


def _flask_run(context: Context, site: LaunchSite) -> Served | Skip:
    texts = [word.text for word in site.words]
    environment = _environment(context, site)
    given = _options(texts[1:])
    if given is None:
        reason = "an option of flask run has no counterpart, or is not known"
        return Skip(site.place, "arguments-unknown", reason)
    named = given.get("--app") or environment.get("FLASK_APP") or ""
    found = _flask_application(context, site, named)
    if found is None:
        reason = "which application flask run serves cannot be told"
        return Skip(site.place, "application-unknown", reason)
    script, application = found
    host, port = (
        _run_setting(context, given.get(option), environment, variable, default)
        for option, variable, default in (
            ("--host", "FLASK_RUN_HOST", "127.0.0.1"),
            ("--port", "FLASK_RUN_PORT", "5000"),
        )
    )
    program = posixpath.join(posixpath.dirname(texts[0]), "gunicorn")
    return Served(
        "flask",
        script.module,
        application,
        host,
        port,
        (program,),
        (0, len(texts)),
        ("--pythonpath", script.folder) if script.folder else (),
        reloads="--reload" in given or "--debug" in given or _debugs(environment),
    )


def _debugs(environment: Mapping[str, str]) -> bool:
    """Whether the image switches the reloader on, by Flask's variables."""
    from mega_optimizer.codemods.serving.surroundings import DEBUG_VARIABLES, OFF

    return any(environment.get(name, "").lower() not in OFF for name in DEBUG_VARIABLES)


def _environment(context: Context, site: LaunchSite) -> dict[str, str]:
    parsed = context.dockerfile(context.service.dockerfile) if context.service.dockerfile else None
    image: dict[str, str] = {}
    if parsed is not None and not isinstance(parsed, Problem):
        stage = shipping_stage(parsed, context.service.stage)
        known = environment_at(parsed, stage, arguments=False) if stage is not None else {}
        image = {name: value for name, value in known.items() if value is not None}
    return {**image, **site.environment}


def _options(texts: list[str]) -> dict[str, str] | None:
    """Return the options of ``flask [--app X] run …``, None where one of them is not known."""
    found: dict[str, str] = {}
    position = 0
    while position < len(texts):
        text = texts[position]
        name, equals, value = text.partition("=")
        name = {"-A": "--app", "-h": "--host", "-p": "--port"}.get(name, name)
        if text == "run":
            position += 1
        elif name in _FLASK_FLAGS:
            found[name] = ""
            position += 1
        elif name in _FLASK_VALUES or name == "--app":
            if not equals and position + 1 == len(texts):
                return None
            found[name] = value if equals else texts[position + 1]
            position += 1 if equals else 2
        else:
            return None
    return found


def _run_setting(
    context: Context,
    option: str | None,
    environment: Mapping[str, str],
    variable: str,
    default: str,
) -> Setting:
    if option is not None:
        shell = re.fullmatch(r"\$\{?(\w+)\}?|\$\{(\w+):-([\w.]+)\}", option)
        return Setting(shell[3], shell[1] or shell[2]) if shell else Setting(option)
    text = environment.get(variable, default)
    overridden = any(variable in each.environment for each in context.service.deployments)
    return Setting(text, variable) if overridden else Setting(text)


def _imported(context: Context, script: Script | None) -> Script | None:
    """Return ``script`` as Flask imports it: from above its package, where it belongs to one."""
    if script is None or not script.folder:
        return script
    package = posixpath.join(posixpath.dirname(script.path), "__init__.py")
    if package not in context.files:
        return script
    if "/" in script.folder or script.folder.startswith("."):
        return None
    return replace(script, module=f"{script.folder}.{script.module}", folder="")


def _flask_application(context: Context, site: LaunchSite, named: str) -> tuple[Script, str] | None:
    """Return the module and application that Flask finds (its ``cli.locate_app``)."""
    program = context.program
    where, _, name = named.partition(":")
    candidates = [where] if where else ["wsgi.py", "app.py"]
    for candidate in candidates:
        script = _imported(context, script_of(context, site, candidate))
        facts = program.facts(script.path) if script is not None else None
        if script is None or facts is None:
            continue
        if name:
            plain = name.removesuffix("()")
            if returns_flask(program, script.path, plain):
                return script, f"{plain}()"
            return (script, name) if makes_flask(program, script.path, name) else None
        for usual in ("app", "application"):
            if makes_flask(program, script.path, usual):
                return script, usual
        module_level = {each.target for each in facts.assignments if not each.scope}
        found = [one for one in sorted(module_level) if makes_flask(program, script.path, one)]
        if found:
            return (script, found[0]) if len(found) == 1 else None
        for factory in FACTORIES:
            function = facts.function(factory)
            takes = function is not None and any(
                each.default is None for each in function.parameters
            )
            if function is not None and not takes and returns_flask(program, script.path, factory):
                return script, f"{factory}()"
        return None
    return None
