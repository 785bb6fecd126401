"""Write sessions, their dependency and their users anew, so that they await the database."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.async_session import WAITING, SessionModule, session_name
from mega_optimizer.codemods.finding import Edit, Skip, apply_edits
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.source import Source, read_source
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.finding import Edits
    from mega_optimizer.codemods.startup import Startup
    from mega_optimizer.repository.python import PythonFacts

ASYNCIO = "sqlalchemy.ext.asyncio"
OPEN = "open_engine"
OPEN_ENGINE = '''\
@asynccontextmanager
async def open_engine() -> AsyncIterator[None]:
    """Close the pool of connections when the application stops."""
    try:
        yield
    finally:
        await {engine}.dispose()
'''
SESSION = ("sqlalchemy.orm.Session", "sqlalchemy.orm.session.Session")


@dataclass(frozen=True, slots=True)
class User:
    """A function with the parameter ``session`` into which sessions are injected."""

    facts: PythonFacts
    source: Source
    function: ast.FunctionDef | ast.AsyncFunctionDef
    session: str


def rewrite(
    context: Context, module: SessionModule, users: list[User], startup: Startup
) -> Edits | Skip:
    """Return the edits of the module, of its users, and of the application's lifespan.

    Skip codes: ``name-taken``, ``comment-in-dependency``, those of adding imports and of
    :func:`open_around_serving`.
    """
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.lifespan import Resource, open_around_serving

    draft = Draft(context)
    if OPEN in module.facts.bound_names:
        return Skip(Place(module.path), "name-taken", f"{OPEN} means something else")
    if has_comment(module):
        reason = "a comment stands where the dependency is written anew"
        return Skip(Place(module.path, module.get.lineno), "comment-in-dependency", reason)
    sources = {module.path: module.source, **{user.facts.path: user.source for user in users}}
    sources |= _with_aliases(context, module)
    for path, source in sources.items():
        edits = list(_alias_edits(context, path, source, module))
        for user in users:
            if user.facts.path == path:
                edits += [*_awaits(user), *_parameter_edits(user)]
        if path == module.path:
            edits += _module_edits(module)
        skip = _put(draft, path, source.content, edits)
        if skip is not None:
            return skip
    for path in sources:
        skip = _imports(draft, path, module)
        if skip is not None:
            return skip
    skip = open_around_serving(context, draft, startup, Resource(module.path, OPEN))
    return skip or draft.edits()


def _put(draft: Draft, path: str, content: bytes, edits: list[Edit]) -> Skip | None:
    from mega_optimizer.codemods.python import parse_module, skipped

    before = draft.tree(path)
    if isinstance(before, Skip):
        return before
    tree = parse_module(path, apply_edits(content, edits))
    if isinstance(tree, Problem):
        return skipped(tree)
    draft.put(path, tree)
    return None


def _module_edits(module: SessionModule) -> Iterator[Edit]:
    path, source = module.path, module.source
    newline = "\r\n" if b"\r\n" in source.content else "\n"
    engine, factory = module.engine.value, module.factory.value
    assert isinstance(engine, ast.Call)
    assert isinstance(factory, ast.Call)
    yield Edit(path, *source.range(engine.func), b"create_async_engine")
    yield Edit(path, *source.range(factory.func), b"async_sessionmaker")
    expires = next((each for each in factory.keywords if each.arg == "expire_on_commit"), None)
    if expires is None:
        end = source.range(factory.keywords[-1] if factory.keywords else factory.args[-1])[1]
        yield Edit(path, end, end, b", expire_on_commit=False")
    else:
        yield Edit(path, *source.range(expires.value), b"False")
    start = source.range(module.get)[0]
    opened = OPEN_ENGINE.format(engine=module.name(module.engine)) + "\n\n"
    yield Edit(path, start, start, (opened + "async ").replace("\n", newline).encode())
    if module.get.returns is not None:
        yield Edit(path, *source.range(module.get.returns), b"AsyncIterator[AsyncSession]")
    body = [each for each in module.get.body if not _is_docstring(each)]
    first, last_statement = source.range(body[0])[0], source.range(body[-1])[1]
    if isinstance(body[0], ast.With):
        yield Edit(path, first, first, b"async ")
        return
    name = session_name(module)
    indent = " " * body[0].col_offset
    text = f"async with {module.name(module.factory)}() as {name}:{newline}{indent}    yield {name}"
    yield Edit(path, first, last_statement, text.encode())


def has_comment(module: SessionModule) -> bool:
    """Whether a comment would be lost where the body of the dependency is written anew."""
    body = [each for each in module.get.body if not _is_docstring(each)]
    if isinstance(body[0], ast.With):
        return False
    first, last = module.source.range(body[0])[0], module.source.range(body[-1])[1]
    return b"#" in module.source.content[first:last]


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _awaits(user: User) -> Iterator[Edit]:
    """Yield ``await`` in front of what waits for the database, in parentheses where needed."""
    path, source = user.facts.path, user.source
    for node in ast.walk(user.function):
        if not isinstance(node, ast.Name) or node.id != user.session:
            continue
        method = source.parents[node]
        call = source.parents[method]
        if not isinstance(method, ast.Attribute) or method.attr not in WAITING:
            continue
        assert isinstance(call, ast.Call)
        start, end = source.range(call)
        parent = source.parents[call]
        tight = isinstance(parent, ast.Attribute | ast.Subscript) and parent.value is call
        if tight:
            yield Edit(path, start, start, b"(await ")
            yield Edit(path, end, end, b")")
        else:
            yield Edit(path, start, start, b"await ")


def _parameter_edits(user: User) -> Iterator[Edit]:
    """Yield the edit of the annotation of the session."""
    arguments = user.function.args
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if each.arg == user.session and each.annotation is not None:
            yield from _renamed(user.facts, user.source, each.annotation)


def _renamed(facts: PythonFacts, source: Source, inside: ast.expr) -> Iterator[Edit]:
    for node in ast.walk(inside):
        if isinstance(node, ast.Name) and facts.resolve(node.id) in SESSION:
            yield Edit(facts.path, *source.range(node), b"AsyncSession")


def _with_aliases(context: Context, module: SessionModule) -> dict[str, Source]:
    """Return the modules in which a variable stands for the injected session."""
    found: dict[str, Source] = {}
    program = context.program
    for path in program.containing(rb"\bAnnotated\b", program.product, b"Annotated"):
        content = program.read(path)
        source = read_source(path, content) if content is not None else None
        if isinstance(source, Source) and any(_alias_edits(context, path, source, module)):
            found[path] = source
    return found


def _alias_edits(
    context: Context, path: str, source: Source, module: SessionModule
) -> Iterator[Edit]:
    facts = context.program.facts(path)
    target = Definition(module.path, module.get.name)
    for statement in source.tree.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or facts is None:
            continue
        injected = any(
            isinstance(node, ast.Name)
            and node.id == module.get.name.rpartition(".")[2]
            and context.program.definition(path, facts.resolve(node.id)) == target
            for node in ast.walk(statement)
        )
        if injected and isinstance(statement.value, ast.expr):
            yield from _renamed(facts, source, statement.value)


def _imports(draft: Draft, path: str, module: SessionModule) -> Skip | None:
    """Import what the module at ``path`` uses now, and no longer what it used before."""
    from mega_optimizer.codemods.imports import without_import

    tree = draft.tree(path)
    facts = draft.facts(path)
    if isinstance(tree, Skip) or isinstance(facts, Skip):
        return tree if isinstance(tree, Skip) else facts if isinstance(facts, Skip) else None
    content = tree.bytes
    wanted: list[tuple[str, str]] = []
    if re.search(rb"\bAsyncSession\b", content):
        wanted.append((ASYNCIO, "AsyncSession"))
    defined = [(each.line, each.path) for each in facts.functions if "." not in each.path]
    defined += [(each.line, each.target) for each in facts.assignments if not each.scope]
    above = min(defined, default=(0, ""))[1]
    if path == module.path:
        wanted += [(ASYNCIO, "async_sessionmaker"), (ASYNCIO, "create_async_engine")]
        wanted += [("collections.abc", "AsyncIterator"), ("contextlib", "asynccontextmanager")]
        above = module.name(module.engine)
    for package, name in wanted:
        added = draft.add_import(path, package, name, above)
        if isinstance(added, Skip):
            return added
    for name in ("Session", "create_engine", "sessionmaker", "Iterator", "Generator"):
        tree, facts = draft.tree(path), draft.facts(path)
        if not isinstance(tree, Skip) and not isinstance(facts, Skip):
            draft.put(path, without_import(tree, facts, name))
    return None
