"""The facts about one Python file, as small plain values: no syntax tree outlives the reading.

Names. ``text`` is a dotted name as written (``np.array``). ``name`` is what it stands for:
``numpy.array`` where exactly one unconditional import binds the root; ``..config.Settings`` for
relative imports; ``:Class.method`` or ``:app`` for what this file itself defines exactly once;
``None`` where that is not known (rebound, shadowed, try/except, star import, patched).
Scopes are dotted paths of the enclosing functions and classes, ``""`` for the module.

What a file has hundreds of is a named tuple, which is made three times as fast as a frozen
dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Where = Literal["plain", "try", "conditional", "type-checking"]
Kind = Literal[
    "constant",
    "name",
    "attribute",
    "call",
    "subscript",
    "union",
    "binary",
    "fstring",
    "collection",
    "other",
]


class Value(NamedTuple):
    """An expression, six levels deep; what lies deeper or is of another kind is ``other``.

    ``text`` and ``name`` are those of the name, of the function called, or of the thing that is
    subscripted; ``.attr`` where it belongs to an expression, which is then the first argument.
    ``arguments`` are a call's; for the other kinds the parts of the expression.
    """

    kind: Kind
    text: str = ""
    name: str | None = None
    constant: object = None
    arguments: tuple[Argument, ...] = ()

    def argument(self, keyword: str) -> Value | None:
        """Return the value passed as ``keyword=``, else None."""
        return next((each.value for each in self.arguments if each.keyword == keyword), None)


class Argument(NamedTuple):
    """One argument. ``keyword`` is None for a positional one; ``star`` is ``*`` or ``**``."""

    value: Value
    keyword: str | None = None
    star: Literal["", "*", "**"] = ""


class Import(NamedTuple):
    """One name bound by an import. ``bound`` is ``*`` for a star import."""

    bound: str
    target: str
    scope: str
    where: Where
    line: int


class Call(NamedTuple):
    """A call of a dotted name. It is the ``ordinal``-th (from 0) call of ``text`` in ``scope``.

    The count follows the source, over all functions of the same dotted path. ``deferred`` says
    that it stands in a lambda or comprehension.
    """

    value: Value
    scope: str
    ordinal: int
    line: int
    column: int

    @property
    def text(self) -> str:
        """The name called, as written."""
        return self.value.text

    @property
    def name(self) -> str | None:
        """What the name called stands for."""
        return self.value.name

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments in source order."""
        return self.value.arguments

    def argument(self, keyword: str) -> Value | None:
        """Return the value passed as ``keyword=``, else None."""
        return self.value.argument(keyword)

    @property
    def positional(self) -> tuple[Value, ...]:
        """The positional arguments before any ``*args``."""
        values: list[Value] = []
        for each in self.arguments:
            if each.star == "*":
                break
            if each.keyword is None and not each.star:
                values.append(each.value)
        return tuple(values)

    @property
    def unpacks(self) -> bool:
        """Whether ``*args`` or ``**kwargs`` hide a part of the arguments."""
        return any(each.star for each in self.arguments)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function, ``*args`` and ``**kwargs`` included."""

    name: str
    annotation: Value | None = None
    default: Value | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method; ``path`` is its dotted path, its own name last.

    ``returns`` are the values of its own return statements (None for a bare one).
    ``global_names`` are what it declares ``global``. ``waits`` says that it holds an ``await``,
    ``async for``, ``async with`` or asynchronous comprehension of its own.
    """

    path: str
    line: int
    is_async: bool
    is_generator: bool
    decorators: tuple[Value, ...]
    parameters: tuple[Parameter, ...]
    annotation: Value | None
    returns: tuple[Value | None, ...]
    global_names: frozenset[str]
    waits: bool


@dataclass(frozen=True, slots=True)
class Class:
    """A class; ``path`` is its dotted path."""

    path: str
    line: int
    bases: tuple[Value, ...]
    decorators: tuple[Value, ...]


class Assignment(NamedTuple):
    """``target = value`` for one plain or dotted target."""

    target: str
    value: Value
    scope: str
    line: int


@dataclass(frozen=True, slots=True)
class Store:
    """A write to an attribute or an item: ``settings.url = …``, ``os.environ["X"] = …``.

    ``text`` and ``name`` are the dotted name written to, ``key`` the constant subscript.
    """

    text: str
    name: str | None
    key: object
    value: Value | None
    scope: str
    line: int


@dataclass(frozen=True, slots=True)
class Route:
    """A handler decorated with ``@owner.get("/path", …)`` in the FastAPI manner.

    ``owner`` is the resolved name of the app or router (``:app``), None where it is not known;
    ``owner_text`` as written. ``methods`` are upper case, ``WEBSOCKET`` for web sockets.
    """

    owner: str | None
    owner_text: str
    methods: tuple[str, ...]
    path: str | None
    handler: Function
    decorator: Value
    line: int

    @property
    def response_model(self) -> Value | None:
        """The ``response_model=`` given, else None."""
        return self.decorator.argument("response_model")

    @property
    def response_class(self) -> Value | None:
        """The ``response_class=`` given, else None."""
        return self.decorator.argument("response_class")


@dataclass(frozen=True, slots=True)
class PythonFacts:
    """All facts about the file at ``path``."""

    path: str
    imports: tuple[Import, ...]
    calls: tuple[Call, ...]
    functions: tuple[Function, ...]
    classes: tuple[Class, ...]
    assignments: tuple[Assignment, ...]
    stores: tuple[Store, ...]
    routes: tuple[Route, ...]
    loads: Mapping[str, frozenset[str]]
    bindings: Mapping[str, str | None]
    bound_names: frozenset[str]
    has_main_guard: bool

    def called(self, *names: str) -> tuple[Call, ...]:
        """Return the calls of what one of ``names`` stands for, in source order."""
        return tuple(call for call in self.calls if call.name in names)

    def function(self, path: str) -> Function | None:
        """Return the only function at the dotted ``path``, else None."""
        found = [function for function in self.functions if function.path == path]
        return found[0] if len(found) == 1 else None

    def assigned(self, target: str, scope: str = "") -> Value | None:
        """Return the value of the only plain assignment to ``target`` in ``scope``, else None."""
        found = [
            each.value for each in self.assignments if each.target == target and each.scope == scope
        ]
        return found[0] if len(found) == 1 else None

    def resolve(self, text: str) -> str | None:
        """Return what the dotted ``text`` stands for at module level, else None."""
        root, dot, rest = text.partition(".")
        target = self.bindings.get(root)
        return None if target is None else f"{target}{dot}{rest}"
