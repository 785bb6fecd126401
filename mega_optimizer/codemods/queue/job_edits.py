"""The edits that let a route give its background task to a worker."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.coroutine_edits import in_thread
from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.codemods.imports import ensure_module, without_import
from mega_optimizer.codemods.module_paths import import_path
from mega_optimizer.codemods.source import Source, read_source
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.queue.background_jobs import BackgroundJob


def moved_to_queue(
    context: Context, draft: Draft, found: BackgroundJob, module: str
) -> tuple[Edit, ...] | Skip:
    """Return the edits of the handler and of the function; imports go into the draft.

    ``context`` is that of the service with the ``module`` that runs jobs. Skip codes:
    ``import-path-unknown``, ``not-found-again``, those of ``ensure_import``.
    """
    handler = found.facts.path
    names: dict[str, str] = {}
    for importer, above, wanted in (
        (handler, found.route.handler.path, ("JobQueue", "job_status")),
        (found.function.path, found.function.name, ("job",)),
    ):
        dotted = import_path(context, importer, module)
        if dotted is None:
            reason = f"how {importer} would import {module} is not shown"
            return Skip(found.place, "import-path-unknown", reason)
        for name in wanted:
            bound = draft.add_import(importer, dotted, name, above)
            if isinstance(bound, Skip):
                return bound
            names[name] = bound
    content = context.program.read(handler)
    source = read_source(handler, content) if content is not None else None
    if source is None or isinstance(source, Problem):
        return Skip(found.place, "unreadable", f"{handler} cannot be read")
    edits = _handler_edits(draft, found, source, names)
    if isinstance(edits, Skip):
        return edits
    marked = _marked(context, found, names["job"])
    return marked if isinstance(marked, Skip) else (*edits, *marked)


def _handler_edits(
    draft: Draft, found: BackgroundJob, source: Source, names: dict[str, str]
) -> tuple[Edit, ...] | Skip:
    path = found.facts.path
    lost = Skip(found.place, "not-found-again", "the task could not be found again in the tree")
    call = source.call(found.call)
    annotation = _annotation(source, found)
    if call is None or annotation is None:
        return lost
    start, end = source.range(annotation)
    edits = [Edit(path, start, end, names["JobQueue"].encode())]
    tree, facts = draft.tree(path), draft.facts(path)
    if isinstance(tree, Skip) or isinstance(facts, Skip):
        return lost
    if found.route.handler.is_async:
        added = ensure_module(tree, facts, "asyncio", found.route.handler.line)
        if isinstance(added, Skip):
            return added
        draft.put(path, added[0])
        waited = in_thread(source, path, found.call, added[1])
        if waited is None:
            return lost
        text = waited.replacement.replace(b".add_task", b".enqueue", 1)
        edits.append(Edit(path, waited.start, waited.end, text))
    else:
        _, behind = source.range(call.func)
        edits.append(Edit(path, behind - len("add_task"), behind, b"enqueue"))
    edits += _status_route(source, found, names["job_status"])
    tree, facts = draft.tree(path), draft.facts(path)
    bound = next(
        (i.bound for i in found.facts.imports if i.target.endswith(".BackgroundTasks")), None
    )
    if bound and not isinstance(tree, Skip) and not isinstance(facts, Skip):
        others = [
            each
            for each in ast.walk(source.tree)
            if isinstance(each, ast.Name) and each.id == bound and each is not annotation
        ]
        if not others:
            draft.put(path, without_import(tree, facts, bound, is_mentioned=False))
    return tuple(edits)


def _annotation(source: Source, found: BackgroundJob) -> ast.expr | None:
    """Return the annotation of the parameter that takes the background tasks."""
    for node in source.tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == found.route.handler.path
        ):
            arguments = node.args
            plain = [*arguments.posonlyargs, *arguments.args]
            defaulted = plain[len(plain) - len(arguments.defaults) :]
            for each in (*plain, *arguments.kwonlyargs):
                if each.arg == found.parameter and each not in defaulted:
                    return each.annotation
    return None


def _status_route(source: Source, found: BackgroundJob, name: str) -> list[Edit]:
    """Return the edit that adds the route which tells how far a job has got, if it is missing."""
    owner = found.route.owner_text
    if f'{owner}.add_api_route("/jobs/{{job_id}}"'.encode() in source.content:
        return []
    newline = "\r\n" if b"\r\n" in source.content else "\n"
    statement = f'{owner}.add_api_route("/jobs/{{job_id}}", {name})'
    last = source.tree.body[-1]
    if isinstance(last, ast.If) and "__name__" in ast.unparse(last.test):
        start, _ = source.range(last)
        text = f"{statement}{newline}{newline}{newline}"
        return [Edit(found.facts.path, start, start, text.encode())]
    end = len(source.content.rstrip())
    text = f"{newline}{newline}{newline}{statement}"
    if not source.content.endswith(b"\n"):
        text += newline
    return [Edit(found.facts.path, end, end, text.encode())]


def _marked(context: Context, found: BackgroundJob, name: str) -> tuple[Edit, ...] | Skip:
    """Return the edit that marks the function as a job."""
    path = found.function.path
    content = context.program.read(path)
    source = read_source(path, content) if content is not None else None
    lost = Skip(found.place, "not-found-again", f"{found.function.name} was not found again")
    if source is None or isinstance(source, Problem):
        return lost
    for node in source.tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == found.function.name
        ):
            if node.decorator_list:
                return ()
            start, _ = source.range(node)
            newline = "\r\n" if b"\r\n" in source.content else "\n"
            text = f"@{name}(repeatable={found.repeatable}){newline}"
            return (Edit(path, start, start, text.encode()),)
    return lost
