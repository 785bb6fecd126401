"""Which file of the repository a launch command runs, and what a server would import instead."""

from __future__ import annotations

import posixpath
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.repository.dockerfile import shipping_stage, workdir_at
from mega_optimizer.repository.launch.container import repository_file
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.service import LaunchSite

_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class Script:
    """A module that is run: its file, its import name, and the folder to import it from.

    ``folder`` is ``""`` where that is the working directory.
    """

    path: str
    module: str
    folder: str = ""


def script_of(context: Context, site: LaunchSite, name: str) -> Script | None:
    """Return what ``python NAME`` or ``python -m NAME`` runs at ``site``, None if that is unknown.

    None also where the name cannot be imported, or would mean a module of the standard library.
    """
    if name.endswith(".py"):
        folder, module = posixpath.split(posixpath.normpath(name))
        relative, module = posixpath.normpath(name), module.removesuffix(".py")
    elif _MODULE.fullmatch(name):
        folder, module, relative = "", name, f"{name.replace('.', '/')}.py"
    else:
        return None
    shadowed = module.partition(".")[0] in sys.stdlib_module_names or module == "gunicorn"
    if shadowed or not _MODULE.fullmatch(module):
        return None
    path = _in_repository(context, site, relative)
    if path is None and not name.endswith(".py"):
        path = _in_repository(context, site, f"{name.replace('.', '/')}/__init__.py")
    return Script(path, module, folder) if path is not None else None


def _in_repository(context: Context, site: LaunchSite, relative: str) -> str | None:
    service = context.service
    parsed = context.dockerfile(service.dockerfile) if service.dockerfile else None
    if parsed is not None and not isinstance(parsed, Problem):
        stage = shipping_stage(parsed, service.stage)
        if stage is None:
            return None
        inside = posixpath.normpath(posixpath.join(workdir_at(parsed, stage) or "/", relative))
        found = repository_file(parsed, stage, inside, context.files)
        if found is not None:
            return found
        if site.source in ("dockerfile", "compose", "kubernetes"):
            return None
    here = posixpath.dirname(site.place.path) if site.source == "procfile" else service.root
    path = posixpath.normpath(posixpath.join(here, relative))
    return path if path in context.files else None
