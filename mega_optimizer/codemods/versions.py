"""Which versions of a package the service may run with, for rules with more than one side.

A rule with one side names it in its ``rule.yaml``, and the engine looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.repository.dependencies.allowed import holds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.dependencies.allowed import Verdict
    from mega_optimizer.repository.dependencies.model import Dependencies, LockedPackage
    from mega_optimizer.repository.place import Problem

_PLATFORM = "x86_64-manylinux_2_28"
_NEWEST_PYTHON = "3.12"


def version_verdict(context: Context, package: str, wanted: str) -> Verdict:
    """Say whether ``wanted`` holds for every version of ``package`` that the service allows.

    What the index would install today decides where neither a lock nor a range does.
    """
    from packaging.specifiers import SpecifierSet

    index = context.index

    def resolve(dependencies: Dependencies) -> Mapping[str, LockedPackage] | Problem:
        assert index is not None
        python = context.python_version or _NEWEST_PYTHON
        answer = index.wheels(dependencies, python=python, platform=_PLATFORM)
        return answer[0] if isinstance(answer, tuple) else answer

    def verdict(context: Context) -> Verdict:
        return holds(
            context.dependencies, package, SpecifierSet(wanted), resolve if index else None
        )

    return context.once(f"version: {package}{wanted}", verdict)


def is_version(context: Context, package: str, wanted: str) -> bool:
    """Whether ``wanted`` is shown for every version of ``package`` that the service allows."""
    return version_verdict(context, package, wanted).answer == "holds"
