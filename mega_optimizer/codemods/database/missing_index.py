"""Columns that requests filter or order by, and that have no index.

Without an index PostgreSQL reads the whole table for each such query, and sorts it for each ORDER
BY (https://www.postgresql.org/docs/current/indexes-intro.html). Whether the table is large enough
to matter, and writes rare enough, only its owner knows: so this is advice, with a patch.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.migrations import index_migration
from mega_optimizer.codemods.database.models import tables
from mega_optimizer.codemods.database.queries import Condition, queries
from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.program import Definition
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.database.models import Column, Table
    from mega_optimizer.codemods.database.queries import Query
    from mega_optimizer.codemods.finding import Edits, Outcome
    from mega_optimizer.codemods.program import Program

# Few values: an index is hardly ever used.
FEW_VALUES = ("Boolean", "Enum")
KINDS = re.compile(
    r"(?:^|_)(?:role|type|kind|side|gender|permission|action|provider|level|lang\w*)$"
)
# What a B-tree does not search.
NOT_SORTED = ("JSON", "JSONB", "ARRAY", "LargeBinary", "TSVECTOR")


INDEX_LITERALS = (b"create_index", b"Index(", b"CREATE INDEX", b"CREATE UNIQUE INDEX")
INDEX_STATEMENT = re.compile(
    rb"create_index\([^)]{0,500}\)|\bIndex\([^)]{0,500}\)|CREATE (?:UNIQUE )?INDEX[^;]{0,500}"
)
DATES = ("DateTime", "Date", "TIMESTAMP")


def find(context: Context) -> Iterator[Outcome]:
    """Yield advice for each table whose columns lack an index, skips where one would not help."""
    program = context.program
    found = {each.model.path: each for each in tables(program) if "." not in each.model.path}
    if not found:
        return
    wanted: dict[tuple[str, str], Condition] = {}
    for query in queries(program, frozenset(found)):
        condition = _wanting(program, query, found)
        if condition is not None:
            wanted.setdefault((condition.model, condition.attribute), condition)
    statements = _statements(context) if wanted else ()
    for table in found.values():
        own = [each for each in wanted.values() if each.model == table.model.path]
        yield from _judge(context, table, own, statements)


def _wanting(program: Program, query: Query, found: Mapping[str, Table]) -> Condition | None:
    """Return the condition of a query that an index would serve, None where one does already.

    One index serves a query: where a column of its conditions has one, the others hardly matter.
    An order matters where nothing is filtered and only the first rows are wanted.
    """
    facts = program.facts(query.path)
    known = [
        each
        for each in query.conditions
        if facts is not None
        and program.definition(query.path, facts.resolve(each.model))
        == Definition(found[each.model].facts.path, each.model)
    ]
    filters = [each for each in known if each.way != "ordered"]
    if any(not found[each.model].lacks_index(each.attribute) for each in filters):
        return None
    if not filters:
        orders = [each for each in known if found[each.model].lacks_index(each.attribute)]
        first = orders[0] if orders and orders[0] is known[0] else None
        return first if query.is_limited else None
    for each in filters:
        column = found[each.model].columns[each.attribute]
        # a range of numbers may well be most of the table
        if each.way == "filtered" or _is_date(column):
            return each
    return None


def _judge(
    context: Context, table: Table, wanted: list[Condition], statements: tuple[bytes, ...]
) -> Iterator[Outcome]:
    missing: dict[str, Condition] = {}
    for each in wanted:
        column = table.columns[each.attribute]
        place = Place(table.facts.path, column.call.line, column.call.column)
        few = column.is_a(*FEW_VALUES) or _is_flag(column) or KINDS.search(each.attribute)
        if few and each.way != "ordered":
            yield Skip(place, "few-values", f"{each.attribute} has few values: no index is used")
        elif column.is_a(*NOT_SORTED):
            yield Skip(place, "not-sortable", f"a plain index does not help {each.attribute}")
        elif any(_makes_index(statement, table, column) for statement in statements):
            yield Skip(place, "indexed-by-migration", "a migration makes an index on it")
        else:
            missing[each.attribute] = each
    if not missing:
        return
    columns = [table.columns[each] for each in missing]
    first = min(columns, key=lambda each: each.call.line)
    told = ", ".join(f"{name} ({each.way} in {each.place})" for name, each in missing.items())
    place = Place(table.facts.path, first.call.line, first.call.column)
    edits = partial(_edits, context, table, columns, place)
    yield Fix(place, f"index {table.name}: {told}", edits)


def _is_date(column: Column) -> bool:
    return column.is_a(*DATES) or re.search(r"_(?:at|on|time|date)$|time", column.name) is not None


def _is_flag(column: Column) -> bool:
    default = column.call.argument("default") or column.call.argument("server_default")
    return default is not None and isinstance(default.constant, bool)


def _statements(context: Context) -> tuple[bytes, ...]:
    """Return what makes indices outside of the models: in migrations, in SQL."""
    found: list[bytes] = []
    for path in context.files.paths:
        content = context.read(path) if path.endswith((".py", ".sql")) else b""
        if isinstance(content, bytes) and any(each in content for each in INDEX_LITERALS):
            found += INDEX_STATEMENT.findall(content)
    return tuple(found)


def _makes_index(statement: bytes, table: Table, column: Column) -> bool:
    """Whether the first column that a statement names is ``column``."""
    name, owner = column.name.encode(), table.name.encode()
    if statement.startswith(b"Index"):
        return (
            re.search(rb"\b" + table.model.path.encode() + rb"\." + name + rb"\b", statement)
            is not None
        )
    listed = re.search(rb"[\[(]\s*[\"']?(\w+)[\"']?[^\[(]*$", statement)
    named = re.search(rb"\b" + owner + rb"\b", statement)
    return named is not None and listed is not None and listed[1] == name


def _edits(context: Context, table: Table, columns: list[Column], place: Place) -> Edits | Skip:
    import libcst as cst

    from mega_optimizer.codemods.call_edits import change_calls
    from mega_optimizer.codemods.python import with_keyword

    path = table.facts.path
    content = context.read(path)
    if isinstance(content, Problem):
        return Skip(place, content.code, content.message)
    changed = change_calls(
        path,
        content,
        {
            each.call: lambda node, column=each.call.column: with_keyword(  # type: ignore[misc]
                node, "index", cst.Name("True"), column
            )
            for each in columns
        },
    )
    if isinstance(changed, Skip):
        return changed
    return (*changed, *index_migration(context, table, columns))
