"""How annotations are written for the oldest Python that a service may run on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.python import PythonFacts

OLDEST, NEWEST = 7, 15  # minor versions that are looked at
FUTURE = "__future__.annotations"


def oldest_python(context: Context) -> tuple[int, int] | None:
    """Return the oldest Python that the image or the declared range allows, None if unknown."""
    if context.python_version is not None:
        return 3, int(context.python_version.removeprefix("3."))
    declared = context.dependencies.requires_python
    if declared is None or not list(declared):
        return None
    allowed = (each for each in range(OLDEST, NEWEST) if declared.contains(f"3.{each}.99"))
    return next(((3, each) for each in allowed), None)


def generic_module(context: Context) -> str:
    """Return the module whose ``AsyncIterator[...]`` works: subscripts came with Python 3.9."""
    oldest = oldest_python(context)
    return "typing" if oldest is not None and oldest < (3, 9) else "collections.abc"


def unites(context: Context, facts: PythonFacts) -> bool:
    """Whether ``X | None`` may stand where it is evaluated (PEP 604, Python 3.10)."""
    if any(each.target == FUTURE for each in facts.imports):
        return True
    oldest = oldest_python(context)
    if oldest is not None:
        return oldest >= (3, 10)
    content = context.read(facts.path)
    return isinstance(content, bytes) and re.search(rb"\|\s*None\b", content) is not None
