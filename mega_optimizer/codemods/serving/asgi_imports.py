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

BESIDE = ("starlette", "fastapi")


def with_imports(
    facts: PythonFacts, shape: Shape, new: bytes, request: str, place: Place
) -> bytes | Skip:
    """Return the module with the imports that the class needs, and without those left over."""
    wanted = [("starlette.types", "ASGIApp")] if b"app: ASGIApp)" in new else []
    if shape.touches_headers:
        wanted.append(("starlette.datastructures", "MutableHeaders"))
    if shape.uses_request and request not in facts.bindings:
        wanted.append(("starlette.requests", "Request"))
    names = ["Message"] if b"send_wrapper(message: Message)" in new else []
    wanted += [("starlette.types", name) for name in (*names, "Receive", "Scope", "Send")]
    for module, name in wanted:
        read = _read(facts.path, new)
        if isinstance(read, Skip):
            return read
        now, tree = read
        if name in facts.bound_names and facts.resolve(name) != f"{module}.{name}":
            return Skip(place, "name-taken", f"{name} already means something else in this file")
        added = ensure_import(tree, now, module, name, place.line, beside=BESIDE)
        if isinstance(added, Skip):
            return added
        new = added[0].bytes
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
