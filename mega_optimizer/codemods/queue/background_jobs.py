"""Routes of FastAPI that leave work to ``BackgroundTasks``, where a worker could do it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.applications import is_response
from mega_optimizer.codemods.cache.purity import function_node
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.queue.job_arguments import sent_as
from mega_optimizer.codemods.queue.job_work import work_behind, work_objection
from mega_optimizer.codemods.queue.repeatable import is_repeatable
from mega_optimizer.codemods.queue.sendable_models import Names
from mega_optimizer.codemods.request_paths import users
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.cache.purity import FunctionNode
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, Parameter, PythonFacts, Route

TASKS = frozenset(
    {
        "fastapi.BackgroundTasks", "fastapi.background.BackgroundTasks",
        "starlette.background.BackgroundTasks",
    }
)  # fmt: skip
COMMITS = rb"\b(?:commit|begin)\b"


@dataclass(frozen=True, slots=True)
class BackgroundJob:
    """A task that ``call`` of a route's handler adds, through the parameter ``parameter``."""

    facts: PythonFacts
    route: Route
    call: Call
    parameter: str
    function: Definition
    repeatable: bool

    @property
    def place(self) -> Place:
        """Where the task is added."""
        return Place(self.facts.path, self.call.line)


def background_jobs(
    context: Context, refusal: tuple[str, str] | None
) -> Iterator[BackgroundJob | Skip]:
    """Yield the tasks that workers could do, and why others stay where they are.

    ``refusal`` is what speaks against all of them.
    """
    program = context.program
    for path in program.containing(rb"\.add_task\(", program.product, b"add_task"):
        facts = program.facts(path)
        for route in facts.routes if facts is not None else ():
            if facts is None:
                continue
            for parameter, call in _added(facts, route):
                place = Place(path, call.line)
                if refusal is not None:
                    yield Skip(place, *refusal)
                    continue
                found = _judged(context, facts, route, parameter, call)
                yield Skip(place, *found) if isinstance(found, tuple) else found


def _added(facts: PythonFacts, route: Route) -> Iterator[tuple[str, Call]]:
    tasks = {
        each.name
        for each in route.handler.parameters
        if each.annotation is not None and each.annotation.name in TASKS
    }
    for call in facts.calls:
        owner, _, method = call.text.rpartition(".")
        if call.scope == route.handler.path and method == "add_task" and owner in tasks:
            yield owner, call


def _judged(
    context: Context, facts: PythonFacts, route: Route, parameter: str, call: Call
) -> BackgroundJob | tuple[str, str]:
    program = context.program
    handler = Definition(facts.path, route.handler.path)
    node = function_node(program, handler)
    if "." in handler.name or node is None or route.owner is None:
        return "shape-not-known", f"{handler.name} is not a plain function of its module"
    function = _task(program, facts, call)
    if isinstance(function, tuple):
        return function
    objection = (
        _handler_objection(program, facts, route, handler)
        or _body_objection(node, parameter)
        or _arguments_objection(program, facts, node, function, parameter)
        or _commits_later(program, facts, route)
    )
    if objection is not None:
        return objection
    work = work_behind(program, function)
    objection = work_objection(context, function, work)
    if objection is not None:
        return objection
    repeatable = is_repeatable(program, work)
    return BackgroundJob(facts, route, call, parameter, function, repeatable)


def _task(program: Program, facts: PythonFacts, call: Call) -> Definition | tuple[str, str]:
    """Return the function of the service that the task runs."""
    if not call.positional or call.unpacks:
        return "function-not-known", "which function it runs with what cannot be told"
    given = call.positional[0]
    found = program.definition(facts.path, given.name)
    home = program.facts(found.path) if found is not None else None
    function = home.function(found.name) if home is not None and found is not None else None
    if found is None or home is None or function is None or "." in found.name:
        reason = f"{given.text or 'what it runs'} is not a function of a module of the service"
        return "function-not-known", reason
    if any(each.text != "job" for each in function.decorators):
        return "decorated", f"{found.name} is decorated: what a worker would run is not known"
    late = {each.bound for each in home.imports if each.where == "type-checking"}
    for each in function.parameters:
        root = each.annotation.text.partition(".")[0] if each.annotation is not None else ""
        if root in late:
            return "shape-not-known", f"the types of {found.name} are not there at run time"
    return found


def _handler_objection(
    program: Program, facts: PythonFacts, route: Route, handler: Definition
) -> tuple[str, str] | None:
    returns = [each for each in route.handler.returns if each is not None]
    if any(is_response(each) for each in returns) or route.response_class is not None:
        reason = f"{handler.name} makes its response itself, and a header would not reach it"
        return "answers-by-itself", reason
    if any(user is not None and user.name for user in users(program, handler)):
        return "called-elsewhere", f"{handler.name} is called by other functions too"
    paths = [each.path or "" for each in facts.routes if each.owner == route.owner]
    ours = any(call.text.endswith(".add_api_route") for call in facts.calls)
    if not ours and any(path.startswith("/jobs") for path in paths):
        return "path-taken", "there is a route below /jobs already"
    if any(path.startswith("/{") and (":path}" in path) for path in paths):
        return "path-taken", "a route that takes every path would hide the status of jobs"
    return None


