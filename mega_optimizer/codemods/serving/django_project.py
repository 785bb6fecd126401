"""The WSGI application of a Django project, where serving it without Django's server is enough."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context

_SETTINGS = re.compile(rb"DJANGO_SETTINGS_MODULE[\"'],\s*[\"']([\w.]+)[\"']")
_CHANNELS = re.compile(rb"[\"'](?:channels|daphne)[\"']")
# What serves static files in Django's place.
_ELSEWHERE = re.compile(rb"whitenoise|[\"']storages")


def django_application(context: Context, manage: str) -> str | Skip:
    """Return the module whose ``application`` serves the project of ``manage.py``.

    Skip codes: ``application-unknown``; ``static-files`` where only Django's own server (and
    nothing like WhiteNoise) would serve them; ``channels`` where the project needs ASGI.
    """
    place = Place(manage)
    content = context.read(manage)
    named = _SETTINGS.search(content) if isinstance(content, bytes) else None
    if named is None:
        return Skip(place, "application-unknown", "it names no settings module")
    root = posixpath.dirname(manage)
    parts = named[1].decode().split(".")
    for length in range(len(parts) - 1, 0, -1):
        path = posixpath.join(root, *parts[:length], "wsgi.py")
        if path in context.files:
            break
    else:
        return Skip(place, "application-unknown", "the project has no wsgi.py")
    wsgi = context.read(path)
    if not isinstance(wsgi, bytes) or not re.search(rb"^application\s*=", wsgi, re.MULTILINE):
        return Skip(Place(path), "application-unknown", "it assigns no application")
    return _without_own_server(context, root, parts) or ".".join([*parts[:length], "wsgi"])


def _without_own_server(context: Context, root: str, parts: list[str]) -> Skip | None:
    """Return what of the settings only Django's own server or an ASGI server provides."""
    settings = posixpath.join(root, *parts)
    near = (f"{settings}.py", f"{settings}/", f"{posixpath.dirname(settings)}/")
    texts: dict[str, bytes] = {}
    for path in context.files.paths:
        content = context.read(path) if path.endswith(".py") and path.startswith(near) else None
        if isinstance(content, bytes):
            texts[path] = content
    channels = next((one for one, text in texts.items() if _CHANNELS.search(text)), None)
    if channels is not None:
        return Skip(Place(channels), "channels", "the project is served over ASGI")
    static = next((one for one, text in texts.items() if b"contrib.staticfiles" in text), None)
    if static is None or any(_ELSEWHERE.search(text) for text in texts.values()):
        return None
    reason = "Django's own server also serves its static files, gunicorn would not"
    return Skip(Place(static), "static-files", reason)
