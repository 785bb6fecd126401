"""How a script that runs beside a service, or in its image, hands its result over."""

from __future__ import annotations

import json
from typing import Any

MARK = "mega-optimize-result:"


def marked(script: str) -> str:
    """Return ``script`` with the mark in the place of the name MARK."""
    return script.replace("MARK", repr(MARK))


def reported(output: str) -> dict[str, Any] | None:
    """Return what a script reported last; a service may print lines of its own around it."""
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    try:
        found = json.loads(lines[-1].removeprefix(MARK)) if lines else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
