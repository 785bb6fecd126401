"""SQLAlchemy engines as objects to share: their types, and the check of pooled connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from mega_optimizer.codemods.python import with_keyword
from mega_optimizer.codemods.shared_object import Kind

if TYPE_CHECKING:
    from mega_optimizer.repository.python import Call

PRE_PING = ("pool_pre_ping", "pool_recycle")


def _type_of(call: Call) -> tuple[str, str]:
    if call.text.endswith("create_async_engine"):
        return "sqlalchemy.ext.asyncio", "AsyncEngine"
    return "sqlalchemy.engine", "Engine"


def _with_pre_ping(call: cst.Call) -> cst.Call:
    """Let the pool check: the server may have closed a connection since its last use."""
    given = {arg.keyword.value for arg in call.args if arg.keyword}
    if not given.isdisjoint(PRE_PING):
        return call
    return with_keyword(call, PRE_PING[0], cst.Name("True"), column=len("    return ") + 1)


ENGINE = Kind("engine", ("_engine", "_shared_engine", "_get_engine"), _type_of, _with_pre_ping)
