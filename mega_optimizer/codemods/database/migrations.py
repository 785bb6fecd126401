"""A migration of Alembic that follows the newest one of a service."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.database.models import Column, Table

LINE_LENGTH = 88  # Black's and ruff's
REVISION = re.compile(rb"^revision\b[^=\n]*=\s*[\"']([\w-]+)[\"']", re.MULTILINE)
DOWN = re.compile(rb"^down_revision\b[^=\n]*=\s*([^\n]+)", re.MULTILINE)
TEMPLATE = '''"""{title}

Revision ID: {revision}
Revises: {previous}

"""

from alembic import op

revision = "{revision}"
down_revision = "{previous}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # CONCURRENTLY, which cannot run in a transaction, lets others write in the meantime.
    with op.get_context().autocommit_block():
{upgrade}


def downgrade() -> None:
    with op.get_context().autocommit_block():
{downgrade}
'''


def index_migration(context: Context, table: Table, columns: Sequence[Column]) -> tuple[Edit, ...]:
    """Return the file of a migration that makes the indices; none where no single head is found.

    Each patch stands for itself: of two that are taken, the second has to follow the first.
    """
    found = _head(context)
    if found is None:
        return ()
    folder, previous = found
    names = [each.name for each in columns]
    revision = hashlib.sha256(f"{previous}:{table.name}:{names}".encode()).hexdigest()[:12]
    title = f"index {table.name} by {', '.join(names)}"
    upgrade = "\n".join(_created(table.name, name) for name in names)
    downgrade = "\n".join(_dropped(table.name, name) for name in reversed(names))
    text = TEMPLATE.format(
        title=title[0].upper() + title[1:],
        revision=revision,
        previous=previous,
        upgrade=upgrade,
        downgrade=downgrade,
    )
    path = f"{folder}/{revision}_{re.sub('[^a-z0-9]+', '_', title.lower())}.py"
    return (Edit(path, 0, 0, text.encode()),)


def _created(table: str, column: str) -> str:
    return _operation("create_index", table, column, f'["{column}"]')


def _dropped(table: str, column: str) -> str:
    return _operation("drop_index", table, column)


def _operation(name: str, table: str, column: str, *more: str) -> str:
    parts = [f'"ix_{table}_{column}"', f'"{table}"', *more, "postgresql_concurrently=True"]
    line = f"        op.{name}({', '.join(parts)})"
    if len(line) <= LINE_LENGTH:
        return line
    inner = "".join(f"            {each},\n" for each in parts)
    return f"        op.{name}(\n{inner}        )"


def _head(context: Context) -> tuple[str, str] | None:
    """Return the folder of the migrations, and the revision that no other one revises."""
    revisions: dict[str, str] = {}
    revised: set[str] = set()
    prefix = f"{context.service.root}/" if context.service.root else ""
    for path in context.files.paths:
        if not path.startswith(prefix) or "/versions/" not in path or not path.endswith(".py"):
            continue
        content = context.read(path)
        revision = REVISION.search(content) if isinstance(content, bytes) else None
        if revision is None or not isinstance(content, bytes):
            continue
        revisions[revision[1].decode()] = path.rpartition("/")[0]
        down = DOWN.search(content)
        revised |= set(re.findall(r"[\"']([\w-]+)[\"']", down[1].decode())) if down else set()
    heads = [each for each in revisions if each not in revised]
    return (revisions[heads[0]], heads[0]) if len(heads) == 1 else None
