"""Say in a few words why a build failed."""

from __future__ import annotations

import re

from mega_optimizer.measure.builders.process import last_line

_NO_BASE = re.compile(
    r"initializing source|pinging container registry|failed to resolve source metadata"
    r"|pull access denied|manifest unknown|error pulling image|unable to pull|no such host"
    r"|short-name .* did not resolve|failed to resolve reference",
    re.IGNORECASE,
)
_FAILED_STEP = re.compile(
    r"(?:at STEP|executor failed running|The command) \\?[\"'\[](?P<step>.*)", re.IGNORECASE
)


def failure_reason(text: str) -> str:
    """Return why the build failed whose output ends with ``text``.

    The base image could not be fetched, or the last line before the builder's own summary.
    """
    last = last_line(text)
    lines = [line for line in text.splitlines() if line.strip()]
    if any(_NO_BASE.search(line) for line in lines[-3:]):
        return "base unreachable"
    said = [line for line in lines if not _is_summary(line)]
    if _FAILED_STEP.search(last) and said and not said[-1].startswith("STEP "):
        return last_line(said[-1])
    return last


def _is_summary(line: str) -> bool:
    """Whether ``line`` only repeats which step failed, or what the tools say about themselves."""
    return (
        _FAILED_STEP.search(line) is not None
        or line.startswith(('time="', "[notice]", "WARNING: ", "exit status", "subprocess exited"))
        or "while running runtime" in line
    )
