"""Complete a fix with the edits of manifests and lock files that its requirements need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Skip, apply_edits

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Fix
    from mega_optimizer.engine.resolve import Resolver


def with_requirements(
    fix: Fix, context: Context, resolver: Resolver | None, stale_locks: bool
) -> tuple[Edit, ...] | Skip:
    """Return all edits of ``fix``, those that declare its requirements and refresh locks included.

    With ``stale_locks`` locks are left as they are.
    """
    edits = fix.edits() if callable(fix.edits) else fix.edits
    if isinstance(edits, Skip) or not fix.requires:
        return edits
    from mega_optimizer.codemods.dependencies import add_requirements
    from mega_optimizer.engine.lock import refresh_locks

    added = add_requirements(context, fix.requires, beside=fix.beside)
    if isinstance(added, Skip):
        return added
    if not added or stale_locks:
        return (*edits, *added)
    paths = {edit.path for edit in added}
    changed = {
        path: apply_edits(context.files.read(path), [edit for edit in added if edit.path == path])
        for path in paths
    }
    locks = refresh_locks(
        context.files, context.dependencies, changed, resolver, python=context.python_version
    )
    if isinstance(locks, Skip):
        return locks
    replaced = [
        Edit(path, 0, len(context.files.read(path)), content) for path, content in locks.items()
    ]
    return (*edits, *added, *replaced)
