"""The imports of a module whose middleware became pure ASGI: those it needs, none left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.imports import ensure_import, without_import
from mega_optimizer.codemods.python import parse_module, skipped
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import python_facts

if TYPE_CHECKING:
    import libcst as cst

    from mega_optimizer.codemods.serving.middleware_shape import Shape
    from mega_optimizer.repository.python import PythonFacts

TYPES = "starlette.types"
BESIDE = ("starlette", "fastapi")


def with_imports(
    facts: PythonFacts, shape: Shape, new: bytes, request: str, place: Place
) -> bytes | Skip:
    """Return the module with the imports that the class needs, and without those left over."""
    first = together = ""
    wanted = [(TYPES, "ASGIApp")] if b"app: ASGIApp)" in new else []
    if shape.touches_headers:
        wanted.append(("starlette.datastructures", "MutableHeaders"))
    if shape.uses_request and request not in facts.bindings:
        wanted.append(("starlette.requests", "Request"))
    names = ["Message"] if b"send_wrapper(message: Message)" in new else []
    names += ["Receive", "Scope", "Send"]
    wanted += [(TYPES, name) for name in names]
    for module, name in wanted:
        if name in facts.bound_names and facts.resolve(name) != f"{module}.{name}":
            return Skip(place, "name-taken", f"{name} already means something else in this file")
    if all(not each.target.startswith(TYPES) for each in facts.imports):
        # Written as one line at once: a large module takes a while to parse.
        first = next(name for module, name in wanted if module == TYPES)
        together = ", ".join(name for module, name in wanted if module == TYPES)
        wanted = [each for each in wanted if each[0] != TYPES or each[1] == first]
    for module, name in wanted:
        read = _read(facts.path, new)
        if isinstance(read, Skip):
            return read
        now, tree = read
        added = ensure_import(tree, now, module, name, place.line, beside=BESIDE)
        if isinstance(added, Skip):
            return added
        new = added[0].bytes
        if module == TYPES and together:
            line = f"from {TYPES} import {first}".encode()
            new = new.replace(line, f"from {TYPES} import {together}".encode(), 1)
    return _without_left_over(facts, new)


def _read(path: str, content: bytes) -> tuple[PythonFacts, cst.Module] | Skip:
    facts = python_facts(path, content)
    if isinstance(facts, Problem):
        return skipped(facts)
    tree = parse_module(path, content)
    return skipped(tree) if isinstance(tree, Problem) else (facts, tree)


def _without_left_over(facts: PythonFacts, new: bytes) -> bytes:
    """Take away the imports that the file used before, and nothing uses any more."""
    used = {text.partition(".")[0] for texts in facts.loads.values() for text in texts}
    for each in facts.imports:
        if each.scope or each.bound not in used:
            continue
        read = _read(facts.path, new)
        if isinstance(read, Skip):
            return new
        now, tree = read
        left = {text.partition(".")[0] for texts in now.loads.values() for text in texts}
        if each.bound not in left:
            new = without_import(tree, now, each.bound).bytes
    return new
