"""Complete a fix with the edits of manifests and lock files that its requirements need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Skip, apply_edits
from mega_optimizer.repository.place import Problem

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

    wanted = _worded_as_siblings(fix, context, resolver)
    if isinstance(wanted, Skip):
        return wanted
    added = add_requirements(context, wanted, beside=fix.beside)
    if isinstance(added, Skip):
        return added
    added = _without_dropped(fix, context, added)
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


def _without_dropped(fix: Fix, context: Context, added: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """Return ``added``, with what ``fix`` drops taken out of the requirements files it edits."""
    from mega_optimizer.codemods.manifests import without_lines
    from mega_optimizer.codemods.python import edits_between

    plain = {one.path for one in context.dependencies.manifests if one.kind == "requirements"}
    paths = {edit.path for edit in added} & plain
    if not fix.drops or not paths:
        return added
    edits = [edit for edit in added if edit.path not in paths]
    for path in sorted(paths):
        before = context.files.read(path)
        after = apply_edits(before, [edit for edit in added if edit.path == path])
        edits += edits_between(path, before, without_lines(after, fix.drops))
    return tuple(edits)


def _worded_as_siblings(
    fix: Fix, context: Context, resolver: Resolver | None
) -> tuple[str, ...] | Skip:
    """Return the requirements of ``fix``, pinned where the manifest pins everything else.

    The versions are those that the resolver would install today; where it does not answer, the
    ranges of the rule stand. A skip where it has no answer because of the new requirements.
    """
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name

    from mega_optimizer.repository.dependencies.allowed import pinned_version

    declared = context.dependencies.declared(fix.beside) if fix.beside else ()
    manifest = next(
        (
            each
            for each in context.dependencies.manifests
            if declared and declared[0] in each.dependencies
        ),
        None,
    )
    if (
        resolver is None
        or manifest is None
        or manifest.kind != "requirements"
        or manifest.compiled
        or not all(pinned_version(each.specifier) for each in manifest.dependencies)
    ):
        return fix.requires
    resolved = resolver.resolve(
        context.dependencies, python=context.python_version, add=fix.requires
    )
    if isinstance(resolved, Problem):
        without = resolver.resolve(context.dependencies, python=context.python_version)
        if resolved.code == "no-solution" and not isinstance(without, Problem):
            return Skip(declared[0].place, "dependency-conflict", resolved.message)
        return fix.requires
    worded = []
    for requirement in map(Requirement, fix.requires):
        locked = resolved.get(canonicalize_name(requirement.name))
        if locked is not None:
            requirement.specifier = SpecifierSet(f"=={locked.version}")
        worded.append(str(requirement))
    return tuple(worded)
