"""Let Celery workers do what routes leave to ``BackgroundTasks``.

Starlette runs such tasks in the process that serves, after the answer: they take its CPU, and are
lost when it ends (https://fastapi.tiangolo.com/tutorial/background-tasks/#caveat).
"""

from __future__ import annotations

import ast
import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.module_paths import dotted_below, source_root
from mega_optimizer.codemods.queue.background_jobs import BackgroundJob, background_jobs
from mega_optimizer.codemods.startup import Startup, startup_of
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.cache.settings_field import SettingsField
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.service import LaunchSite

MODULE = "job_queue"
OURS = b"class LostTooOftenError(Exception)"
QUEUES = (
    rb"(?m)^[ \t]*(?:from|import)[ \t]+(?:celery|rq|arq|dramatiq|huey|taskiq|procrastinate|saq"
    rb"|faststream|kombu|django_q|fastapi_queue)\b"
)
SERVERS = frozenset({"uvicorn", "gunicorn", "hypercorn", "granian"})
ELSEWHERE = ("--app-dir", "--chdir", "--pythonpath")
PREFIXES = frozenset({"", "uv run", "poetry run", "pipenv run", "pdm run", "python -m", "exec"})
REQUIRED = ("celery[redis]>=5.5", "redis>=5.0.1")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each background task that a worker could do, and why others stay."""
    refusal = _refusal(context)
    for found in background_jobs(context, refusal):
        if isinstance(found, Skip):
            yield found
            continue
        startup = startup_of(context, found.facts.path)
        if isinstance(startup, Skip):
            yield Skip(found.place, startup.code, startup.reason)
            continue
        launch = _launch(context, startup)
        if launch is None:
            reason = f"which command serves {startup.path}, and from where, is not shown"
            yield Skip(found.place, "launch-unknown", reason)
            continue
        yield Fix(
            found.place,
            f"Let a worker run {found.function.name}",
            partial(_edits, context, found, startup, launch),
            requires=REQUIRED,
            beside="fastapi",
        )


def _refusal(context: Context) -> tuple[str, str] | None:
    """Return (code, reason) where no task of the service may move."""
    program = context.program
    if next(program.containing(rb"\.add_task\(", program.product, b"add_task"), None) is None:
        return None
    if not context.service.deployments:
        return "not-deployed", "no manifest runs this service, and would run its workers"
    for path in program.containing(QUEUES, program.product, b"import"):
        if OURS not in (program.read(path) or b""):
            return "has-a-queue", f"{path} uses a queue already"
    gpu = context.service.trait("gpu")
    if gpu is not None:
        return "gpu", f"a worker would need the GPU too ({gpu.place})"
    tests = next(program.containing(rb"\bREDIS_URL\b", program.tests, b"REDIS_URL"), None)
    if tests is not None:
        return "tests-set-redis", f"{tests} sets REDIS_URL, and would queue what it waits for"
    return None


def _launch(context: Context, startup: Startup) -> tuple[str, str] | None:
    """Return the folder from which names of modules start, and what the command stands behind."""
    found = None
    for site in context.launch:
        if site.source == "python":
            continue  # ``uvicorn.run`` where a person starts the module
        if site.server not in SERVERS or any(site.option(each) is not None for each in ELSEWHERE):
            continue
        module = (site.application or "").partition(":")[0]
        path = context.program.module(module, startup.path) if module else None
        root = source_root(path, module) if path is not None else None
        prefix = _prefix(site)
        if root is None or prefix is None or (found is not None and found != (root, prefix)):
            return None
        found = (root, prefix)
    return found


def _prefix(site: LaunchSite) -> str | None:
    name = site.words[0].text if site.words else ""
    before, server, _ = site.command.partition(name)
    prefix = " ".join(before.split())
    if not name or not server or prefix not in PREFIXES:
        return None
    return "" if prefix == "exec" else prefix


def _edits(
    context: Context, found: BackgroundJob, startup: Startup, launch: tuple[str, str]
) -> tuple[Edit, ...] | Skip:
    from mega_optimizer.codemods.cache.generated_module import context_with, module_beside
    from mega_optimizer.codemods.cache.redis_place import Wanted
    from mega_optimizer.codemods.cache.settings_field import (
        add_field,
        has_settings,
        settings_field,
    )
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.queue.job_edits import moved_to_queue
    from mega_optimizer.codemods.queue.worker_place import Worker, worker_for

    entrypoint = _entrypoint(context)
    if entrypoint is not None:
        return entrypoint
    path = module_beside(context, startup.path, MODULE, OURS)
    if isinstance(path, Skip):
        return path
    root, prefix = launch
    module, job_module = dotted_below(path, root), dotted_below(found.function.path, root)
    if module is None or job_module is None:
        reason = f"{found.function.path} is not below the folder that the service starts from"
        return Skip(found.place, "import-path-unknown", reason)
    field = settings_field(context.program, "redis_url")
    if field is not None and field.is_there and not _is_empty_by_default(context, field):
        reason = f"{field.owner} names a Redis by default: without one, jobs would not run"
        return Skip(Place(field.path), "redis-by-default", reason)
    variable = field.variable if field is not None else "REDIS_URL"
    content = context.program.read(path)
    is_new = content is None
    if content is None:
        generated = _generated(context, startup, field, variable, module, job_module)
        if isinstance(generated, Skip):
            return generated
        module_edits: tuple[Edit, ...] = (Edit(path, 0, 0, generated),)
        content = generated
    else:
        module_edits = _included(path, content, job_module)
    extended = context_with(context, path, content)
    draft = Draft(extended)
    changes = moved_to_queue(extended, draft, found, path)
    if isinstance(changes, Skip):
        return changes
    if is_new and field is not None and not field.is_there:
        objection = add_field(draft, field, "workers run jobs where it is set")
        if objection is not None:
            return objection
    manifests = worker_for(
        context,
        Wanted(
            variable,
            str(context.parameters["redis_image"]),
            int(context.parameters["redis_megabytes"]),
            in_example=field is not None or not has_settings(context.program),
            keeps=True,
        ),
        Worker(module, prefix, int(context.parameters["processes"])),
    )
    if isinstance(manifests, Skip):
        return manifests
    return (*module_edits, *changes, *draft.edits(), *manifests)


def _entrypoint(context: Context) -> Skip | None:
    """Object to an image that starts whatever it is given behind a program of its own."""
    from mega_optimizer.repository.dockerfile import shipping_stage
    from mega_optimizer.repository.launch.container import start_instructions

    path = context.service.dockerfile
    parsed = context.dockerfile(path) if path is not None else None
    if parsed is None or isinstance(parsed, Problem):
        return None
    stage = shipping_stage(parsed, context.service.stage)
    entrypoint = start_instructions(parsed, stage)[0] if stage is not None else None
    if entrypoint is None:
        return None
    place = Place(parsed.path, entrypoint.line)
    return Skip(place, "entrypoint", "the image has an entrypoint, and a worker another command")


def _is_empty_by_default(context: Context, field: SettingsField) -> bool:
    from mega_optimizer.codemods.program import Definition
    from mega_optimizer.codemods.queue.sendable_models import class_node

    node = class_node(context.program, Definition(field.path, field.owner))
    for each in node.body if node is not None else ():
        if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == field.field:
            return isinstance(each.value, ast.Constant) and each.value.value in ("", None)
    return False


def _generated(
    context: Context,
    startup: Startup,
    field: SettingsField | None,
    variable: str,
    module: str,
    job_module: str,
) -> bytes | Skip:
    from mega_optimizer.codemods.cache.rendered import rendered
    from mega_optimizer.codemods.cache.settings_field import reading

    statement, value = "", f'os.environ.get("{variable}", "")'
    if field is not None:
        read = reading(context, startup, field)
        if isinstance(read, Skip):
            return read
        statement, value = read[0], read[1] + (' or ""' if field.is_there else "")
    text = rendered(
        "queue/job_queue.py.j2",
        name=context.service.name.rpartition("/")[2],
        variable=variable,
        module=module,
        include=[job_module],
        settings_import=statement,
        settings_value=value,
        time_limit=int(context.parameters["time_limit_seconds"]),
        retries=int(context.parameters["retries"]),
    )
    return text.encode()


def _included(path: str, content: bytes, module: str) -> tuple[Edit, ...]:
    """Return the edit that lets workers import one more module."""
    if b'        "%s",\n' % module.encode() in content:
        return ()
    opened = re.search(rb"include=\[\n(?:        \"[\w.]+\",\n)*", content)
    if opened is None:
        return ()
    return (Edit(path, opened.end(), opened.end(), b'        "%s",\n' % module.encode()),)
