"""The unified diff of a plan."""

from __future__ import annotations

from difflib import unified_diff
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.engine.plan import Finding


def patch_of(finding: Finding) -> str:
    """Return the unified diff of what a finding of level advice would have a person do."""
    return diff_of({path: (before, after) for path, before, after in finding.advised})


def diff_of(changes: Mapping[str, tuple[bytes | None, bytes]]) -> str:
    """Return the unified diff of ``changes`` (path → content before, content after).

    ``git apply`` accepts it; bytes that are not UTF-8 survive as surrogates.
    """
    return "".join(_file_diff(path, *pair) for path, pair in changes.items())


def _file_diff(path: str, before: bytes | None, after: bytes) -> str:
    source = "/dev/null" if before is None else f"a/{path}"
    changed = unified_diff(_lines(before or b""), _lines(after), source, f"b/{path}")
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in changed
    )


def _lines(content: bytes) -> list[str]:
    return StringIO(content.decode("utf-8", "surrogateescape"), newline="\n").readlines()
