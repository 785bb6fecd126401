"""Put the statements that use a shared object into ``with lock:``."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.codemods.ml.loading import block_of
from mega_optimizer.codemods.module_paths import import_path
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.ml.holders import Holder
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts


@dataclass(slots=True)
class ModuleEdits:
    """What is to happen to one module: edits of its bytes, and names that it has to import."""

    source: Source
    edits: list[Edit] = field(default_factory=list)
    imports: list[tuple[str, str, str]] = field(default_factory=list)


def lock_uses(
    context: Context,
    facts: PythonFacts,
    modules: dict[str, ModuleEdits],
    held: Sequence[tuple[Holder, tuple[str | None, ...]]],
) -> Skip | None:
    """Lock the statements of each holder; the locks are those of its objects, None without.

    The module of ``facts`` defines the locks.
    """
    wanted: dict[str, dict[ast.stmt, set[str]]] = defaultdict(lambda: defaultdict(set))
    for holder, locks in held:
        for lock, statements in zip(locks, holder.sections, strict=True):
            if lock is None or not statements:
                continue
            local = _local_lock(context, facts, modules, holder, lock)
            if isinstance(local, Skip):
                return local
            for statement in statements:
                wanted[holder.path][statement].add(local)
    for path, locked in wanted.items():
        module = modules[path]
        newline = b"\r\n" if b"\r\n" in module.source.content else b"\n"
        for run, names in _runs(module.source, locked):
            _indent(module, path, run, names, newline)
    return None


def _local_lock(
    context: Context, facts: PythonFacts, modules: dict[str, ModuleEdits], holder: Holder, lock: str
) -> str | Skip:
    """Return how a holder names a lock, and see to its import."""
    if holder.path == facts.path:
        return lock
    owner = holder.text.rpartition(".")[0]
    if owner:
        return f"{owner}.{lock}"
    module = import_path(context, holder.path, facts.path)
    if module is None:
        reason = f"no import shows how {holder.path} would import {facts.path}"
        return Skip(Place(holder.path), "import-path-unknown", reason)
    above = holder.scope.partition(".")[0]
    modules[holder.path].imports.append((module, lock, above))
    return lock


def _runs(
    source: Source, statements: dict[ast.stmt, set[str]]
) -> Iterator[tuple[list[ast.stmt], str]]:
    """Yield neighbours that need the same locks, with the locks in one order everywhere."""
    seen: set[ast.stmt] = set()
    for statement in sorted(statements, key=lambda each: each.lineno):
        if statement in seen:
            continue
        block = block_of(source, statement)
        run = [statement]
        for following in block[block.index(statement) + 1 :]:
            if statements.get(following) != statements[statement]:
                break
            run.append(following)
        seen.update(run)
        yield run, ", ".join(sorted(statements[statement]))


def _indent(
    module: ModuleEdits, path: str, run: list[ast.stmt], locks: str, newline: bytes
) -> None:
    content = module.source.content
    start = (module.source.own_lines(run[0]) or (0, 0))[0]
    end = (module.source.own_lines(run[-1]) or (0, 0))[1]
    text = content[start:end]
    margin = re.match(rb"[ \t]*", text)
    indent = margin[0] if margin else b""
    step = b"\t" if b"\t" in indent else b"    "
    kept = {
        line
        for one in run
        for each in ast.walk(one)
        if isinstance(each, ast.Constant | ast.JoinedStr) and each.end_lineno != each.lineno
        for line in range(each.lineno + 1, (each.end_lineno or each.lineno) + 1)
        if isinstance(each, ast.JoinedStr) or isinstance(each.value, str | bytes)
    }
    first = run[0].lineno
    inserts = [(start, indent + b"with " + locks.encode() + b":" + newline)]
    offset = start
    for number, line in enumerate(text.splitlines(keepends=True), first):
        if line.strip() and number not in kept:
            inserts.append((offset, step))
        offset += len(line)
    merged: dict[int, bytes] = {}
    for at, addition in inserts:
        merged[at] = merged.get(at, b"") + addition
    module.edits += [Edit(path, at, at, addition) for at, addition in merged.items()]
