"""Conda's environment.yml: recognised and read, never edited.

Conda packages do not come from a Python package index: they keep their bounds, and their origin
is ``url``, because no resolver of ours can say what conda would install.
"""

from __future__ import annotations

import re
from dataclasses import replace

from mega_optimizer.repository.dependencies.model import Dependency, Manifest
from mega_optimizer.repository.dependencies.requirements import TEMPLATE, pep508
from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Place, Problem

MAXIMUM_BYTES = 256 * 1024
ITEM = re.compile(r"""^(\s*)-\s+["']?([^"'#]+?)["']?\s*(?:#.*)?$""")
CONDA_PIN = re.compile(r"^([A-Za-z0-9._-]+)\s*=\s*([0-9][0-9A-Za-z.]*)(?:=\S+)?$")


@by_content(64)
def read_environment(path: str, content: bytes) -> Manifest | Problem:
    """Return what an environment.yml declares, conda's own packages and the ``pip`` list."""
    from packaging.specifiers import SpecifierSet

    if len(content) > MAXIMUM_BYTES:
        return Problem(path, "too-large", f"larger than {MAXIMUM_BYTES} bytes")
    dependencies: list[Dependency] = []
    problems: list[Problem] = []
    python: SpecifierSet | None = None
    inside, pip_indent = False, -1
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1):
        if TEMPLATE.search(line):
            return Problem(path, "templated", "a template, not an environment", number)
        if re.match(r"\S", line) and not line.startswith(("-", "#")):
            inside = line.startswith("dependencies:")
            pip_indent = -1
        match = ITEM.match(line) if inside else None
        if match is None:
            continue
        indent, text = len(match[1]), match[2].strip()
        if text == "pip:":
            pip_indent = indent
            continue
        is_pip = pip_indent >= 0 and indent > pip_indent
        if not is_pip:
            pip_indent = -1
            text = CONDA_PIN.sub(r"\1==\2.*", text.rsplit("::", 1)[-1])
        if is_pip and text.startswith("-"):
            continue
        dependency = pep508(text, Place(path, number))
        if dependency is None:
            problems.append(
                Problem(path, "bad-requirement", f"not a requirement: {text[:80]!r}", number)
            )
        elif dependency.name == "python":
            python = dependency.specifier
        else:
            dependencies.append(dependency if is_pip else replace(dependency, origin="url"))
    return Manifest(
        path,
        "conda",
        tuple(dependencies),
        requires_python=python,
        problems=tuple(problems),
    )