def _body_objection(node: FunctionNode, parameter: str) -> tuple[str, str] | None:
    """Object where the task is not the last thing that the handler does, done once."""
    parents = {child: each for each in ast.walk(node) for child in ast.iter_child_nodes(each)}
    uses = [each for each in ast.walk(node) if isinstance(each, ast.Name) and each.id == parameter]
    statements = []
    for use in uses:
        attribute = parents.get(use)
        call = parents.get(attribute) if attribute is not None else None
        statement = parents.get(call) if call is not None else None
        added = isinstance(attribute, ast.Attribute) and attribute.attr == "add_task"
        if not added or not isinstance(statement, ast.Expr):
            return "tasks-handed-on", f"{parameter} is used for more than to add a task"
        statements.append(statement)
    if len(statements) != 1:
        return "several-tasks", "it adds several tasks: some might be queued, and others not"
    current: ast.stmt = statements[0]
    while current is not node:
        outer = parents[current]
        if isinstance(outer, ast.If):
            block = outer.body if current in outer.body else outer.orelse
        elif outer is node:
            block = node.body
        elif isinstance(outer, ast.Try) and _passes_on(outer) and current in outer.body:
            block = outer.body
        else:
            return "inside-a-block", "it is added in a loop, or within try or with"
        if not all(_only_answers(each) for each in block[block.index(current) + 1 :]):
            return "not-the-last-step", "the handler goes on, and may fail, after it adds it"
        assert isinstance(outer, ast.stmt)
        current = outer
    return None


def _passes_on(block: ast.Try) -> bool:
    """Whether a ``try`` lets an HTTPException of its body through before it catches others."""
    first = block.handlers[0] if block.handlers else None
    named = ast.unparse(first.type) if first is not None and first.type is not None else ""
    return (
        first is not None
        and named.rpartition(".")[2] in ("HTTPException", "StarletteHTTPException")
        and len(first.body) == 1
        and isinstance(first.body[0], ast.Raise)
        and first.body[0].exc is None
        and not block.orelse
        and not block.finalbody
    )


def _only_answers(statement: ast.stmt) -> bool:
    """Whether a statement only returns, or writes to the log."""
    if isinstance(statement, ast.Return):
        calls = [each for each in ast.walk(statement) if isinstance(each, ast.Call)]
        awaits = any(isinstance(each, ast.Await) for each in ast.walk(statement))
        names = [ast.unparse(each.func).rpartition(".")[2] for each in calls]
        plain = ("str", "len", "model_dump", "dict", "isoformat", "model_validate")
        return not awaits and all(name[:1].isupper() or name in plain for name in names)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        text = ast.unparse(statement.value.func)
        return text.rpartition(".")[2] in ("info", "debug", "warning") and "log" in text.lower()
    return isinstance(statement, ast.Pass)


def _arguments_objection(
    program: Program, facts: PythonFacts, node: FunctionNode, function: Definition, parameter: str
) -> tuple[str, str] | None:
    added = next(
        each
        for each in ast.walk(node)
        if isinstance(each, ast.Call) and ast.unparse(each.func) == f"{parameter}.add_task"
    )
    home = program.facts(function.path)
    own = home.function(function.name) if home is not None else None
    if own is None or home is None:
        return "function-not-known", f"{function.name} cannot be read"
    names = Names(program, facts, node)
    takes = {each.name: each for each in own.parameters}
    given = [*zip(own.parameters, added.args[1:], strict=False)]
    if len(added.args) - 1 > len(own.parameters):
        return "argument-not-json", f"{function.name} takes whatever it is given"
    given += [(takes[e.arg], e.value) for e in added.keywords if e.arg in takes]
    if len(given) != len(added.args) - 1 + len(added.keywords):
        return "argument-not-json", f"{function.name} takes whatever it is given"
    for taken, value in given:
        sent = sent_as(names, value)
        if sent is None:
            reason = f"{ast.unparse(value)} may be more than JSON can carry to a worker"
            return "argument-not-json", reason
        if sent == "plain":
            continue
        kind = taken.annotation
        if kind is None or program.definition(function.path, kind.name) != sent:
            reason = f"{taken.name} of {function.name} is not declared as {sent.name}"
            return "argument-not-json", reason
    return None


def _commits_later(program: Program, facts: PythonFacts, route: Route) -> tuple[str, str] | None:
    """Object where a dependency commits after the handler: a worker may look before that."""
    if not any(_may_depend(program, facts, each) for each in route.handler.parameters):
        return None
    for path in program.containing(COMMITS, program.product, b"commit", b"begin"):
        home = program.facts(path)
        for function in home.functions if home is not None else ():
            if not function.is_generator or home is None:
                continue
            ends = [
                call
                for call in home.calls
                if call.scope == function.path
                and call.text.rpartition(".")[2] in ("commit", "begin")
            ]
            if ends:
                reason = f"{function.path} of {path} commits after the handler has returned"
                return "commits-later", reason
    return None


def _may_depend(program: Program, facts: PythonFacts, parameter: Parameter) -> bool:
    """Whether a parameter may be a dependency: by its default, or by what its type stands for."""
    if parameter.default is not None and parameter.default.kind == "call":
        return parameter.default.text.rpartition(".")[2] in ("Depends", "Security")
    kind = parameter.annotation
    if kind is None:
        return False
    if kind.text.rpartition(".")[2] == "Annotated":
        return True
    found = program.definition(facts.path, kind.name)
    home = program.facts(found.path) if found is not None else None
    return home is not None and found is not None and home.assigned(found.name) is not None
