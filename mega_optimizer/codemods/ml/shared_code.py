"""Rewrite modules so that models are loaded once, behind a lock, and used in turns.

Made of byte ranges: the statements that are indented or moved keep their comments and their shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.draft import Draft
from mega_optimizer.codemods.finding import Skip, apply_edits
from mega_optimizer.codemods.ml.lock_uses import ModuleEdits, lock_uses
from mega_optimizer.codemods.ml.shared_definitions import write_definitions
from mega_optimizer.codemods.ml.shared_names import names_for
from mega_optimizer.codemods.ml.warm_up import warm_up_fits
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.codemods.ml.shared_names import Found, Named
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts


def share(
    context: Context, facts: PythonFacts, sources: dict[str, Source], found: tuple[Found, ...]
) -> Edits | Skip:
    """Return the edits that share what ``found`` loads.

    Skip codes: ``name-taken``, ``shape-not-known``, those of imports.
    """
    names = names_for(facts, found)
    if isinstance(names, Skip):
        return names
    plain = _drafted(context, facts, sources, found, names, warm=False)
    if isinstance(plain, Skip):
        return plain
    if warm_up_fits(context, facts):
        warmed = _drafted(context, facts, sources, found, names, warm=True)
        if not isinstance(warmed, Skip):
            return warmed.edits()
    return plain.edits()


def _drafted(
    context: Context,
    facts: PythonFacts,
    sources: dict[str, Source],
    found: tuple[Found, ...],
    names: dict[int, Named],
    *,
    warm: bool,
) -> Draft | Skip:
    from mega_optimizer.codemods.lifespan import Resource, open_around_serving
    from mega_optimizer.codemods.startup import startup_of

    paths = {facts.path, *(each.path for _, holders in found for each in holders)}
    modules = {path: ModuleEdits(sources[path]) for path in paths}
    home = modules[facts.path]
    warm_name = write_definitions(context, facts, home, found, names, warm=warm)
    if isinstance(warm_name, Skip):
        return warm_name
    held = [
        (each, names[number].locks) for number, (_, holders) in enumerate(found) for each in holders
    ]
    locked = lock_uses(context, facts, modules, held)
    if locked is not None:
        return locked
    draft = Draft(context)
    for path, module in modules.items():
        objection = _put(draft, path, module)
        if objection is not None:
            return objection
    if not warm:
        return draft
    startup = startup_of(context, facts.path)
    if isinstance(startup, Skip):
        return startup
    return open_around_serving(context, draft, startup, Resource(facts.path, warm_name)) or draft


def _put(draft: Draft, path: str, module: ModuleEdits) -> Skip | None:
    import libcst as cst

    tree = draft.tree(path)
    if isinstance(tree, Skip):
        return tree
    changed = apply_edits(module.source.content, module.edits)
    draft.put(path, cst.parse_module(changed))
    for package, name, above in dict.fromkeys(module.imports):
        whole = not name
        added = (
            draft.add_module(path, package, above)
            if whole
            else draft.add_import(path, package, name, above)
        )
        if isinstance(added, Skip):
            return added
        if added != (name or package):
            return Skip(Place(path), "name-taken", f"{name} is imported under another name")
    return None
