"""A module that makes an engine, a session factory and the dependency that hands out sessions."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts

ENGINE = ("sqlalchemy.create_engine", "sqlalchemy.engine.create_engine")
FACTORY = ("sqlalchemy.orm.sessionmaker", "sqlalchemy.orm.session.sessionmaker")
# Arguments that ``create_async_engine`` and ``AsyncSession`` take as they are.
ENGINE_ARGUMENTS = frozenset(
    {"echo", "pool_size", "max_overflow", "pool_timeout", "pool_recycle", "pool_pre_ping",
     "pool_use_lifo", "future", "isolation_level"}
)  # fmt: skip
FACTORY_ARGUMENTS = frozenset({"bind", "autocommit", "autoflush", "expire_on_commit", "future"})
# Methods of a session that wait for the database, and those that only note something down.
WAITING = frozenset(
    {"execute", "scalars", "scalar", "get", "commit", "rollback", "refresh", "flush", "delete",
     "merge"}
)  # fmt: skip
NOTING = frozenset({"add", "add_all"})
LEGACY = frozenset({"query", "bulk_save_objects", "bulk_insert_mappings", "bulk_update_mappings"})


@dataclass(frozen=True, slots=True)
class SessionModule:
    """``get`` is the generator whose only work is to open, hand out and close a session."""

    facts: PythonFacts
    source: Source
    engine: ast.Assign
    factory: ast.Assign
    get: ast.FunctionDef

    @property
    def path(self) -> str:
        """The module."""
        return self.facts.path

    def name(self, made: ast.Assign) -> str:
        """Return the variable that an assignment binds."""
        target = made.targets[0]
        return target.id if isinstance(target, ast.Name) else ""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a place cannot be changed to await the database."""

    line: int
    code: str
    reason: str


def session_module(facts: PythonFacts, source: Source) -> SessionModule | None:
    """Return the engine, factory and dependency of a module that has one of each, else None."""
    engines = list(_made(facts, source, ENGINE))
    factories = list(_made(facts, source, FACTORY))
    if len(engines) != 1 or len(factories) != 1:
        return None
    factory = factories[0].targets[0]
    name = factory.id if isinstance(factory, ast.Name) else ""
    getters = [
        each
        for each in source.tree.body
        if isinstance(each, ast.FunctionDef)
        and not each.decorator_list
        and any(isinstance(node, ast.Yield) for node in ast.walk(each))
        and any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(each))
    ]
    if len(getters) != 1:
        return None
    return SessionModule(facts, source, engines[0], factories[0], getters[0])


def _made(facts: PythonFacts, source: Source, names: tuple[str, ...]) -> Iterator[ast.Assign]:
    for each in source.tree.body:
        if not isinstance(each, ast.Assign) or not isinstance(each.value, ast.Call):
            continue
        if len(each.targets) == 1 and facts.resolve(ast.unparse(each.value.func)) in names:
            yield each


def module_objections(module: SessionModule) -> Iterator[Objection]:
    """Yield what in the module itself hinders it."""
    engine, factory = module.engine.value, module.factory.value
    assert isinstance(engine, ast.Call)
    assert isinstance(factory, ast.Call)
    given = {each.arg for each in engine.keywords}
    if len(engine.args) != 1 or not given <= ENGINE_ARGUMENTS:
        yield Objection(engine.lineno, "engine-arguments", "the engine is given special arguments")
    words = {each.arg: each.value for each in factory.keywords}
    bound = words.get("bind", factory.args[0] if factory.args else None)
    name = module.name(module.engine)
    if (
        not words.keys() <= FACTORY_ARGUMENTS
        or len(factory.args) > 1
        or not (isinstance(bound, ast.Name) and bound.id == name)
    ):
        yield Objection(factory.lineno, "factory-arguments", "sessions are made in a special way")
    if session_name(module) is None:
        text = f"{module.get.name} does more than open, hand out and close a session"
        yield Objection(module.get.lineno, "dependency-does-more", text)
    allowed = {module.engine.lineno, module.factory.lineno}
    for node in ast.walk(module.source.tree):
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        inside = module.get.lineno <= node.lineno <= (module.get.end_lineno or 0)
        if node.id == name and node.lineno not in allowed and not _within(module.factory, node):
            yield Objection(node.lineno, "engine-used", f"{name} is used apart from the sessions")
        if node.id == module.name(module.factory) and not inside:
            text = f"{node.id} is used apart from {module.get.name}"
            yield Objection(node.lineno, "factory-used", text)


