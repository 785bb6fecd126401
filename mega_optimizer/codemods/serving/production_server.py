"""Serve with gunicorn's threads instead of a development server, and without reloaders in images.

Flask: "Do not use the development server when deploying to production"
(https://flask.palletsprojects.com/en/stable/deploying/). gunicorn's ``gthread`` workers answer one
request per thread, as the development server does
(https://docs.gunicorn.org/en/stable/design.html#asyncio-workers); the number of processes is its
setting ``WEB_CONCURRENCY``, one where nothing sets it. ``python -m gunicorn`` works since 20.1.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.launch_sites import with_words
from mega_optimizer.codemods.serving.addresses import bind
from mega_optimizer.codemods.serving.development import Served, served_by
from mega_optimizer.codemods.serving.hazards import multi_worker_hazards
from mega_optimizer.codemods.serving.process_count import (
    CONSERVATIVE,
    VARIABLE,
    affordable,
    chosen_at,
    ends_on_variable,
)
from mega_optimizer.codemods.serving.reloaders import reloader
from mega_optimizer.codemods.serving.surroundings import (
    debug_variable_edits,
    debugging,
    environment_edit,
    instruction_of,
    is_for_developers,
    mounted_code,
    stop_signal_edits,
)
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.repository.service import LaunchSite

REQUIRES = ("gunicorn>=20.1",)
SOCKETS = (rb"\b(?:flask_socketio|flask_sock|socketio)\b", rb"text/event-stream")


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each command that starts a development server or a reloader."""
    for site in context.launch:
        if site.source == "python":
            continue
        outcome = reloader(context, site)
        if outcome is not None:
            yield outcome
            continue
        served = served_by(context, site)
        if isinstance(served, Skip):
            yield served
        elif served is not None:
            yield _judge(context, site, served)


def _judge(context: Context, site: LaunchSite, served: Served) -> Outcome:
    place = site.place
    if is_for_developers(context, site):
        return Skip(place, "for-developers", "this command is written for developers")
    debug = debugging(context)
    mounted = mounted_code(context, site) if served.reloads or debug else None
    if mounted is not None:
        reason = f"code is mounted into the container ({mounted}), to be reloaded when it changes"
        return Skip(place, "code-mounted", reason)
    if debug is not None:
        return Skip(place, "debug-environment", f"Flask's debug mode is switched on ({debug})")
    for pattern, code, reason in (
        (SOCKETS[0], "socketio", "web sockets need a server that speaks them"),
        (SOCKETS[1], "streams", "streams of events occupy a thread for as long as they last"),
    ):
        path = next(context.program.containing(pattern, context.program.product), None)
        if path is not None:
            return Skip(place, code, f"{reason} ({path})")
    loader = _reads_dotenv(context)
    if loader is not None and served.framework == "flask":
        reason = f"only the development server reads .env files by itself ({loader})"
        return Skip(place, "dotenv", reason)
    for edit in debug_variable_edits(context):
        if isinstance(edit, Place):
            reason = "debug mode is switched on together with other variables"
            return Skip(edit, "debug-environment", reason)
    return Fix(
        place,
        f"Serve {served.module}:{served.application} with gunicorn's threads",
        partial(_edits, context, site, served),
        REQUIRES,
        beside=served.framework,
    )


def _reads_dotenv(context: Context) -> Place | None:
    """Return where python-dotenv is declared, if no code calls it: Flask's own server would."""
    if "python-dotenv" not in context.dependencies:
        return None
    program = context.program
    if next(program.containing(rb"\bload_dotenv\(", program.product, b"load_dotenv"), None):
        return None
    declared = context.dependencies.declared("python-dotenv")
    return declared[0].place if declared else None


def _edits(context: Context, site: LaunchSite, served: Served) -> Edits | Skip:
    host, port = served.host, served.port
    variables = [one.variable for one in (host, port) if one.variable]
    setting = _processes(context, site)
    options = [*served.options, "--bind", bind(host, port)]
    if setting and site.source in ("shell", "compose"):
        options += ["--workers", f"${{{VARIABLE}:-{setting}}}"]
    elif site.source == "procfile" and multi_worker_hazards(context):
        options += ["--workers", "1"]  # platforms set WEB_CONCURRENCY
    options += ["--threads", str(context.parameters["threads"]), "--access-logfile", "-"]
    words = [*served.program, *options, f"{served.module}:{served.application}"]
    first, last = served.words
    command = with_words(context, site, first, last, words)
    if variables:
        command = _in_a_shell(context, site, served, words)
    if isinstance(command, Skip):
        return command
    edits = [*command, *stop_signal_edits(context), *_guarded(context, served)]
    edits += [each for each in debug_variable_edits(context) if isinstance(each, Edit)]
    if setting and site.source == "dockerfile":
        line = environment_edit(context, site, VARIABLE, str(setting))
        edits += [line] if line is not None else []
    return tuple(edits)


def _processes(context: Context, site: LaunchSite) -> int | None:
    """Return how many processes to ask for, None where one is right or somebody has decided."""
    if chosen_at(context, site) or ends_on_variable(context):
        return None
    chosen = context.parameters["workers"]
    count = affordable(context, CONSERVATIVE if chosen == "auto" else int(chosen))
    return count if count > 1 and not multi_worker_hazards(context) else None


def _in_a_shell(
    context: Context, site: LaunchSite, served: Served, words: list[str]
) -> Edits | Skip:
    """Return the edits of a command that has to look at variables, which only a shell does."""
    content = context.read(site.place.path)
    parsed = context.dockerfile(site.place.path) if site.source == "dockerfile" else None
    reason = "its port or address comes from a variable, which only a shell would fill in"
    hidden = Skip(site.place, "address-from-environment", reason)
    if isinstance(content, Problem) or isinstance(parsed, Problem):
        return hidden
    if site.source in ("shell", "procfile") and not any("'" in word for word in words):
        return with_words(context, site, *served.words, words)
    instruction = instruction_of(parsed, site) if parsed is not None else None
    if instruction is None:
        return hidden
    if instruction.exec_form is None:
        return with_words(context, site, *served.words, words)
    # Only where the whole instruction is the command: not the arguments of an ENTRYPOINT.
    first, last = served.words
    complete = [word.start for word in instruction.exec_form] == [w.start for w in site.words]
    if not complete or last != len(site.words):
        return hidden
    kept = [word.text for word in site.words[:first]]
    text = " ".join([*kept, *(f"'{word}'" if "(" in word else word for word in words)])
    replacement = f'["sh", "-c", "exec {text}"]'.encode()
    start, end = instruction.arguments_start, instruction.arguments_end
    if '"' in text or "\\" in text or not content[start:end].startswith(b"["):
        return hidden
    return (Edit(site.place.path, start, end, replacement),)


def _guarded(context: Context, served: Served) -> Iterator[Edit]:
    """Yield the edits that keep a module from starting its own server when it is imported."""
    if served.unguarded is None or served.path is None:
        return
    content = context.read(served.path)
    if isinstance(content, Problem):
        return
    lines = content.splitlines(keepends=True)
    first, last = served.unguarded
    newline = b"\r\n" if lines[first - 1].endswith(b"\r\n") else b"\n"
    indent = b"\t" if any(line.startswith(b"\t") for line in lines) else b"    "
    offset = sum(len(line) for line in lines[: first - 1])
    yield Edit(served.path, offset, offset, b'if __name__ == "__main__":' + newline + indent)
    for line in lines[first - 1 : last - 1]:
        offset += len(line)
        yield Edit(served.path, offset, offset, indent)
