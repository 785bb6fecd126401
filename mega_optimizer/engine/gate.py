"""The preconditions of a rule that its rule.yaml names: forbidden traits and versions.

``python`` among the versions means that of the image, where its base names one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.repository.dependencies.allowed import holds

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.engine.resolve import Resolver
    from mega_optimizer.rules import Rule


def closed_gate(rule: Rule, context: Context, resolver: Resolver | None) -> tuple[str, str] | None:
    """Return (skip code, reason) where a precondition does not hold or is not known, else None."""
    for name in rule.not_traits:
        trait = context.service.trait(name)
        if trait:
            return f"has-{name}", f"the service uses {name} ({trait.place})"
    for package, wanted in rule.versions:
        if package == "python":
            closed = _wrong_python(context, wanted)
        else:
            closed = _wrong_version(context, resolver, package, wanted)
        if closed:
            return closed
    return None


def _wrong_python(context: Context, wanted: str) -> tuple[str, str] | None:
    """Return the skip where the image's Python is known to be another one."""
    from packaging.specifiers import SpecifierSet

    version = context.python_version
    if version is None or SpecifierSet(wanted).contains(version):
        return None
    return "version-excluded", f"needs Python {wanted}: the image has {version}"


def _wrong_version(
    context: Context, resolver: Resolver | None, package: str, wanted: str
) -> tuple[str, str] | None:
    from packaging.specifiers import SpecifierSet

    specifier = SpecifierSet(wanted)
    for python in _pythons(context, specifier):
        resolve = partial(resolver.resolve, python=python) if resolver else None
        verdict = holds(context.dependencies, package, specifier, resolve)
        if verdict.answer != "holds":
            break
    else:
        return None
    code = "version-excluded" if verdict.answer == "fails" else "version-unknown"
    return code, f"needs {package} {wanted}: {verdict.why}"


def _pythons(context: Context, wanted: SpecifierSet) -> tuple[str | None, ...]:
    """Return the Pythons that a resolver is asked about; None is the lowest that is allowed.

    Where no image says which Python it is, an old one is given old versions: what must lie below a
    bound has to do so on a newer Python too.
    """
    from mega_optimizer.engine.resolve import newest_python

    if context.python_version is not None:
        return (context.python_version,)
    if not any(clause.operator in ("<", "<=", "==", "~=") for clause in wanted):
        return (None,)
    return None, newest_python(context.dependencies.requires_python)
