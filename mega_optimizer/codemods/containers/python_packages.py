"""The Python packages of a service, by what declares, pins or installs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.context import Context


def packages_of(context: Context, *recipes: Recipe) -> dict[str, frozenset[str]]:
    """Return the Python packages that the service depends on, with their extras."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, frozenset[str]] = {}
    for manifest in context.dependencies.manifests:
        for dependency in manifest.dependencies:
            known = found.get(dependency.name, frozenset())
            found[dependency.name] = known | dependency.extras
    for name in context.dependencies.locked:
        found.setdefault(name, frozenset())
    installs = (each[2] for recipe in recipes for each in recipe.installs())
    for install in installs:
        for text in install.requirements if not isinstance(install, str) else ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            key = canonicalize_name(requirement.name)
            found[key] = found.get(key, frozenset()) | requirement.extras
    return found
