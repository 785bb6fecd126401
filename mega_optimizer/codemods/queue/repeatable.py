"""Whether a background task may be done twice: it reads, computes, and overwrites."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.cache.harmless import (
    BUILTINS,
    CLOCKS,
    HARMLESS,
    HARMLESS_METHODS,
    HTTP_READS,
    LOGGING,
    PREDICTIONS,
    SESSIONS,
)
from mega_optimizer.codemods.cache.purity import function_node
from mega_optimizer.codemods.queue.job_work import calls_in

if TYPE_CHECKING:
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.queue.job_work import Work
    from mega_optimizer.repository.python import Call, PythonFacts

REPEATABLE_METHODS = (HARMLESS_METHODS - {"insert", "update", "count", "delete"}) | PREDICTIONS | {
    "merge", "commit", "rollback", "flush", "refresh", "expunge", "query", "fit", "fit_transform",
    "set", "setex", "hset", "put_object", "upload_file", "upload_fileobj", "generate", "encode",
    "__enter__", "__exit__", "begin",
}  # fmt: skip
SELECTS = frozenset({"sqlalchemy.select", "sqlalchemy.future.select", "sqlmodel.select"})
REPEATABLE = re.compile(
    r"redis\.(?:StrictRedis|Redis|from_url)|joblib\.load$|pickle\.loads?$|sklearn\.|"
    r"numpy\.(?!random)|pandas\."
)
SESSION_METHODS = frozenset({"execute", "scalars", "scalar", "exec"})


def is_repeatable(program: Program, work: Work) -> bool:
    """Whether doing the work twice leaves things as doing it once: only reads, and overwrites."""
    for function in work.functions:
        node = function_node(program, function)
        if node is None or not _only_overwrites(node):
            return False
    return all(_may_be_repeated(program, facts, call) for facts, call in calls_in(program, work))


def _only_overwrites(node: ast.AST) -> bool:
    for each in ast.walk(node):
        if isinstance(each, ast.AugAssign) and not isinstance(each.target, ast.Name):
            return False
        if isinstance(each, ast.Assign):
            for target in each.targets:
                if isinstance(target, ast.Attribute) and any(
                    isinstance(inner, ast.Attribute) and inner.attr == target.attr
                    for inner in ast.walk(each.value)
                ):
                    return False
    return True


def _may_be_repeated(program: Program, facts: PythonFacts, call: Call) -> bool:
    name = call.name
    found = program.definition(facts.path, name)
    if found is not None:
        home = program.facts(found.path)
        if home is not None and (
            home.function(found.name) is not None
            or any(each.path == found.name for each in home.classes)
        ):
            return True
    if name is not None and name.startswith("builtins."):
        return name.removeprefix("builtins.") in BUILTINS | {"open"}
    made = facts.assigned(call.text, call.scope)
    if made is not None and made.name in SESSIONS:
        return True  # a session factory that was made here
    method = call.text.rpartition(".")[2]
    if method in SESSION_METHODS:
        first = call.positional[0] if call.positional else None
        while first is not None and first.text.startswith(".") and first.arguments:
            first = first.arguments[0].value  # select(…).where(…)
        return first is not None and first.name in SELECTS
    if name is not None and (
        HARMLESS.match(name) or HTTP_READS.match(name) or REPEATABLE.match(name) or name in CLOCKS
    ):
        return True
    if method in LOGGING:
        return True
    return "." in call.text and method in REPEATABLE_METHODS
