"""Let models start as many threads as there are processors, and rows, for.

OpenMP, OpenBLAS and MKL start a thread for each processor of the node, whatever the container may
use: its limit is a quota of the kernel's scheduler, which stops all of them once it is used up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.deployments import compose_variable, container_variable
from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.serving.process_count import worker_count
from mega_optimizer.codemods.serving.surroundings import deployed
from mega_optimizer.repository.kubernetes import Container
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.compose import ComposeService

VARIABLE = "OMP_NUM_THREADS"
# They compute with OpenMP, or with a BLAS that reads the variable.
_LIBRARIES = ("torch", "scikit-learn", "lightgbm", "xgboost", "sentence-transformers")
_SETS_THREADS = (
    rb"OMP_NUM_THREADS|OPENBLAS_NUM_THREADS|MKL_NUM_THREADS|set_num_threads\(|threadpool_limits"
)
_WORDS = (b"NUM_THREADS", b"set_num_threads", b"threadpool_limits")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each container within a limit, and each forest for single rows."""
    from mega_optimizer.codemods.ml.forest_threads import find_forests

    yield from find_forests(context)
    library = next((each for each in _LIBRARIES if each in context.dependencies), None)
    if library is None:
        return
    for entry in deployed(context):
        limit = _limit(entry)
        content = context.read(entry.place.path)
        if limit is not None and isinstance(content, bytes):
            yield _outcome(context, content, entry, limit, library)


def _limit(entry: Container | ComposeService) -> float | None:
    """Return how many processors may be used, None where nothing limits it."""
    keys = (("resources", "limits", "cpu"), ("deploy", "resources", "limits", "cpus"), ("cpus",))
    for node in filter(None, (entry.node.get(*each) for each in keys)):
        if re.fullmatch(r"\d+(?:\.\d+)?|\d+m", node.text):
            text = node.text
            return int(text[:-1]) / 1000 if text.endswith("m") else float(text)
    return None


def _outcome(
    context: Context,
    content: bytes,
    entry: Container | ComposeService,
    limit: float,
    library: str,
) -> Outcome:
    place = entry.place
    setter = _setter(context, entry)
    if setter is not None:
        return Skip(place, "threads-set", f"{setter} says how many threads there are")
    if entry.node.get("envFrom") is not None or entry.node.get("env_file") is not None:
        reason = f"what it takes its environment from may set {VARIABLE}"
        return Skip(place, "environment-from", reason)
    if context.service.trait("on-a-gpu") is not None:
        return Skip(place, "on-a-gpu", "a GPU computes; threads prepare its data")
    workers = worker_count(context)
    if workers is None:
        reason = "how many processes share the processors is not known"
        return Skip(place, "workers-unknown", reason)
    threads = max(1, int(limit) // workers)
    if isinstance(entry, Container):
        edit = container_variable(content, entry, VARIABLE, f'"{threads}"')
    else:
        edit = compose_variable(content, entry, VARIABLE, str(threads))
    if not isinstance(edit, Edit):
        return edit or Skip(place, "threads-set", f"{VARIABLE} is set")
    processes = f" for each of {workers} processes" if workers > 1 else ""
    message = f"let {library} start {threads} thread{'s' * (threads > 1)}{processes}"
    return Fix(place, f"{message}: the limit is {limit:g} processors", (edit,))


def _setter(context: Context, entry: Container | ComposeService) -> str | None:
    """Return what sets the number of threads already."""
    if any(name.endswith("_NUM_THREADS") for name in entry.environment):
        return str(entry.place)
    for site in context.launch:
        if any(name.endswith("_NUM_THREADS") for name in site.environment):
            return str(site.place)
    dockerfile = context.service.dockerfile
    built = context.read(dockerfile) if dockerfile else None
    if dockerfile and isinstance(built, bytes) and re.search(_SETS_THREADS, built):
        return str(Place(dockerfile))
    program = context.program
    return next(program.containing(_SETS_THREADS, program.product, *_WORDS), None)
