"""What a codemod answers: fixes made of byte-range edits, and skips with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mega_optimizer.repository.place import Place


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Replace the bytes ``start:end`` of ``path`` by ``replacement``.

    Offsets are bytes of the snapshot that the codemod saw. A file that does not exist yet is
    created by an edit of ``0:0``.
    """

    path: str
    start: int
    end: int
    replacement: bytes


Edits = tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Fix:
    """All edits of one finding, across files. It lands whole or not at all.

    ``edits`` may be a function that makes them: it is called only where the fix is to land, and
    may find that it cannot. ``requires`` are requirements (PEP 508) that the service must declare
    for the edits to hold; the engine turns them into edits of the manifest that a person would
    edit: the one that declares the package ``beside``. ``drops`` are packages that the service no
    longer needs: they leave that manifest where it is a plain requirements file.
    """

    place: Place
    message: str
    edits: Edits | Callable[[], Edits | Skip] = ()
    requires: tuple[str, ...] = ()
    beside: str | None = None
    drops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skip:
    """A place where the rule would apply, but a precondition could not be shown.

    Where the rule has nothing to win in this service, but nothing speaks against it either,
    ``agrees_to`` names the file that another service may change though both share it.
    """

    place: Place
    code: str
    reason: str
    agrees_to: str | None = None


Outcome = Fix | Skip


def apply_edits(content: bytes, edits: Iterable[Edit]) -> bytes:
    """Return ``content`` with ``edits`` (all of one path, none overlapping) applied."""
    parts: list[bytes] = []
    position = 0
    for edit in sorted(set(edits)):
        if edit.start < position:
            raise ValueError(f"{edit.path}: edits overlap at byte {edit.start}")
        parts += [content[position : edit.start], edit.replacement]
        position = edit.end
    parts.append(content[position:])
    return b"".join(parts)
