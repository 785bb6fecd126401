"""The tables that a service declares with SQLAlchemy, and which of their columns have an index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import strings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, Class, PythonFacts, Value

MAKERS = ("Column", "mapped_column")
MODELS = rb"\b(?:mapped_column|Column)\("
BASES = frozenset({"Base", "Model", "DeclarativeBase", "SQLModel", "BaseModel", "SqlAlchemyBase"})


@dataclass(frozen=True, slots=True)
class Column:
    """One column; ``name`` is its name in the database."""

    attribute: str
    name: str
    call: Call

    @property
    def is_indexed(self) -> bool:
        """Whether an index, a primary key or a unique constraint covers it, or may do so."""
        if self.call.unpacks:
            return True
        given = [self.call.argument(each) for each in ("index", "primary_key", "unique")]
        return any(each is not None and each.constant is not False for each in given)

    def is_a(self, *types: str) -> bool:
        """Whether the type written for it is one of ``types``."""
        return any(each.text.rpartition(".")[2] in types for each in self.call.positional)


@dataclass(slots=True)
class Table:
    """A class that is mapped to a table, and the columns that come first in indices of its own."""

    facts: PythonFacts
    model: Class
    name: str
    columns: dict[str, Column] = field(default_factory=dict)
    leading: set[str] = field(default_factory=set)

    def lacks_index(self, attribute: str) -> bool:
        """Whether nothing shows an index on a column."""
        column = self.columns.get(attribute)
        if column is None or column.is_indexed:
            return False
        return column.name not in self.leading and attribute not in self.leading


def tables(program: Program) -> Iterator[Table]:
    """Yield the tables that modules of the service declare."""
    for path in program.containing(MODELS, program.product, b"olumn("):
        facts = program.facts(path)
        for model in facts.classes if facts else ():
            table = _table(facts, model) if facts else None
            if table is not None and table.columns:
                yield table


def _table(facts: PythonFacts, model: Class) -> Table | None:
    named = facts.assigned("__tablename__", model.path)
    name = named.constant if named is not None else model.path.rpartition(".")[2].lower()
    if not isinstance(name, str) or (named is None and not _is_model(model)):
        return None
    table = Table(facts, model, name)
    calls = {(call.value, call.line): call for call in facts.calls if call.scope == model.path}
    for each in facts.assignments:
        if each.scope != model.path or "." in each.target:
            continue
        if each.target == "__table_args__":
            table.leading |= set(_leading(each.value))
        if each.value.text.rpartition(".")[2] not in MAKERS or each.value.kind != "call":
            continue
        # a call that begins on a later line than its target is not looked for
        call = calls.get((each.value, each.line))
        if call is not None:
            first = call.positional[0] if call.positional else None
            own = first.constant if first is not None else None
            column = own if isinstance(own, str) else each.target
            table.columns[each.target] = Column(each.target, column, call)
    return table


def _is_model(model: Class) -> bool:
    return any(each.text.rpartition(".")[2] in BASES for each in model.bases)


def _leading(value: Value) -> Iterator[str]:
    """Yield the columns that come first in the indices and constraints of ``__table_args__``."""
    for each in value.arguments:
        part = each.value
        kind = part.text.rpartition(".")[2]
        if part.kind == "collection":
            yield from _leading(part)
        if kind in ("Index", "UniqueConstraint", "PrimaryKeyConstraint"):
            names = [
                text for one in part.arguments if not one.keyword for text in strings(one.value)
            ]
            start = 1 if kind == "Index" else 0
            yield from names[start : start + 1]
