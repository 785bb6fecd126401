"""State that lives in one process and is written while requests run.

Containers at module level, attributes of objects made at module level, and names declared
``global``: with several worker processes each has its own, and none sees what the others wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.program import Definition
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts, Value

CONTAINERS = frozenset(
    {
        "builtins.dict", "builtins.list", "builtins.set", "collections.defaultdict",
        "collections.OrderedDict", "collections.Counter", "collections.deque", "queue.Queue",
        "queue.PriorityQueue", "queue.LifoQueue", "queue.SimpleQueue", "asyncio.Queue",
        "itertools.count", "weakref.WeakValueDictionary", "weakref.WeakSet",
    }
)  # fmt: skip
MUTATING = frozenset(
    {
        "append", "appendleft", "add", "update", "pop", "popleft", "popitem", "setdefault",
        "clear", "extend", "insert", "remove", "discard", "put", "put_nowait", "get_nowait",
    }
)  # fmt: skip
STARTUP_DECORATORS = frozenset({"on_event", "asynccontextmanager", "before_first_request"})


@dataclass(frozen=True, slots=True)
class State:
    """A ``name`` that a running function writes to, and the ``place`` where it does."""

    name: str
    place: Place
    is_global: bool = False


def process_state(program: Program, paths: Sequence[str]) -> Iterator[State]:
    """Yield what functions of the modules at ``paths`` write to and other processes do not see."""
    for path in paths:
        facts = program.facts(path)
        if facts is None:
            continue
        classes = {each.path for each in facts.classes}
        starting = startup_functions(facts)
        for name, scope, line in _writes(facts):
            if scope in classes or scope in starting:
                continue
            target = program.definition(path, name)
            if target is not None and _is_container(program, target):
                yield State(target.name, Place(path, line))
        for function in facts.functions:
            if function.global_names and function.path not in starting:
                name = min(function.global_names)
                yield State(name, Place(path, function.line), is_global=True)
        yield from _objects(program, facts)
        yield from _on_application(facts, starting)


def startup_functions(facts: PythonFacts) -> frozenset[str]:
    """Return the functions of a module that run once, when the application starts."""
    return frozenset(
        function.path
        for function in facts.functions
        if any(each.text.rpartition(".")[2] in STARTUP_DECORATORS for each in function.decorators)
    )


def _writes(facts: PythonFacts) -> Iterator[tuple[str, str, int]]:
    """Yield (resolved name, scope, line) of what functions of a module write into."""
    for store in facts.stores:
        if store.scope and store.name:
            yield store.name, store.scope, store.line
    for call in facts.calls:
        owner, _, method = (call.name or "").rpartition(".")
        if call.scope and owner and method in MUTATING:
            yield owner, call.scope, call.line


def _is_container(program: Program, target: Definition) -> bool:
    facts = program.facts(target.path)
    value = facts.assigned(target.name) if facts is not None else None
    return value is not None and is_container(value)


def is_container(value: Value) -> bool:
    """Whether ``value`` makes a list, a dictionary, a set, a queue or a counter."""
    if value.kind == "call":
        return value.name in CONTAINERS
    return value.kind == "collection"


def _on_application(facts: PythonFacts, starting: frozenset[str]) -> Iterator[State]:
    """Yield what functions put into ``app.state``, which lives as long as its process."""
    written = [(store.text, store.scope, store.line) for store in facts.stores]
    written += [
        (call.text, call.scope, call.line)
        for call in facts.calls
        if call.text.rpartition(".")[2] in MUTATING
    ]
    for text, scope, line in written:
        if scope and scope not in starting and "app.state." in text:
            yield State(text, Place(facts.path, line))


def _objects(program: Program, facts: PythonFacts) -> Iterator[State]:
    """Yield the attributes that methods write to, of classes with an object at module level."""
    for each in facts.classes:
        holding = {
            kept.target.rpartition(".")[2]
            for kept in facts.assignments
            if kept.scope in (each.path, f"{each.path}.__init__") and is_container(kept.value)
        }
        if not holding:
            continue
        line = _first_write(facts, each.path, holding)
        if line is not None and _has_module_object(program, Definition(facts.path, each.path)):
            yield State(each.path, Place(facts.path, line))


def _first_write(facts: PythonFacts, owner: str, attributes: set[str]) -> int | None:
    lines = []
    for scope, text, line in (
        *((store.scope, store.text, store.line) for store in facts.stores),
        *(
            (call.scope, call.text.rpartition(".")[0], call.line)
            for call in facts.calls
            if call.text.rpartition(".")[2] in MUTATING
        ),
    ):
        in_method = scope.startswith(f"{owner}.") and scope != f"{owner}.__init__"
        root, _, attribute = text.partition(".")
        if in_method and root in ("self", "cls") and attribute in attributes:
            lines.append(line)
    return min(lines, default=None)


def _has_module_object(program: Program, wanted: Definition) -> bool:
    word = wanted.name.rpartition(".")[2].encode()
    for path in program.containing(rb"\b" + word + rb"\(", program.product, word):
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            if call.scope and not _keeps(facts, call.scope, call.line):
                continue
            if program.definition(path, call.name) == wanted:
                return True
    return False


def _keeps(facts: PythonFacts | None, scope: str, line: int) -> bool:
    """Whether what a function makes on ``line`` outlives it: ``app.state.x = …``, cached."""
    if facts is None:
        return False
    function = facts.function(scope)
    cached = function is not None and any(
        each.text.rpartition(".")[2] in ("lru_cache", "cache") for each in function.decorators
    )
    return cached or any(
        store.line == line and ".state" in f".{store.text}" for store in facts.stores
    )
