"""``uvicorn.workers`` gives way to the package ``uvicorn-worker``, which has the same classes.

The module is deprecated since Uvicorn 0.30
(https://www.uvicorn.org/release-notes/#0300-may-28-2024).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.service import LaunchSite

OLD, NEW = "uvicorn.workers", "uvicorn_worker"
REQUIRES = ("uvicorn-worker>=0.2",)
IN_TEXT = re.compile(rb"(?<=[\"'])uvicorn\.workers(?=\.Uvicorn(?:H11)?Worker[\"'])")
IMPORT = re.compile(
    rb"^from[ \t]+(uvicorn\.workers)[ \t]+import[ \t]+"
    rb"Uvicorn(?:H11)?Worker(?:[ \t]*,[ \t]*Uvicorn(?:H11)?Worker)*[ \t]*(?:#.*)?\r?$",
    re.MULTILINE,
)
CLASS = re.compile(r"\buvicorn\.workers\.Uvicorn(?:H11)?Worker\b")


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each command, setting or import that names the deprecated module."""
    for site in context.launch:
        outcome = _in_command(context, site)
        if outcome is not None:
            yield outcome
    paths = dict.fromkeys(context.program.containing(rb"uvicorn\.workers", context.program.product))
    for path in (*paths, *_configurations(context, paths)):
        yield from _in_module(context, path)


def _in_command(context: Context, site: LaunchSite) -> Outcome | None:
    word = next((word for word in site.words if CLASS.search(word.text)), None)
    if word is None or site.source == "python":
        return None
    content = context.read(site.place.path)
    raw = b"" if isinstance(content, Problem) else content[max(word.start, 0) : max(word.end, 0)]
    if raw.count(OLD.encode()) != 1:
        reason = "the launch command cannot be edited: its words are not found in the file"
        return Skip(site.place, "site-not-editable", reason)
    start = word.start + raw.index(OLD.encode())
    return _fix(site.place, site.place.path, start)


def _configurations(context: Context, known: dict[str, None]) -> Iterator[str]:
    """Yield the configuration files of gunicorn that are not among the service's modules."""
    root = f"{context.service.root}/" if context.service.root else ""
    for path in context.files.paths:
        name = path.rpartition("/")[2]
        named = "gunicorn" in name and name.endswith((".py", ".conf"))
        if named and path.startswith(root) and path not in known:
            yield path


def _in_module(context: Context, path: str) -> Iterator[Outcome]:
    content = context.read(path)
    if isinstance(content, Problem):
        return
    for match in IN_TEXT.finditer(content):
        line = content.count(b"\n", 0, match.start()) + 1
        before = content[content.rfind(b"\n", 0, match.start()) + 1 : match.start()]
        if b"#" not in before:
            yield _fix(Place(path, line), path, match.start())
    for match in IMPORT.finditer(content):
        line = content.count(b"\n", 0, match.start()) + 1
        yield _fix(Place(path, line), path, match.start(1))


def _fix(place: Place, path: str, start: int) -> Fix:
    edit = Edit(path, start, start + len(OLD), NEW.encode())
    message = "Take gunicorn's worker class from the package uvicorn-worker"
    return Fix(place, message, (edit,), REQUIRES, beside="gunicorn")
