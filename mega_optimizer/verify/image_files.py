"""Compare the files below the working directory of an image, before and after."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.verify.check import Check, check_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.measure.builders.inventory import Entry


LEFT_BY_SETUPTOOLS = (".egg-info/", "/build/lib/", "/build/bdist.")


@dataclass(frozen=True, slots=True)
class ExpectedFiles:
    """What may differ: digests (SHA-256) of the files of the build context, before and after.

    ``left_out`` are files that the ignore file kept out after the plan, but not before it.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]
    left_out: frozenset[str]

    def changes(self, old: str, new: str) -> bool:
        """Whether the plan turned a file with the digest ``old`` into one with ``new``."""
        return any(
            digest == old and self.after.get(path) == new for path, digest in self.before.items()
        )

    def leaves_out(self, path: str, digest: str) -> bool:
        """Whether the file at ``path`` in the image is one that the ignore file now keeps out."""
        return any(
            (not digest or self.before.get(source) == digest)
            and (path == source or path.endswith(f"/{source}") or source.endswith(f"/{path}"))
            for source in self.left_out
        )


def files_check(
    before: Mapping[str, Entry], after: Mapping[str, Entry], expected: ExpectedFiles
) -> Check:
    """Compare which files there are, their content, owner and mode.

    Bytecode and virtual environments are left to the comparison of packages, and so is what
    setuptools leaves beside the code that it installs. Of a file that the build itself made, only
    the place, owner and mode count.
    """
    old, new = _compared(before), _compared(after)
    wrong = list(_differences(old, new, expected))
    return check_of("files", wrong, f"{len(new)} files and links")


def _differences(
    before: Mapping[str, Entry], after: Mapping[str, Entry], expected: ExpectedFiles
) -> Iterator[str]:
    sources, results = set(expected.before.values()), set(expected.after.values())
    for path, old in before.items():
        new = after.get(path)
        if new is None:
            digest = old.digest if old.kind == "file" else ""
            if not expected.leaves_out(path, digest):
                yield f"{path} is missing"
        elif new.owner != old.owner:
            yield f"{path} belongs to user {new.owner}, before to {old.owner}"
        elif old.kind != "link" and new.mode != old.mode:
            yield f"{path} has mode {new.mode:o}, before {old.mode:o}"
        elif old.digest != new.digest and not expected.changes(old.digest, new.digest):
            is_made_by_the_build = old.digest not in sources and new.digest not in results
            if not is_made_by_the_build or old.kind != new.kind or old.kind == "link":
                yield f"{path} has another content"
    for path, new in after.items():
        if path not in before and new.digest not in results:
            yield f"{path} is new"


def _compared(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    environments = tuple(
        posixpath.dirname(path) + "/"
        for path in entries
        if posixpath.basename(path) == "pyvenv.cfg" and posixpath.dirname(path)
    )
    return {
        path: entry
        for path, entry in entries.items()
        if entry.kind in ("file", "link")
        and not path.endswith(".pyc")
        and not path.startswith(environments)
        and "-packages/" not in path
        and not any(left in path for left in LEFT_BY_SETUPTOOLS)
    }
