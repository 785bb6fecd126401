"""How many processes serve a service, as its commands and settings say."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.serving.surroundings import composed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.service import LaunchSite

VARIABLE = "WEB_CONCURRENCY"  # uvicorn --help; gunicorn's setting "workers"
CONSERVATIVE = 2  # maintainers took four back within days, for memory
OPTIONS = ("--workers", "-w")
DEFAULT = re.compile(r"\$\{\w+:?-(\d+)\}")


def worker_count(context: Context) -> int | None:
    """Return the most processes that one container of the service serves with.

    One where nothing says otherwise; None where a count is set that cannot be read.
    """
    counts: list[int] = []
    for text in _said(context):
        match = DEFAULT.fullmatch(text)
        if match is None and not text.isdecimal():
            return None
        counts.append(int(match[1] if match else text))
    return max(counts, default=1)


def _said(context: Context) -> Iterator[str]:
    for site in context.launch:
        option = site.option(*OPTIONS)
        if option is not None:
            yield option
        elif VARIABLE in site.environment:
            yield site.environment[VARIABLE]
    for deployment in context.service.deployments:
        if VARIABLE in deployment.environment:
            yield deployment.environment[VARIABLE]


def chosen_at(context: Context, site: LaunchSite) -> bool:
    """Whether somebody has said how many processes ``site`` is to start."""
    said = (site.environment, *(each.environment for each in context.service.deployments))
    arguments = site.environment.get("GUNICORN_CMD_ARGS", "")
    return (
        site.option(*OPTIONS) is not None
        or any(VARIABLE in each for each in said)
        or re.search(r"(?:--workers|-w)\b", arguments) is not None
    )


def processors(context: Context) -> float | None:
    """Return the fewest processors that a compose file allows the service, None without a limit."""
    limits: list[float] = []
    for entry in composed(context):
        for keys in (("deploy", "resources", "limits", "cpus"), ("cpus",)):
            node = entry.node.get(*keys)
            if node is not None and re.fullmatch(r"\d+(?:\.\d+)?", node.text):
                limits.append(float(node.text))
    return min(limits, default=None)


def affordable(context: Context, wanted: int) -> int:
    """Return ``wanted`` processes, or as many as there are processors for them."""
    limit = processors(context)
    return wanted if limit is None else min(wanted, math.ceil(limit))


def ends_on_variable(context: Context) -> bool:
    """Whether a program of the service calls ``uvicorn.run`` with an object: it ends on several."""
    return any(
        site.source == "python" and site.server == "uvicorn" and ":" not in (site.application or "")
        for site in context.service.launch
    )
