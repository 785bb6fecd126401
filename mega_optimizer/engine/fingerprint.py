"""Fingerprints: a name for a finding that survives edits elsewhere in the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mega_optimizer.engine.plan import Finding
    from mega_optimizer.repository.files import Files


def fingerprints(findings: Iterable[Finding], files: Files) -> Iterator[Finding]:
    """Yield ``findings`` with fingerprints: rule, service, path and the text of the line.

    Line numbers are left out, so that a finding keeps its fingerprint when lines above it change;
    equal lines of one file are told apart by their order.
    """
    seen: Counter[str] = Counter()
    for finding in findings:
        place = finding.place
        lines = files.read(place.path).split(b"\n") if place.path in files else []
        text = lines[place.line - 1].strip() if 0 < place.line <= len(lines) else b""
        subject = "\0".join(
            (finding.rule, finding.service, place.path, text.decode("utf-8", "replace"))
        )
        seen[subject] += 1
        digest = blake2b(f"{subject}\0{seen[subject]}".encode(), digest_size=8).hexdigest()
        yield replace(finding, fingerprint=digest)
