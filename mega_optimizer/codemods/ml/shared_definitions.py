"""Write the locks, the cached loaders and what warms them up into the module that loads."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.annotations import generic_module
from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.codemods.ml.shared_names import nouns_of
from mega_optimizer.codemods.ml.shared_text import (
    ABOUT_LOADING,
    LOADING,
    about,
    dedented,
    locked_getter,
    warmer,
    warmer_name,
)

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.ml.loading import Loading
    from mega_optimizer.codemods.ml.lock_uses import ModuleEdits
    from mega_optimizer.codemods.ml.shared_names import Found, Named
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts


def write_definitions(
    context: Context,
    facts: PythonFacts,
    module: ModuleEdits,
    found: tuple[Found, ...],
    names: dict[int, Named],
    *,
    warm: bool,
) -> str | Skip:
    """Write the locks, the cached loaders and what warms them up; return the last one's name."""
    source = module.source
    newline = b"\r\n" if b"\r\n" in source.content else b"\n"
    roots = {_root(source, loading.function): None for loading, _ in found}
    first = min(roots, key=lambda each: each.lineno)
    head = [f"# {ABOUT_LOADING}", f"{LOADING} = RLock()"]
    for number, (loading, holders) in enumerate(found):
        for noun, lock in zip(nouns_of(loading, holders), names[number].locks, strict=True):
            if lock is not None:
                head += [f"# {about(loading, noun)}", f"{lock} = RLock()"]
    blocks: list[str] = ["\n".join(head)]
    for number, (loading, _) in enumerate(found):
        if loading.is_factory:
            _split_factory(source, module, loading, newline)
            continue
        block = _moved(source, module, loading, names[number].getter)
        if isinstance(block, Skip):
            return block
        blocks.append(block)
    getters = [names[number].getter for number in range(len(found))]
    warm_name = ""
    if warm:
        warm_name = warmer_name(getters)
        if warm_name in facts.bound_names:
            return Skip(found[0][0].place, "name-taken", f"{warm_name} means something else here")
        text = warmer(facts, warm_name, getters)
        factories = [loading.function for loading, _ in found if loading.is_factory]
        if factories:
            last = max(factories, key=lambda each: each.lineno)
            end = source.range(last)[1]
            module.edits.append(_after(module, facts.path, end, text, newline))
        else:
            blocks.append(text)
        above = LOADING
        module.imports += [
            ("asyncio", "", above),
            *([("logging", "", above)] if "logging." in text else []),
            ("contextlib", "asynccontextmanager", above),
            (generic_module(context), "AsyncIterator", above),
        ]
    _insert_above(source, module, facts.path, first, blocks, newline)
    module.imports += [("functools", "lru_cache", LOADING), ("threading", "RLock", LOADING)]
    return warm_name


def _after(module: ModuleEdits, path: str, end: int, text: str, newline: bytes) -> Edit:
    """Return the edit that writes a definition behind another, joined to one that ends there."""
    addition = newline * 3 + text.encode().replace(b"\n", newline)
    for position, each in enumerate(module.edits):
        if each.start == each.end == end:
            del module.edits[position]
            return Edit(path, end, end, each.replacement + addition)
    return Edit(path, end, end, addition)


def _root(source: Source, function: ast.stmt) -> ast.FunctionDef:
    """Return the top-level definition in which ``function`` stands."""
    found: ast.AST = function
    while source.parents[found] is not source.tree:
        found = source.parents[found]
    assert isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    return found  # type: ignore[return-value]


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(each.lineno for each in node.decorator_list)])


