"""Which functions hold what a load gives, and what each may do with it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.loading import Objection, own_nodes
from mega_optimizer.codemods.ml.steady import dotted
from mega_optimizer.codemods.ml.taking_turns import changes_in, sections
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import LOST, users
from mega_optimizer.codemods.source import Source, read_source

if TYPE_CHECKING:
    from mega_optimizer.codemods.ml.loading import Function, Loading
    from mega_optimizer.codemods.program import Program

WAYS = 100  # functions looked at on the ways from the routes


@dataclass(frozen=True, slots=True)
class Holder:
    """A function that gets objects from a load, and its statements that need their locks.

    ``sections`` has one entry for each object; ``text`` is how a factory is named there.
    """

    path: str
    scope: str
    function: Function
    text: str
    sections: tuple[tuple[ast.stmt, ...], ...]


def holders_of(
    program: Program, sources: dict[str, Source], loading: Loading
) -> tuple[Holder, ...] | Objection:
    """Return the functions that use what ``loading`` gives, or why they cannot share it.

    ``sources`` are the modules read so far; those of the holders are added.
    """
    if not loading.is_factory:
        assert loading.variable is not None
        found = _checked(
            sources[loading.path],
            loading.function,
            [loading.variable],
            loading.taking_turns,
            loading.moved,
        )
        if isinstance(found, Objection):
            return found
        return (Holder(loading.path, loading.scope, loading.function, "", found),)
    holders: list[Holder] = []
    definition = Definition(loading.path, loading.scope)
    for user in dict.fromkeys(users(program, definition)):
        if user is None or user is LOST:
            return Objection("shape-not-known", "a framework calls it, or too many modules do")
        if user == definition:
            return Objection("shape-not-known", "calls itself")
        holder = _holder(program, sources, loading, definition, user)
        if isinstance(holder, Objection):
            return holder
        holders.append(holder)
    elsewhere = _module_level_use(program, definition)
    if elsewhere is not None:
        return Objection("model-kept", f"{elsewhere} uses it while it is imported")
    return tuple(holders)


def _module_level_use(program: Program, definition: Definition) -> str | None:
    for path in program.with_word(definition.name):
        facts = program.facts(path)
        for text in facts.loads.get("", ()) if facts else ():
            found = program.definition(path, facts.resolve(text) if facts else None)
            if found == definition:
                return path
    return None


def _holder(
    program: Program,
    sources: dict[str, Source],
    loading: Loading,
    definition: Definition,
    user: Definition,
) -> Holder | Objection:
    content = program.read(user.path)
    facts = program.facts(user.path)
    if user.path not in sources and content is not None:
        read = read_source(user.path, content)
        if isinstance(read, Source):
            sources[user.path] = read
    source = sources.get(user.path)
    function = function_at(source, user.name) if source is not None else None
    if source is None or facts is None or function is None:
        return Objection("shape-not-known", f"{user.name} in {user.path} uses it in its own way")
    unknown = Objection(
        "shape-not-known", f"what {user.name} in {user.path} does with it cannot be seen"
    )
    calls = [
        node
        for node in own_nodes(function)
        if isinstance(node, ast.Call)
        and (text := dotted(node.func)) is not None
        and program.definition(user.path, facts.resolve(text)) == definition
    ]
    named = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Name | ast.Attribute)
        and (text := dotted(node)) is not None
        and program.definition(user.path, facts.resolve(text)) == definition
    ]
    if len(calls) != 1 or len(named) != 1:
        return unknown
    call = calls[0]
    statement = source.parents[call]
    if (
        not isinstance(statement, ast.Assign)
        or len(statement.targets) != 1
        or call.args
        or call.keywords
    ):
        return unknown
    target = statement.targets[0]
    targets = target.elts if isinstance(target, ast.Tuple) else [target]
    names = [each.id for each in targets if isinstance(each, ast.Name)]
    if len(names) != len(targets) or len(names) != len(loading.taking_turns):
        return unknown
    stored = [
        each.id
        for each in ast.walk(function)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    ]
    if any(stored.count(name) != 1 for name in names):
        return unknown
    found = _checked(source, function, names, loading.taking_turns, (statement,))
    if isinstance(found, Objection):
        return found
    text = dotted(call.func) or ""
    return Holder(user.path, user.name, function, text, found)


def function_at(source: Source, scope: str) -> Function | None:
    """Return the function or method at the dotted path ``scope``, else None."""
    body: list[ast.stmt] = source.tree.body
    found: ast.stmt | None = None
    for name in scope.split("."):
        named = [
            each
            for each in body
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and each.name == name
        ]
        if len(named) != 1:
            return None
        found, body = named[0], named[0].body
    return found if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) else None


def _checked(
    source: Source,
    function: Function,
    names: list[str],
    turns: tuple[bool, ...],
    moved: tuple[ast.stmt, ...],
) -> tuple[tuple[ast.stmt, ...], ...] | Objection:
    result: list[tuple[ast.stmt, ...]] = []
    for name, takes_turns in zip(names, turns, strict=True):
        changed = changes_in(function, name, moved)
        if changed is not None:
            reason = f"{function.name} uses {changed}, which may change what was loaded"
            return Objection("model-changed", reason)
        found = sections(source, function, name, moved) if takes_turns else []
        if isinstance(found, Objection):
            return found
        result.append(tuple(found))
    if _nest(source, result):
        return Objection("locks-nest", "two locks would be taken one within the other")
    return tuple(result)


def _nest(source: Source, groups: list[tuple[ast.stmt, ...]]) -> bool:
    """Whether a statement that needs one lock stands within one that needs another."""
    every = {each for group in groups for each in group}
    return any(outer in every for each in every for outer in source.around(each))


def crossing(program: Program, holders: tuple[Holder, ...]) -> Objection | None:
    """Return why threads and the event loop would wait for each other's locks.

    A coroutine that waits for a lock stops all others, and a thread may hold it for long.
    """
    colours: set[str] = set()
    for holder in holders:
        if not any(holder.sections):
            continue
        colours |= _colours(program, holder)
    if len(colours) > 1:
        reason = "both coroutines and threads would hold its lock: requests would stop each other"
        return Objection("blocks-the-loop", reason)
    return None


def _colours(program: Program, holder: Holder) -> set[str]:
    """Return whether the ways from routes to a function lead through coroutines, or threads."""
    found: set[str] = set()
    start = Definition(holder.path, holder.scope)
    seen = {start}
    waiting = [start]
    while waiting and len(seen) < WAYS:
        each = waiting.pop()
        facts = program.facts(each.path)
        function = facts.function(each.name) if facts is not None else None
        if function is not None and function.is_async:
            found.add("loop")
            continue
        above = [user for user in users(program, each) if user is not None and user is not LOST]
        if not above:
            found.add("threads")
        for user in above:
            if user not in seen:
                seen.add(user)
                waiting.append(user)
    return found


def calls_each_other(program: Program, holders: tuple[Holder, ...]) -> Objection | None:
    """Return why a thread that holds one lock would come to wait for another."""
    owners = {Definition(each.path, each.scope) for each in holders if any(each.sections)}
    for holder in holders:
        facts = program.facts(holder.path)
        if facts is None:
            continue
        for statement in (each for group in holder.sections for each in group):
            for node in ast.walk(statement):
                text = dotted(node.func) if isinstance(node, ast.Call) else None
                found = program.definition(holder.path, facts.resolve(text)) if text else None
                if found in owners:
                    return Objection("locks-nest", f"{text} is called while a lock is held")
    return None
