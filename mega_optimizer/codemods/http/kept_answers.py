"""Functions whose answer is kept for later calls: what they fetch is fetched once in a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Function, PythonFacts

CACHES = frozenset({"cache", "lru_cache", "cached", "alru_cache", "ttl_cache", "cached_property"})


def is_kept(program: Program, facts: PythonFacts, scope: str) -> bool:
    """Whether all ways to the function ``scope`` lead through one that keeps its answer."""
    seen: set[str] = set()
    waiting = [scope]
    while waiting:
        path = waiting.pop()
        function = facts.function(path)
        if path in seen or (function is not None and _keeps(facts, function)):
            continue
        seen.add(path)
        name = path.rpartition(".")[2]
        users = {each.scope for each in facts.calls if each.text.rpartition(".")[2] == name}
        elsewhere = [each for each in program.with_word(name) if each != facts.path]
        if function is None or not users or "" in users or elsewhere:
            return False
        waiting += users
    return True


def _keeps(facts: PythonFacts, function: Function) -> bool:
    """Whether a function is cached, or returns what it puts into a global or its class."""
    names = {each.text.partition("(")[0].rpartition(".")[2] for each in function.decorators}
    if names & CACHES:
        return True
    returned = {each.text for each in function.returns if each is not None}
    put = {
        each.value.text
        for each in facts.stores
        if each.scope == function.path and each.text.startswith("cls.") and each.value is not None
    }
    return bool(returned & (function.global_names | put))