def _insert_above(
    source: Source,
    module: ModuleEdits,
    path: str,
    root: ast.FunctionDef,
    blocks: list[str],
    newline: bytes,
) -> None:
    """Put definitions above a top-level one and the comments that belong to it."""
    lines = source.content.splitlines(keepends=True)
    line = _first_line(root) - 1
    while line and lines[line - 1].startswith(b"#"):
        line -= 1
    at = sum(map(len, lines[:line]))
    blank = 0
    while blank < line and not lines[line - 1 - blank].strip():
        blank += 1
    before = newline * (max(0, 2 - blank) if line else 0)
    text = "\n\n\n".join(blocks).encode().replace(b"\n", newline)
    addition = before + text + newline * 3
    for position, each in enumerate(module.edits):
        if each.start == at:
            # the decorator of a factory stands there already
            del module.edits[position]
            module.edits.append(Edit(path, at, each.end, addition + each.replacement))
            return
    module.edits.append(Edit(path, at, at, addition))


def _split_factory(source: Source, module: ModuleEdits, loading: Loading, newline: bytes) -> None:
    """Cache the factory under another name, and let its own name take the lock."""
    function = loading.function
    start, end = source.range(function)
    name = re.compile(rb"def\s+(" + function.name.encode() + rb")").search(source.content, start)
    assert name is not None
    path, content = loading.path, source.content
    returns = ""
    if function.returns is not None:
        low, high = source.range(function.returns)
        returns = f" -> {content[low:high].decode()}"
    module.edits.append(Edit(path, start, start, b"@lru_cache(maxsize=1)" + newline))
    module.edits.append(Edit(path, name.start(1), name.start(1), b"_"))
    text = locked_getter(function.name, f"_{function.name}", returns)
    module.edits.append(_after(module, path, end, text, newline))


def _moved(source: Source, module: ModuleEdits, loading: Loading, getter: str) -> str | Skip:
    """Replace the statements that load by a call; return the loader that they make."""
    place = loading.place
    lines = [source.own_lines(each) for each in (*loading.copied, *loading.moved)]
    if None in lines or any(_has_long_string(each) for each in (*loading.copied, *loading.moved)):
        return Skip(place, "shape-not-known", "the statements that load it cannot be moved")
    ranges = [each for each in lines if each is not None]
    first, last = loading.moved[0], loading.moved[-1]
    start, end = source.range(first)[0], source.range(last)[1]
    variable = loading.variable
    module.edits.append(Edit(loading.path, start, end, f"{variable} = {getter}()".encode()))
    for copied in loading.copied:
        if not _is_used(loading, copied):
            low, high = source.own_lines(copied) or (0, 0)
            module.edits.append(Edit(loading.path, low, high, b""))
    loader = f"_load_{variable}"
    alone = loading.moved[0]
    assert isinstance(alone, ast.Assign | ast.AnnAssign)
    if len(loading.moved) == 1 and not loading.copied and alone.value is not None:
        low, high = source.range(alone.value)
        value = source.content[low:high].decode()
        body = dedented(f"return {value}", alone.col_offset)
    else:
        moved = _between(source, ranges[len(loading.copied)][0], ranges[-1][1])
        parts = [source.content[low:high] for low, high in ranges[: len(loading.copied)]]
        text = b"".join([*parts, moved]).decode().replace("\r\n", "\n").rstrip("\n")
        body = dedented(text, alone.col_offset) + f"\n    return {variable}"
    return f"@lru_cache(maxsize=1)\ndef {loader}():\n{body}\n\n\n{locked_getter(getter, loader)}"


def _between(source: Source, low: int, high: int) -> bytes:
    return source.content[low:high]


def _has_long_string(statement: ast.stmt) -> bool:
    return any(
        isinstance(each, ast.Constant | ast.JoinedStr)
        and isinstance(getattr(each, "value", ""), str)
        and each.lineno != each.end_lineno
        for each in ast.walk(statement)
    )


def _is_used(loading: Loading, copied: ast.stmt) -> bool:
    """Whether a local variable is used beyond the statements that are moved."""
    assert isinstance(copied, ast.Assign)
    assert isinstance(copied.targets[0], ast.Name)
    name = copied.targets[0].id
    gone = {each for one in (*loading.moved, *loading.copied) for each in ast.walk(one)}
    return any(
        isinstance(each, ast.Name) and each.id == name and each not in gone
        for each in ast.walk(loading.function)
    )
