"""``--reload`` in the command of an image: a second process that watches files for changes.

``fastapi dev`` is ``fastapi run`` with it (https://fastapi.tiangolo.com/fastapi-cli/).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.launch_sites import option_range, with_words
from mega_optimizer.codemods.serving.surroundings import is_for_developers, mounted_code

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.service import LaunchSite

RELOADING = ("uvicorn", "gunicorn", "hypercorn", "granian")
FURTHER = (
    "--reload-dir", "--reload-include", "--reload-exclude", "--reload-delay", "--reload-engine",
    "--reload-extra-file", "--reload-paths",
)  # fmt: skip


def reloader(context: Context, site: LaunchSite) -> Outcome | None:
    """Return the fix that takes the reloader out of the command, or why it stays."""
    develops = site.server == "fastapi" and any(word.text == "dev" for word in site.words)
    reloads = site.server in RELOADING and site.option("--reload") is not None
    if not develops and not reloads:
        return None
    if is_for_developers(context, site):
        return Skip(site.place, "for-developers", "this command is written for developers")
    mounted = mounted_code(context, site)
    if mounted is not None:
        reason = f"code is mounted into the container ({mounted}), to be reloaded when it changes"
        return Skip(site.place, "code-mounted", reason)
    if any(site.option(name) is not None for name in FURTHER):
        return Skip(site.place, "reloader-configured", "the reloader is told what to watch")
    message = "Do not watch the files of the image for changes"
    if develops:
        position = [word.text for word in site.words].index("dev")
        edits = partial(with_words, context, site, position, position + 1, ("run",))
        return Fix(site.place, message, edits)
    position, _ = option_range(site, "--reload") or (0, 0)
    edits = partial(with_words, context, site, position, position + 1, ())
    return Fix(site.place, message, edits)
