"""Open a resource before an application serves, and close it afterwards.

A resource is an async context manager that some module of the service defines without
parameters, ``open_http_client`` in ``app/upstream.py`` say. :func:`open_around_serving` enters it
in the lifespan of the application, however that starts today:

    startup = startup_of(context, "app/upstream.py")      # codemods.startup: facts only, no libcst
    if isinstance(startup, Skip):
        return startup
    draft = Draft(context)                                # codemods.draft
    draft.put(path, tree_that_defines_open_http_client)   # what the rule itself rewrote
    skip = open_around_serving(context, draft, startup, Resource(path, "open_http_client"))
    return skip or draft.edits()

Where nothing is there yet, ``app/main.py`` gets

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        async with open_http_client():
            yield


    app = FastAPI(title="Gateway", lifespan=lifespan)

An existing lifespan has its ``yield`` wrapped in the same ``async with`` (opened last, closed
first; a second resource joins the same statement). Where it starts tasks or schedulers, which may
use the resource, its whole body is wrapped instead: they stop before the resource closes. Where
the service registers handlers of ``startup`` or ``shutdown`` events, which a lifespan would
silence, two more handlers are added instead, around one ``AsyncExitStack``.

While the application starts, and in tests that never run its lifespan, the resource is not open:
what uses it must cope. ``bare_test_client`` of ``codemods.startup`` finds such tests.
FastAPI knows ``lifespan=`` since 0.93 (https://fastapi.tiangolo.com/release-notes/#0930): rules
that use this module say so in ``needs.versions``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard, cast

import libcst as cst

from mega_optimizer.codemods.annotations import generic_module
from mega_optimizer.codemods.draft import Draft
from mega_optimizer.codemods.event_handlers import open_in_event_handlers
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.layout import inserted_above
from mega_optimizer.codemods.module_paths import import_path, reaches
from mega_optimizer.codemods.python import (
    LINE_LENGTH,
    ScopedVisitor,
    dotted_name,
    replace_calls,
    with_keyword,
)
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.startup import Startup
    from mega_optimizer.repository.python import Call, PythonFacts

NAMES = ("lifespan", "app_lifespan", "_lifespan")
LONGEST = 40  # lines of a lifespan that may be indented
# Calls that start what runs beside the application, and may use the resource.
STARTING = re.compile(
    r"(?i)create_task|ensure_future|task_?group|schedul|start_soon|\.start$|\bThread$"
)


@dataclass(frozen=True, slots=True)
class Resource:
    """An async context manager called ``name`` that the module at ``path`` defines.

    ``is_new`` says that the rule itself adds the module, which needs nothing that may be missing.
    """

    path: str
    name: str
    is_new: bool = False


def open_around_serving(
    context: Context, draft: Draft, startup: Startup, resource: Resource
) -> Skip | None:
    """Enter ``resource`` before the application serves, and leave it afterwards.

    Skip codes: ``import-path-unknown``, ``import-cycle``, ``lifespan-shape`` (not one ``yield``
    that stands alone), ``lifespan-too-long``, ``not-imported-at-start``,
    ``events-in-factory``, ``shape-not-known``, ``name-taken``, ``not-found-again``, those of
    ``ensure_import``.
    """
    if not resource.is_new and not _is_imported(context, startup, resource):
        reason = f"{resource.path} is not imported when {startup.path} is: it may be optional"
        return Skip(startup.place, "not-imported-at-start", reason)
    if startup.style == "events":
        return _in_handlers(context, draft, startup, resource)
    if startup.style == "lifespan" and startup.function is not None:
        home, name = startup.function.path, startup.function.name
        local = _imported(context, draft, home, resource, name.partition(".")[0])
        if isinstance(local, Skip):
            return local
        return _extended(draft, home, name, local)
    return _created(context, draft, startup, resource)


def _is_imported(context: Context, startup: Startup, resource: Resource) -> bool:
    """Whether the module of the resource is imported whenever the application is."""
    program = context.program
    started = [(site.application or "").partition(":")[0] for site in context.service.launch]
    paths = [program.module(each, startup.path) for each in started if each]
    homes = [startup.path, *(path for path in paths if path is not None)]
    if startup.function is not None:
        homes.append(startup.function.path)
    return any(reaches(program, home, resource.path, "always") for home in homes)


def _imported(
    context: Context, draft: Draft, path: str, resource: Resource, above: str
) -> str | Skip:
    """Return the name of the resource in the module at ``path``, above a definition there."""
    if path == resource.path:
        return resource.name
    module = import_path(context, path, resource.path)
    if module is None:
        reason = f"no import shows how {path} would import {resource.path}"
        return Skip(Place(path), "import-path-unknown", reason)
    if reaches(context.program, resource.path, path, "maybe"):
        reason = f"{resource.path} imports {path}, which would have to import it"
        return Skip(Place(path), "import-cycle", reason)
    return draft.add_import(path, module, resource.name, above)


def _in_handlers(
    context: Context, draft: Draft, startup: Startup, resource: Resource
) -> Skip | None:
    facts = draft.facts(startup.path)
    if isinstance(facts, Skip):
        return facts
    variable = _variable(facts, startup.call)
    if variable is None or startup.call.scope:
        reason = "handlers of events can only be added to an application that a module holds"
        return Skip(startup.place, "events-in-factory", reason)
    local = _imported(context, draft, startup.path, resource, variable)
    if isinstance(local, Skip):
        return local
    return open_in_event_handlers(draft, startup.path, variable, local)


def _variable(facts: PythonFacts, call: Call) -> str | None:
    found = [
        each.target
        for each in facts.assignments
        if each.scope == call.scope and each.value == call.value
    ]
    return found[0] if len(found) == 1 and found[0].isidentifier() else None


def _extended(draft: Draft, path: str, name: str, manager: str) -> Skip | None:
    """Wrap the ``yield`` of the lifespan function ``name`` in ``async with manager():``."""
    tree = draft.tree(path)
    if isinstance(tree, Skip):
        return tree
    wrap = _WrapYield(tree, name, manager)
    changed = tree.visit(wrap)
    if wrap.yields != 1 or wrap.wrapped != 1:
        reason = f"{name} does not have exactly one yield that stands alone"
        return Skip(Place(path), "lifespan-shape", reason)
    if wrap.starts_others and wrap.lines > LONGEST:
        reason = f"{name} starts tasks, and is too long to be indented as a whole"
        return Skip(Place(path), "lifespan-too-long", reason)
    if wrap.starts_others:
        changed = tree.visit(_WrapBody(tree, name, manager))
    draft.put(path, changed)
    return None


class _Wrap(ScopedVisitor):
    """Puts a part of one function into ``async with manager():``."""

    def __init__(self, tree: cst.Module, function: str, manager: str) -> None:
        super().__init__()
        self.tree = tree
        self.function = function
        self.item = cst.WithItem(cst.Call(cst.Name(manager)))
        self.depth = 0

    def joined(self, outer: cst.With) -> cst.With | None:
        """Return ``outer`` with the resource as its last item, where that fits into the line."""
        last = outer.items[-1].with_changes(
            comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
        )
        joined = outer.with_changes(items=[*outer.items[:-1], last, self.item])
        bare = joined.with_changes(leading_lines=[], body=cst.SimpleStatementSuite([cst.Pass()]))
        header = self.tree.code_for_node(bare).rpartition(" pass")[0]
        width = self.depth * len(self.tree.default_indent) + len(header)
        return joined if "\n" not in header and width <= LINE_LENGTH else None


class _WrapBody(_Wrap):
    """Wraps all of a function but its docstring."""

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef:
        """Wrap the body of the function that is meant."""
        name = f"{self.scope}.{updated_node.name.value}".lstrip(".")
        if name != self.function or not isinstance(updated_node.body, cst.IndentedBlock):
            return updated_node
        self.depth = self.function.count(".") + 1
        body = updated_node.body.body
        first = int(updated_node.get_docstring() is not None)
        outer = body[first] if len(body) == first + 1 else None
        if isinstance(outer, cst.With) and outer.asynchronous and (joined := self.joined(outer)):
            whole: cst.BaseStatement = joined
        else:
            rest = [cast("cst.SimpleStatementLine", each) for each in body[first:]]
            leading = rest[0].leading_lines
            rest[0] = rest[0].with_changes(leading_lines=[])
            block = cst.IndentedBlock(rest, footer=updated_node.body.footer)
            whole = cst.With([self.item], block, cst.Asynchronous(), leading_lines=leading)
        inner = updated_node.body.with_changes(body=[*body[:first], whole], footer=[])
        return updated_node.with_changes(body=inner)


class _WrapYield(_Wrap):
    """Wraps the yield statement of one function; counts the yields that it has at all."""

    def __init__(self, tree: cst.Module, function: str, manager: str) -> None:
        super().__init__(tree, function, manager)
        self.loops = 0
        self.yields = 0
        self.wrapped = 0
        self.starts_others = False
        self.lines = 0

    def visit_Call(self, node: cst.Call) -> None:
        """See what runs beside the application."""
        if self.scope == self.function:
            text = dotted_name(node.func) or ""
            self.starts_others = self.starts_others or STARTING.search(text) is not None

    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> None:
        """Go in."""
        self.depth += 1
        if self.scope == self.function and not self.lines:
            self.lines = self.tree.code_for_node(node).count("\n")

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.IndentedBlock:
        """Wrap a yield that is a statement of this block."""
        self.depth -= 1
        if self.scope != self.function or self.loops:
            return updated_node
        body = [self._wrapped(each) for each in updated_node.body]
        return updated_node.with_changes(body=body)

    def visit_For(self, node: cst.For) -> None:
        """Enter a loop, in which a yield is left alone."""
        self.loops += 1

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> cst.For:
        """Leave the loop."""
        self.loops -= 1
        return updated_node

    def visit_While(self, node: cst.While) -> None:
        """Enter a loop, in which a yield is left alone."""
        self.loops += 1

    def leave_While(self, original_node: cst.While, updated_node: cst.While) -> cst.While:
        """Leave the loop."""
        self.loops -= 1
        return updated_node

    def visit_Yield(self, node: cst.Yield) -> None:
        """Count."""
        self.yields += self.scope == self.function

    def leave_With(self, original_node: cst.With, updated_node: cst.With) -> cst.With:
        """Join an ``async with`` that held nothing but the yield."""
        if self.scope != self.function or not updated_node.asynchronous:
            return updated_node
        inner = updated_node.body.body
        only = inner[0] if len(inner) == 1 else None
        if not isinstance(only, cst.With) or only.items[0].item is not self.item.item:
            return updated_node
        joined = self.joined(updated_node) if not only.leading_lines else None
        if joined is None:
            return updated_node
        return joined.with_changes(body=updated_node.body.with_changes(body=only.body.body))

    def _wrapped(self, statement: cst.BaseStatement) -> cst.BaseStatement:
        if not _is_yield(statement):
            return statement
        self.wrapped += 1
        leading = statement.leading_lines
        inner = statement.with_changes(leading_lines=[])
        return cst.With(
            [self.item],
            cst.IndentedBlock([inner]),
            cst.Asynchronous(),
            leading_lines=leading,
        )


def _is_yield(statement: cst.BaseStatement) -> TypeGuard[cst.SimpleStatementLine]:
    return (
        isinstance(statement, cst.SimpleStatementLine)
        and len(statement.body) == 1
        and isinstance(statement.body[0], cst.Expr)
        and isinstance(statement.body[0].value, cst.Yield)
    )


def _created(context: Context, draft: Draft, startup: Startup, resource: Resource) -> Skip | None:
    """Give an application that has none a lifespan, above the statement that makes it."""
    path, call = startup.path, startup.call
    facts = draft.facts(path)
    if isinstance(facts, Skip):
        return facts
    root = call.scope.partition(".")[0]
    above = root or _variable(facts, call)
    name = next((each for each in NAMES if each not in facts.bound_names), None)
    if above is None:
        return Skip(startup.place, "shape-not-known", "the application is not assigned to a name")
    if name is None:
        return Skip(startup.place, "name-taken", "no name is free for the lifespan")
    local = _imported(context, draft, path, resource, above)
    if isinstance(local, Skip):
        return local
    annotation = None
    if _is_typed(facts):
        found = draft.add_import(path, generic_module(context), "AsyncIterator", above)
        annotation = None if isinstance(found, Skip) else f"{found}[None]"
    decorator = draft.add_import(path, "contextlib", "asynccontextmanager", above)
    if isinstance(decorator, Skip):
        return decorator
    tree = draft.tree(path)
    if isinstance(tree, Skip):
        return tree
    given = replace_calls(
        tree, {call: lambda node: with_keyword(node, "lifespan", cst.Name(name), call.column)}
    )
    if given is None:
        reason = "the application could not be found again in the tree"
        return Skip(startup.place, "not-found-again", reason)
    function = _lifespan(name, decorator, call.text, annotation, local)
    changed = inserted_above(given, above, [function])
    if changed is None:
        return Skip(startup.place, "shape-not-known", f"{above} is not set at the top level")
    draft.put(path, changed)
    return None


def _is_typed(facts: PythonFacts) -> bool:
    """Whether functions of a module say what they return."""
    return any(each.annotation is not None for each in facts.functions)


def _lifespan(
    name: str, decorator: str, application: str, annotation: str | None, manager: str
) -> cst.FunctionDef:
    returns = f" -> {annotation}" if annotation else ""
    source = (
        f"@{decorator}\n"
        f"async def {name}(app: {application}){returns}:\n"
        f"    async with {manager}():\n"
        f"        yield\n"
    )
    return cast("cst.FunctionDef", cst.parse_statement(source))
