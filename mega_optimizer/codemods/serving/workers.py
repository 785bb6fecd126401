"""Serve with more than one process where nothing speaks against it, as a setting.

Uvicorn and gunicorn read the number of their processes from ``WEB_CONCURRENCY`` where no option
names it (https://www.uvicorn.org/settings/, https://docs.gunicorn.org/en/stable/settings.html).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.launch_sites import with_words
from mega_optimizer.codemods.serving.hazards import multi_worker_hazards
from mega_optimizer.codemods.serving.process_count import (
    CONSERVATIVE,
    VARIABLE,
    affordable,
    chosen_at,
    ends_on_variable,
)
from mega_optimizer.codemods.serving.scripts import script_of
from mega_optimizer.codemods.serving.surroundings import environment_edit, is_for_developers
from mega_optimizer.repository.launch import python_launch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.repository.service import LaunchSite

SERVERS = ("uvicorn", "gunicorn", "fastapi")


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each command that serves with one process because nobody said otherwise."""
    sites = [each for each in context.launch if _serves_with_one(context, each)]
    if not sites:
        return
    hazards = multi_worker_hazards(context)
    for hazard in hazards:
        yield Skip(hazard.place, "multi-worker-hazard", f"{hazard.kind}: {hazard.sentence}")
    if hazards:
        return
    for site in sites:
        yield _judge(context, site)


def _serves_with_one(context: Context, site: LaunchSite) -> bool:
    if site.source == "python" or site.option("--reload") is not None:
        return False
    if site.server in SERVERS:
        development = site.server == "fastapi" and not any(w.text == "run" for w in site.words)
        return not development and not chosen_at(context, site)
    return _program(context, site) is not None and not chosen_at(context, site)


def _program(context: Context, site: LaunchSite) -> LaunchSite | None:
    """Return the call of ``uvicorn.run`` in the program that ``site`` starts, where it has one."""
    if site.server != "python" or site.application is None:
        return None
    script = script_of(context, site, site.application)
    content = context.read(script.path) if script is not None else b""
    if script is None or not isinstance(content, bytes) or b"uvicorn" not in content:
        return None
    calls = [each for each in python_launch(script.path, content) if each.server == "uvicorn"]
    decided = len(calls) == 1 and (
        calls[0].option("--workers") is not None or calls[0].option("--reload") is not None
    )
    return calls[0] if len(calls) == 1 and not decided else None


def _judge(context: Context, site: LaunchSite) -> Outcome:
    place = site.place
    if is_for_developers(context, site):
        return Skip(place, "for-developers", "this command is written for developers")
    if site.source == "procfile":
        reason = f"who runs a Procfile sets {VARIABLE} to what the machine can bear"
        return Skip(place, "platform-decides", reason)
    if site.option("-c", "--config") is not None or _has_configuration(context):
        return Skip(place, "configured-elsewhere", "a configuration file may say how many")
    chosen = context.parameters["count"]
    wanted = CONSERVATIVE if chosen == "auto" else int(chosen)
    count = affordable(context, wanted)
    if count < 2:
        return Skip(place, "one-processor", "it may use one processor only")
    call = _program(context, site)
    if call is None and ends_on_variable(context):
        reason = (
            f"a program of this image calls uvicorn.run with an object: {VARIABLE} would end it"
        )
        return Skip(place, "application-object", reason)
    return Fix(
        place,
        f"Serve with {count} processes unless {VARIABLE} says otherwise",
        partial(_edits, context, site, call, count),
    )


def _has_configuration(context: Context) -> bool:
    root = f"{context.service.root}/" if context.service.root else ""
    return any(f"{root}gunicorn.conf.py" == path for path in context.files.paths)


def _edits(context: Context, site: LaunchSite, call: LaunchSite | None, count: int) -> Edits | Skip:
    imported: Edits = ()
    if call is not None:
        answer = _import_string(context, site, call)
        if isinstance(answer, Skip):
            return answer
        imported = answer
    if site.source == "dockerfile":
        line = environment_edit(context, site, VARIABLE, str(count))
        if line is None:
            reason = "the instruction that starts it is not in the Dockerfile of the service"
            return Skip(site.place, "site-not-editable", reason)
        return (*imported, line)
    if call is not None or site.source not in ("shell", "compose"):
        reason = "a setting would not reach the command here"
        return Skip(site.place, "site-not-editable", reason)
    last = site.words[-1].text
    position = len(site.words) - (1 if last == site.application or last.startswith("$") else 0)
    words = ("--workers", f"${{{VARIABLE}:-{count}}}")
    return with_words(context, site, position, position, words)


def _import_string(context: Context, site: LaunchSite, call: LaunchSite) -> Edits | Skip:
    """Return the edit that lets ``uvicorn.run`` import the application in each process."""
    place = call.place
    script = script_of(context, site, site.application or "")
    facts = context.program.facts(place.path)
    application = call.application or ""
    if ":" in application:
        return ()
    content = context.read(place.path)
    if script is None or facts is None or not isinstance(content, bytes):
        return Skip(place, "application-unknown", "the program cannot be understood")
    if not facts.has_main_guard or facts.resolve(application) is None or len(call.words) < 2:
        reason = "the application is not a variable of a module that can be imported"
        return Skip(place, "application-unknown", reason)
    start, end = call.words[1].start, call.words[1].end
    if start < 0 or content[start:end] != application.encode():
        return Skip(place, "application-unknown", "the call cannot be found again in the file")
    return (Edit(place.path, start, end, f'"{script.module}:{application}"'.encode()),)