def _within(outer: ast.stmt, node: ast.expr) -> bool:
    return outer.lineno <= node.lineno <= (outer.end_lineno or 0)


def session_name(module: SessionModule) -> str | None:
    """Return what the dependency calls its session, None where its body has another shape."""
    body = [each for each in module.get.body if not _is_docstring(each)]
    made = module.name(module.factory)
    if module.get.args.args or not body:
        return None
    if len(body) == 1 and isinstance(body[0], ast.With) and len(body[0].items) == 1:
        item = body[0].items[0]
        name = item.optional_vars.id if isinstance(item.optional_vars, ast.Name) else ""
        plain = ast.unparse(item.context_expr) == f"{made}()" and _yields(body[0].body, name)
        return name if plain else None
    if len(body) != 2 or not isinstance(body[0], ast.Assign) or not isinstance(body[1], ast.Try):
        return None
    target = body[0].targets[0]
    name = target.id if isinstance(target, ast.Name) else ""
    tried = body[1]
    plain = ast.unparse(body[0]) == f"{name} = {made}()" and not tried.handlers
    plain = plain and not tried.orelse and _yields(tried.body, name)
    closed = [ast.unparse(each) for each in tried.finalbody]
    return name if plain and closed == [f"{name}.close()"] else None


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _yields(body: list[ast.stmt], name: str) -> bool:
    """Whether all that ``body`` does is to hand out ``name``."""
    only = body[0].value if len(body) == 1 and isinstance(body[0], ast.Expr) else None
    return (
        isinstance(only, ast.Yield) and only.value is not None and (ast.unparse(only.value) == name)
    )


def handler_objections(
    source: Source, function: ast.AsyncFunctionDef, session: str
) -> Iterator[Objection]:
    """Yield what in a coroutine hinders it from awaiting its session."""
    name = function.name
    ends: list[int] = []
    last = 0
    for node in ast.walk(function):
        if not isinstance(node, ast.Name) or node.id != session:
            continue
        method, call = source.parents[node], None
        if isinstance(method, ast.Attribute):
            call = source.parents[method]
        if not isinstance(method, ast.Attribute) or not isinstance(call, ast.Call):
            text = f"{name} hands its session on, or uses it in another way"
            yield Objection(node.lineno, "session-handed-on", text)
            continue
        if method.attr in LEGACY:
            text = f"{name} uses {session}.{method.attr}, which AsyncSession has not"
            yield Objection(node.lineno, "legacy-query", text)
        elif method.attr not in WAITING | NOTING:
            text = f"{name} uses {session}.{method.attr}"
            yield Objection(node.lineno, "session-method", text)
        elif _is_deferred(source, call, function):
            text = f"{name} asks the database in a function, lambda or generator of its own"
            yield Objection(node.lineno, "deferred-use", text)
        if method.attr in ("commit", "rollback"):
            ends.append(call.lineno)
        elif method.attr != "refresh":
            last = max(last, call.lineno)
    if ends:
        yield from _after_the_end(function, session, max(ends), last)


def _is_deferred(source: Source, call: ast.Call, function: ast.AsyncFunctionDef) -> bool:
    for each in source.around(call):
        if each is function:
            return False
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.GeneratorExp):
            return True
    return True


def _after_the_end(
    function: ast.AsyncFunctionDef, session: str, end: int, last: int
) -> Iterator[Objection]:
    """Yield uses of what a synchronous session would read anew after a commit or a rollback.

    Its objects expire then; those of an AsyncSession must not, and so keep what was put into them.
    """
    if last > end:
        text = f"{function.name} asks the database again after a commit: it might see old rows"
        yield Objection(last, "query-after-commit", text)
    stored = {
        node.id: node.lineno
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.lineno <= end
    }
    refreshed = {
        argument.id: node.lineno
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == f"{session}.refresh"
        and node.lineno > end
        for argument in node.args
        if isinstance(argument, ast.Name)
    }
    for node in ast.walk(function):
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        if node.lineno <= end or node.id not in stored or node.id == session:
            continue
        if node.lineno < refreshed.get(node.id, node.lineno + 1):
            text = f"{function.name} uses {node.id} after a commit without refreshing it"
            yield Objection(node.lineno, "used-after-commit", text)


def as_skip(path: str, objection: Objection) -> Skip:
    """Return the skip that says an objection."""
    return Skip(Place(path, objection.line), objection.code, objection.reason)
