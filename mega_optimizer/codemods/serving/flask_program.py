"""What running a Flask program does: which application it serves, where, and what else."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.serving.addresses import Setting, setting
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, PythonFacts, Value

FLASK = frozenset({"flask.Flask", "flask.app.Flask"})
FACTORIES = ("create_app", "make_app")
# Parameters of ``Flask.run`` and ``werkzeug.serving.run_simple`` that only concern developing.
FOR_DEVELOPERS = frozenset(
    {"debug", "use_reloader", "use_debugger", "use_evalex", "load_dotenv", "extra_files",
     "reloader_interval", "reloader_type", "passthrough_errors"}
)  # fmt: skip
SAFE_CALLS = frozenset({"int", "str", "bool", "float", "len", "os.getenv", "os.environ.get"})
SAFE_METHODS = frozenset({"lower", "upper", "strip"})
LOGGING = frozenset({"debug", "info", "warning", "error"})
DEPTH = 4


@dataclass(frozen=True, slots=True)
class FlaskProgram:
    """``application`` is what stands behind the colon of an import string.

    ``unguarded`` is the statement that starts the server whenever the module is imported, as a
    range of lines. ``reloads`` says that the development server may restart itself.
    """

    application: str
    host: Setting = field(default_factory=lambda: Setting("127.0.0.1"))
    port: Setting = field(default_factory=lambda: Setting("5000"))
    reloads: bool = False
    unguarded: tuple[int, int] | None = None


def flask_program(program: Program, path: str, content: bytes) -> FlaskProgram | Skip | None:
    """Return what ``python PATH`` serves; None where it is no program that starts Flask.

    Skip codes: ``main-block-does-more``, ``application-unknown``, ``address-unknown``,
    ``single-threaded``, ``serves-tls``, ``arguments-unknown``.
    """
    facts = program.facts(path)
    if facts is None or b".run(" not in content:
        return None
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    body, scope, guarded = _main_body(tree)
    runs = [each for each in body if _owner_of_run(each) is not None]
    started = [each for each in runs if _is_flask(program, facts, body, scope, each)]
    if len(started) != 1:
        return _not_one(program, facts, tree, runs)
    statement = started[0]
    owner = _owner_of_run(statement) or ""
    extra = next(
        (
            each
            for each in body
            if guarded and not _is_harmless(each, owner) and each is not statement
        ),
        None,
    )
    if extra is None and not guarded and body[-1] is not statement:
        extra = body[-1]
    if extra is not None:
        reason = "what starts the development server does more, which gunicorn would not run"
        return Skip(Place(path, extra.lineno), "main-block-does-more", reason)
    application = _import_name(body, owner, guarded)
    call = next(
        (one for one in facts.calls if one.line == statement.lineno and one.text == f"{owner}.run"),
        None,
    )
    if application is None or call is None:
        reason = "the application is made in a way that an import string cannot say"
        return Skip(Place(path, statement.lineno), "application-unknown", reason)
    lines = None if guarded else (statement.lineno, statement.end_lineno or statement.lineno)
    return _with_arguments(program, facts, call, application, scope, lines)


def _main_body(tree: ast.Module) -> tuple[list[ast.stmt], str, bool]:
    """Return the statements that run only as a program, their scope, and whether they are guarded.

    Where the guarded block just calls a function of the module, that function's.
    """
    main = next((each for each in tree.body if _is_main_guard(each)), None)
    if not isinstance(main, ast.If):
        return tree.body, "", False
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    only = main.body[0] if len(main.body) == 1 else None
    if isinstance(only, ast.Expr) and isinstance(only.value, ast.Call) and not only.value.args:
        name = only.value.func.id if isinstance(only.value.func, ast.Name) else ""
        function = functions.get(name)
        if function is not None and not function.decorator_list and not only.value.keywords:
            return function.body, name, True
    return main.body, "", True


def _is_main_guard(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare) or node.orelse:
        return False
    sides = [node.test.left, *node.test.comparators]
    return any(isinstance(each, ast.Name) and each.id == "__name__" for each in sides)


def _owner_of_run(statement: ast.stmt) -> str | None:
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    owner = call.func.value
    return owner.id if call.func.attr == "run" and isinstance(owner, ast.Name) else None


def _is_flask(
    program: Program, facts: PythonFacts, body: list[ast.stmt], scope: str, statement: ast.stmt
) -> bool:
    owner = _owner_of_run(statement) or ""
    return makes_flask(program, facts.path, owner, scope) or makes_flask(program, facts.path, owner)


def makes_flask(
    program: Program, path: str, name: str, scope: str = "", depth: int = DEPTH
) -> bool:
    """Whether the variable ``name`` of a module is a Flask application, through others too."""
    facts = program.facts(path)
    if facts is None or depth == 0:
        return False
    value = facts.assigned(name, scope)
    if value is not None:
        return value.kind == "call" and _call_makes_flask(program, path, value, depth)
    resolved = facts.resolve(name)
    target = program.definition(path, resolved)
    if target is None or target.path == path:
        return False
    return makes_flask(program, target.path, target.name, "", depth - 1)


def _call_makes_flask(program: Program, path: str, value: Value, depth: int) -> bool:
    if value.name in FLASK:
        return True
    target = program.definition(path, value.name)
    return target is not None and returns_flask(program, target.path, target.name, depth - 1)


def returns_flask(program: Program, path: str, name: str, depth: int = DEPTH) -> bool:
    """Whether every return statement of a function returns a Flask application."""
    facts = program.facts(path)
    function = facts.function(name) if facts is not None else None
    if function is None or depth == 0 or not function.returns or function.is_async:
        return False
    return all(
        each is not None
        and (
            (each.kind == "call" and _call_makes_flask(program, path, each, depth))
            or (each.kind == "name" and makes_flask(program, path, each.text, name, depth))
            or (each.kind == "name" and makes_flask(program, path, each.text, "", depth))
        )
        for each in function.returns
    )


def _not_one(
    program: Program, facts: PythonFacts, tree: ast.Module, runs: Sequence[ast.stmt]
) -> Skip | None:
    """Say why a program that mentions ``run`` is not understood, where it may be one of Flask."""
    if len(runs) > 1:
        place = Place(facts.path, runs[0].lineno)
        return Skip(place, "main-block-does-more", "it starts more than one server")
    for call in facts.calls:
        owner, _, method = call.text.rpartition(".")
        if method == "run" and owner and makes_flask(program, facts.path, owner, call.scope):
            reason = "what starts the development server stands in control flow, or does more"
            return Skip(Place(facts.path, call.line), "main-block-does-more", reason)
    return None


def _is_harmless(statement: ast.stmt, owner: str) -> bool:
    """Whether a statement beside the start of the server need not run under another server."""
    if isinstance(statement, ast.Pass | ast.Import):
        return isinstance(statement, ast.Pass) or all(
            alias.name in ("os", "sys", "logging") for alias in statement.names
        )
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if not all(isinstance(each, ast.Name) for each in targets) or statement.value is None:
            return False
        made = any(isinstance(each, ast.Name) and each.id == owner for each in targets)
        return made or all(
            _is_safe_call(each) for each in ast.walk(statement.value) if isinstance(each, ast.Call)
        )
    if isinstance(statement, ast.Expr):
        value = statement.value
        if isinstance(value, ast.Constant):
            return True
        if isinstance(value, ast.Call):
            return _announces(value)
    return False


def _is_safe_call(call: ast.Call) -> bool:
    text = ast.unparse(call.func)
    return text in SAFE_CALLS or text.rpartition(".")[2] in SAFE_METHODS


def _announces(call: ast.Call) -> bool:
    text = ast.unparse(call.func)
    owner, _, method = text.rpartition(".")
    if text != "print" and not (method in LOGGING and "log" in owner.lower()):
        return False
    inner = [each for each in ast.walk(call) if isinstance(each, ast.Call) and each is not call]
    return all(_is_safe_call(each) for each in inner)


def _import_name(body: Sequence[ast.stmt], owner: str, guarded: bool) -> str | None:
    """Return what gunicorn is to import: a variable, or a call of a factory with constants."""
    made = [
        each.value
        for each in body
        if isinstance(each, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == owner for target in each.targets)
    ]
    if not guarded or not made:
        return owner
    value = made[0]
    if len(made) > 1 or not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name):
        return None
    constant = all(isinstance(each, ast.Constant) for each in value.args) and all(
        isinstance(each.value, ast.Constant) and each.arg for each in value.keywords
    )
    return ast.unparse(value) if constant and value.func.id != "Flask" else None


def _with_arguments(
    program: Program,
    facts: PythonFacts,
    call: Call,
    application: str,
    scope: str,
    unguarded: tuple[int, int] | None,
) -> FlaskProgram | Skip:
    place = Place(facts.path, call.line)
    given = {each.keyword: each.value for each in call.arguments if each.keyword}
    given |= dict(zip(("host", "port", "debug"), call.positional, strict=False))
    if call.unpacks:
        return Skip(place, "arguments-unknown", "unpacked arguments say how it is to serve")
    threaded = given.get("threaded")
    if threaded is not None and threaded.constant is not True:
        return Skip(place, "single-threaded", "it may be told to serve one request at a time")
    if "ssl_context" in given:
        return Skip(place, "serves-tls", "the development server speaks TLS here")
    unknown = given.keys() - FOR_DEVELOPERS - {"host", "port", "threaded"}
    if unknown:
        return Skip(place, "arguments-unknown", f"{', '.join(sorted(unknown))} has no counterpart")
    address = [
        setting(program, facts.path, given[name], scope) if name in given else Setting(default)
        for name, default in (("host", "127.0.0.1"), ("port", "5000"))
    ]
    host, port = address
    if host is None or port is None:
        return Skip(place, "address-unknown", "where it listens cannot be told from the code")
    developing = [given[name] for name in ("debug", "use_reloader") if name in given]
    reloads = any(
        each.constant not in (False, None) or each.kind != "constant" for each in developing
    )
    return FlaskProgram(application, host, port, reloads, unguarded)
