"""A service of Flask that is one module, and what of it FastAPI has no counterpart for."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mega_optimizer.codemods.serving.flask_answers import Kinds, always_answers
from mega_optimizer.codemods.serving.flask_application import read_application, read_run
from mega_optimizer.codemods.serving.flask_routes import Handler, ambiguous_routes, read_handler
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import PythonFacts

UNDERSTOOD = frozenset({"Flask", "request", "jsonify", "abort"})
NAMES = {
    "session": "session",
    "g": "request-globals",
    "Blueprint": "blueprints",
    "render_template": "templates",
    "render_template_string": "templates",
    "current_app": "current-app",
    "send_file": "files",
    "send_from_directory": "files",
}
HOOKS = frozenset(
    {
        "before_request", "after_request", "teardown_request", "teardown_appcontext",
        "before_first_request", "context_processor", "url_value_preprocessor", "url_defaults",
        "cli", "shell_context_processor", "template_filter",
    }
)  # fmt: skip
ATTRIBUTES = {
    **dict.fromkeys(HOOKS, "hooks"),
    "errorhandler": "error-handlers",
    "register_error_handler": "error-handlers",
    "register_blueprint": "blueprints",
    "config": "settings",
    "json": "settings",
    "json_encoder": "settings",
    "json_provider_class": "settings",
    "secret_key": "session",
    "logger": "logger",
}
ROUTING = frozenset({"route", "get", "post", "put", "patch", "delete"})
# What werkzeug raises for a status, and Starlette has a phrase for.
STATUSES = frozenset(
    {*range(400, 407), *range(408, 419), 421, 422, 423, 424, 428, 429, 431, 451, *range(500, 506)}
) - {402}  # fmt: skip
# Where each request had a thread of its own, and threads of a pool are used again.
THREAD_STATE = re.compile(rb"\bthreading\.local\(|\bget_ident\(")


@dataclass(frozen=True, slots=True, order=True)
class Blocker:
    """One thing that FastAPI would do in another way, or not at all."""

    place: Place
    code: str
    text: str


@dataclass(slots=True)
class FlaskModule:
    """What there is to convert: statements and expressions of the module at ``facts.path``.

    ``factory`` is the function that makes and returns the application, where one does. ``run`` is
    the only ``app.run(...)``; ``aborts`` are the statements that end a request.
    ``has_special_values`` says that answers may hold what JSON has no type for, and Flask writes.
    """

    facts: PythonFacts
    source: Source
    imports: list[ast.ImportFrom] = field(default_factory=list)
    name: str = ""
    made: ast.Assign | None = None
    factory: ast.FunctionDef | None = None
    handlers: list[Handler] = field(default_factory=list)
    aborts: list[ast.Expr] = field(default_factory=list)
    run: ast.Call | None = None
    blockers: list[Blocker] = field(default_factory=list)
    has_special_values: bool = False

    def block(self, node: ast.AST, code: str, text: str) -> None:
        """Note what stands in the way at ``node``."""
        line = getattr(node, "lineno", 1)
        self.blockers.append(Blocker(Place(self.facts.path, line), code, text))

    @property
    def place(self) -> Place:
        """Where the application is made, else the top of the module."""
        line = self.made.lineno if self.made is not None else 1
        return Place(self.facts.path, line)


def read_flask_module(facts: PythonFacts, source: Source) -> FlaskModule:
    """Read a module that imports Flask; all that stands in the way is in ``blockers``."""
    module = FlaskModule(facts, source)
    _read_imports(module)
    read_application(module)
    if module.made is None:
        return module
    _read_uses(module)
    kinds = Kinds(source, facts)
    for handler in module.handlers:
        _judge_answers(module, handler, kinds)
    if not module.handlers:
        module.block(module.made, "no-routes", "no route of it can be seen")
    if THREAD_STATE.search(source.content):
        module.block(module.made, "thread-state", "something is kept for a thread")
    if not module.blockers and not any(each.answers_json for each in module.handlers):
        module.block(module.made, "no-json", "none of its routes answers with JSON")
    return module


def _read_imports(module: FlaskModule) -> None:
    top = {id(each) for each in module.source.tree.body}
    for node in ast.walk(module.source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                if root == "flask":
                    module.block(node, "flask-imports", "flask is imported as a module")
                elif root.startswith("flask_"):
                    module.block(node, "extensions", f"it uses {alias.name}")
                elif root == "werkzeug":
                    module.block(node, "werkzeug", f"it uses {alias.name}")
        elif isinstance(node, ast.ImportFrom) and not node.level:
            root = (node.module or "").partition(".")[0]
            if root == "flask":
                _read_flask_import(module, node, id(node) in top)
            elif root.startswith("flask_"):
                module.block(node, "extensions", f"it uses {node.module}")
            elif root == "werkzeug":
                module.block(node, "werkzeug", f"it uses {node.module}")


def _read_flask_import(module: FlaskModule, node: ast.ImportFrom, is_top: bool) -> None:
    if not is_top or node.module != "flask" or any(each.asname for each in node.names):
        module.block(node, "flask-imports", "Flask is imported in an unusual way")
        return
    for each in node.names:
        if each.name not in UNDERSTOOD:
            module.block(node, NAMES.get(each.name, "flask-api"), f"it uses {each.name}")
    if module.source.own_lines(node) is None:
        module.block(node, "flask-imports", "the import shares its line with another statement")
    module.imports.append(node)


def _route_body(module: FlaskModule) -> list[ast.stmt]:
    """Return the statements among which the routes are defined."""
    return module.factory.body if module.factory is not None else module.source.tree.body


def _read_uses(module: FlaskModule) -> None:
    parents = module.source.parents
    for node in ast.walk(module.source.tree):
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        parent = parents[node]
        if node.id == module.name:
            _read_application_use(module, node, parent)
        elif node.id == "abort" and _imports(module, "abort"):
            _read_abort(module, node, parent)
    for statement in _route_body(module):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and any(
            _routing(module, each) for each in statement.decorator_list
        ):
            handler = read_handler(module.source, statement, module.name)
            for blamed, code, text in handler.problems:
                module.block(blamed, code, text)
            module.handlers.append(handler)
    for blamed, text in ambiguous_routes(module.handlers):
        module.block(blamed, "route-order", text)
    taken = {id(each) for handler in module.handlers for each in handler.understood}
    for node in ast.walk(module.source.tree):
        if isinstance(node, ast.Name) and id(node) not in taken:
            if node.id == "request" and _imports(module, "request"):
                module.block(node, "request-elsewhere", "request is used in a way not understood")
            if node.id == "jsonify" and _imports(module, "jsonify"):
                module.block(node, "answers-elsewhere", "jsonify is used outside of an answer")
    names = {each.function.name for each in module.handlers}
    for node in ast.walk(module.source.tree):
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        if node.id in names and not _is_local(module, node):
            module.block(node, "handler-used", f"{node.id} is used apart from its route")


def _is_local(module: FlaskModule, node: ast.Name) -> bool:
    """Whether a name is a variable of a function or comprehension around it."""
    for scope in module.source.around(node):
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.ListComp | ast.DictComp):
            for each in ast.walk(scope):
                if isinstance(each, ast.arg) and each.arg == node.id:
                    return True
                if isinstance(each, ast.Name) and each.id == node.id and _is_stored(each):
                    return True
    return False


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _imports(module: FlaskModule, name: str) -> bool:
    return any(alias.name == name for node in module.imports for alias in node.names)


def _routing(module: FlaskModule, decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == module.name
        and function.attr in ROUTING
    )


def _read_application_use(module: FlaskModule, node: ast.Name, parent: ast.AST) -> None:
    parents = module.source.parents
    if module.factory is not None and parent is module.factory.body[-1]:
        return  # what the factory returns
    if not isinstance(parent, ast.Attribute):
        if isinstance(parent, ast.Call | ast.keyword):
            call = parent if isinstance(parent, ast.Call) else parents[parent]
            text = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
            module.block(node, "extensions", f"the application is handed to {text}")
        else:
            module.block(node, "application-use", "the application is used as a value")
        return
    call = parents[parent]
    if parent.attr == "run" and isinstance(call, ast.Call):
        read_run(module, call)
    elif parent.attr in ROUTING:
        owner = parents[call]
        body = _route_body(module)
        if not isinstance(owner, ast.FunctionDef | ast.AsyncFunctionDef) or owner not in body:
            module.block(node, "route-arguments", "a route is not added by a decorator")
    else:
        module.block(
            node,
            ATTRIBUTES.get(parent.attr, "application-use"),
            f"it uses {module.name}.{parent.attr}",
        )


def _read_abort(module: FlaskModule, node: ast.Name, parent: ast.AST) -> None:
    statement = module.source.parents[parent]
    if not isinstance(parent, ast.Call) or not isinstance(statement, ast.Expr):
        module.block(node, "abort", "abort is used as a value")
        return
    status = parent.args[0] if parent.args else None
    known = isinstance(status, ast.Constant) and status.value in STATUSES
    described = len(parent.args) + len(parent.keywords) <= 2 and all(
        each.arg == "description" for each in parent.keywords
    )
    if not known or not described or any(isinstance(each, ast.Starred) for each in parent.args):
        module.block(node, "abort", "what abort is given has no counterpart")
    elif parent.args[1:] and isinstance(parent.args[1], ast.Call):
        module.block(node, "abort", "abort may be given a response")
    else:
        module.aborts.append(statement)


def _judge_answers(module: FlaskModule, handler: Handler, kinds: Kinds) -> None:
    if not always_answers(handler.function.body):
        text = f"{handler.function.name} may end without an answer"
        module.block(handler.function, "no-answer", text)
    for answer in handler.answers:
        kind = kinds.kind(answer.body, handler.function)
        if kind is None:
            text = f"what {handler.function.name} answers is not known"
            module.block(answer.statement, "answer-unknown", text)
        elif kind == "json":
            handler.answers_json = True
            answer.kind = "json"
            if not all(kinds.is_plain(each, handler.function) for each in answer.values()):
                module.has_special_values = True


def blockers_in_order(module: FlaskModule) -> Iterator[Blocker]:
    """Yield the first blocker of each kind: those of the module in its order, then the others."""
    seen: set[str] = set()
    own = module.facts.path
    for each in sorted(module.blockers, key=lambda one: (one.place.path != own, one)):
        if each.code not in seen:
            seen.add(each.code)
            yield each
