"""What a function does for a request, with all that it calls: is it costly, and can it be repeated?

Whatever is not known to be harmless is an objection: an answer is kept only where nothing but the
parameters of the route goes into it, and nothing but the answer comes out.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from mega_optimizer.codemods.cache.harmless import (
    BUILTINS,
    CHANGING_METHODS,
    CLIENTS,
    CLOCKS,
    COLLECTIONS,
    DATABASE_READS,
    HARMLESS,
    HARMLESS_METHODS,
    HTTP_READS,
    IN_PLACE,
    LOGGING,
    PREDICTIONS,
    RANDOM,
    SESSIONS,
    STREAMS,
)
from mega_optimizer.codemods.program import Definition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts, Value

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
LIMIT = 40  # functions behind one route
HTTP, DATABASE = "http", "database"


@dataclass(slots=True)
class Work:
    """What was found: the costly calls, and the first objection (code, reason)."""

    costly: list[str] = field(default_factory=list)
    objection: tuple[str, str] | None = None
    classes: set[Definition] = field(default_factory=set)
    queries: bool = False
    _seen: set[tuple[Definition, str]] = field(default_factory=set)

    def object_(self, code: str, reason: str) -> None:
        """Keep the first objection."""
        if self.objection is None:
            self.objection = (code, reason)


def work_of(program: Program, start: Definition) -> Work:
    """Return what the function ``start`` does, through the service's own functions too."""
    work = Work()
    _inspect(program, start, {}, work)
    return work


def function_node(program: Program, definition: Definition) -> FunctionNode | None:
    """Return the syntax tree of a function of a module or of a class, else None."""
    content = program.read(definition.path)
    if content is None:
        return None
    nodes: list[ast.stmt] = _parsed(content).body
    found: ast.stmt | None = None
    for part in definition.name.split("."):
        found = next(
            (
                node
                for node in nodes
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                and node.name == part
            ),
            None,
        )
        if found is None:
            return None
        nodes = found.body
    return found if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) else None


@lru_cache(maxsize=64)
def _parsed(content: bytes) -> ast.Module:
    return ast.parse(content)


@dataclass(slots=True)
class _Function:
    """One function being inspected: its names, and the constants that its caller passes."""

    program: Program
    facts: PythonFacts
    node: FunctionNode
    constants: Mapping[str, object]
    locals: set[str] = field(default_factory=set)
    kinds: dict[str, str] = field(default_factory=dict)  # local name → HTTP, DATABASE
    owners: dict[str, Definition] = field(default_factory=dict)  # local name → class of its own

    def resolve(self, text: str) -> str | None:
        """Return what a dotted name means that is not local to the function."""
        root = text.partition(".")[0]
        imported = next(
            (
                each.target
                for each in self.facts.imports
                if each.bound == root and each.scope == self.node.name
            ),
            None,
        )
        if imported is not None:
            return imported + text[len(root) :]
        if root in self.locals:
            return None
        return self.facts.resolve(text) or (
            f"builtins.{text}" if root not in self.facts.bound_names else None
        )


def _inspect(
    program: Program, start: Definition, constants: Mapping[str, object], work: Work
) -> None:
    # The same function may read for one caller and write for another.
    called = (start, repr(sorted(constants.items())))
    if called in work._seen:
        return
    work._seen.add(called)
    facts = program.facts(start.path)
    node = function_node(program, start)
    if facts is None or node is None or len(work._seen) > LIMIT:
        work.object_("unknown-call", f"{start.name} cannot be followed")
        return
    function = _Function(program, facts, node, constants)
    owner = start.name.rpartition(".")[0]
    if any(each.path == owner for each in facts.classes) and node.args.args:
        function.owners[node.args.args[0].arg] = Definition(start.path, owner)
    _bind(function)
    for each in node.body:
        for inner in ast.walk(each):
            _look(function, inner, work)


def _bind(function: _Function) -> None:
    """Learn the local names, and which of them are HTTP clients or database sessions."""
    arguments = function.node.args
    for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        function.locals.add(one.arg)
        _learn(function, one.arg, one.annotation)
    for inner in ast.walk(function.node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            function.locals.add(inner.id)
        if isinstance(inner, ast.arg):
            function.locals.add(inner.arg)
        if isinstance(inner, ast.withitem) and isinstance(inner.optional_vars, ast.Name):
            _learn(function, inner.optional_vars.id, inner.context_expr)
        if isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Name):
            _learn(function, inner.targets[0].id, inner.value)


def _learn(function: _Function, name: str, value: ast.expr | None) -> None:
    """Remember the kind of thing that an annotation or a constructor says ``name`` is."""
    for part in ast.walk(value) if value is not None else ():
        text = _dotted(part)
        kind = _kind_of(function, text) if text else None
        if kind is not None:
            function.kinds[name] = kind
            return
    text = _named_by(value)
    own = _class_of(function.program, function.facts, function.resolve(text)) if text else None
    if own is not None:
        function.owners[name] = own


def _named_by(value: ast.expr | None) -> str | None:
    """Return the name that an annotation, or the call of a class, gives to a value."""
    if isinstance(value, ast.Call):
        return _dotted(value.func)
    if isinstance(value, ast.Subscript):  # Annotated[Client, …], Optional[Client]
        inner = value.slice.elts[0] if isinstance(value.slice, ast.Tuple) else value.slice
        kind = (_dotted(value.value) or "").rpartition(".")[2]
        return _named_by(inner) if kind in ("Annotated", "Optional") else None
    if isinstance(value, ast.BinOp):
        return _named_by(value.left)
    return _dotted(value) if value is not None else None


def _class_of(program: Program, facts: PythonFacts, name: str | None) -> Definition | None:
    """Return the class of the service that a resolved name means, else None."""
    found = program.definition(facts.path, name)
    home = program.facts(found.path) if found is not None else None
    is_class = home is not None and found is not None
    if is_class and home and found and any(each.path == found.name for each in home.classes):
        return found
    return None


def _kind_of(function: _Function, text: str) -> str | None:
    name = function.resolve(text)
    if name in CLIENTS:
        return HTTP
    if name in SESSIONS:
        return DATABASE
    found = function.program.definition(function.facts.path, name)
    home = function.program.facts(found.path) if found is not None else None
    if found is None or home is None:
        return None
    made = home.assigned(found.name)  # a session factory, say, or a client of the module
    if made is not None and made.kind == "call":
        if made.name in CLIENTS:
            return HTTP
        if made.name in SESSIONS:
            return DATABASE
    maker = home.function(found.name)
    return _kind_named(maker.annotation) if maker is not None else None


def _kind_named(annotation: Value | None) -> str | None:
    """Return the kind that an annotation names, as in ``AsyncIterator[httpx.AsyncClient]`` too."""
    if annotation is None:
        return None
    if annotation.name in CLIENTS:
        return HTTP
    if annotation.name in SESSIONS:
        return DATABASE
    return next((kind for each in annotation.arguments if (kind := _kind_named(each.value))), None)


def _look(function: _Function, node: ast.AST, work: Work) -> None:
    if isinstance(node, ast.Global | ast.Nonlocal):
        work.object_("changes-state", f"{function.node.name} declares {', '.join(node.names)}")
    elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
        root = _root(node)
        makes_itself = function.node.name == "__init__" and root in function.owners
        outside = root not in function.locals or isinstance(node, ast.Attribute)
        if outside and not makes_itself:
            work.object_("changes-state", f"{function.node.name} writes to {ast.unparse(node)}")
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        _look_at_name(function, node.id, work)
    elif isinstance(node, ast.Call):
        _look_at_call(function, node, work)


def _look_at_name(function: _Function, text: str, work: Work) -> None:
    """Object to state of the process; remember classes."""
    found = function.program.definition(function.facts.path, function.resolve(text))
    home = function.program.facts(found.path) if found is not None else None
    if found is None or home is None:
        return
    if any(each.path == found.name for each in home.classes):
        work.classes.add(found)
    value = home.assigned(found.name)
    if value is None:
        return
    if value.name == "contextvars.ContextVar":
        work.object_("depends-on-the-request", f"{text} differs from request to request")
    filled = value.kind == "collection" or value.name in COLLECTIONS
    changed = any(store.text == found.name for store in home.stores) or any(
        call.text.rpartition(".")[0] == found.name and call.text.rpartition(".")[2] in IN_PLACE
        for call in home.calls
    )
    if filled and (changed or not found.name.isupper()):
        work.object_("process-state", f"{text} is kept in the memory of each process")


def _look_at_call(function: _Function, call: ast.Call, work: Work) -> None:
    text = _dotted(call.func)
    if text is None and isinstance(call.func, ast.Call):
        made = _dotted(call.func.func)  # ``sessionmaker(bind=engine)()``
        if made is None or function.resolve(made) not in SESSIONS:
            work.object_("unknown-call", f"what {ast.unparse(call.func)}() does is not known")
        return
    if text is None:
        method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        _look_at_method(function, call, method, None, work)
        return
    name = function.resolve(text)
    if name is None:
        root, _, rest = text.partition(".")
        kind = function.kinds.get(root) if "." not in rest else None
        if not rest and kind is not None:
            return  # a session factory made here
        if root in function.owners and kind is None:
            _look_at_member(function, call, function.owners[root], rest, work)
            return
        _look_at_method(function, call, text.rpartition(".")[2], kind, work)
        return
    found = function.program.definition(function.facts.path, name)
    if found is not None:
        _look_at_own(function, call, text, found, work)
    elif name in CLOCKS:
        work.object_("reads-clock", f"{text}() tells the time of the request")
    elif RANDOM.match(name):
        work.object_("random", f"{text}() answers otherwise each time")
    elif STREAMS.search(name):
        work.object_("streams", f"{text} is not an answer that can be kept")
    elif name.startswith("builtins."):
        if name.removeprefix("builtins.") not in BUILTINS:
            work.object_("unknown-call", f"what {text}() does is not known")
    elif HTTP_READS.match(name):
        work.costly.append(text)
    elif name not in CLIENTS | SESSIONS and not HARMLESS.match(name):
        work.object_("unknown-call", f"what {text}() does is not known")


def _look_at_own(
    function: _Function, call: ast.Call, text: str, found: Definition, work: Work
) -> None:
    """Follow the service's own functions; judge methods of what its modules hold."""
    home = function.program.facts(found.path)
    if home is None or not found.name:
        work.object_("unknown-call", f"what {text}() does is not known")
        return
    if home.function(found.name) is not None:
        # After an objection nothing more is looked for: most routes end here, and soon.
        if work.objection is None:
            _inspect(function.program, found, _passed(function, call, found), work)
        return
    if any(each.path == found.name for each in home.classes):
        work.classes.add(found)
        made = _method(function.program, found, "__init__")
        if made is not None and work.objection is None:
            _inspect(function.program, made, {}, work)
        return
    root, _, method = found.name.partition(".")
    value = home.assigned(root)
    if value is None or value.kind != "call":
        _look_at_method(function, call, found.name.rpartition(".")[2], None, work)
        return
    own = _class_of(function.program, home, value.name)
    if own is not None and method:
        if _keeps_state(function.program, own):
            work.object_("process-state", f"{text} belongs to what each process keeps in memory")
        _look_at_member(function, call, own, method, work)
        return
    kind = HTTP if value.name in CLIENTS else DATABASE if value.name in SESSIONS else None
    if kind == DATABASE and not method:
        return  # a session factory
    if value.name == "logging.getLogger" or method in LOGGING:
        return
    _look_at_method(function, call, method, kind, work)


def _look_at_member(
    function: _Function, call: ast.Call, owner: Definition, member: str, work: Work
) -> None:
    """Follow ``object.method()``, and judge ``object.client.get()``, of a class of the service."""
    attribute, dot, method = member.rpartition(".")
    if dot:
        kind = None if "." in attribute else _kind_of_attribute(function, owner, attribute)
        _look_at_method(function, call, method, kind, work)
        return
    found = _method(function.program, owner, member)
    if found is None:
        work.object_("unknown-call", f"what {ast.unparse(call.func)}() does is not known")
    elif work.objection is None:
        _inspect(function.program, found, _passed(function, call, found), work)


def _method(program: Program, owner: Definition, name: str, depth: int = 0) -> Definition | None:
    """Return where a class, or one of its bases in the service, defines a method."""
    home = program.facts(owner.path)
    if home is None or depth > 4:
        return None
    if home.function(f"{owner.name}.{name}") is not None:
        return Definition(owner.path, f"{owner.name}.{name}")
    bases = [base for each in home.classes if each.path == owner.name for base in each.bases]
    for base in bases:
        found = _class_of(program, home, base.name)
        above = _method(program, found, name, depth + 1) if found is not None else None
        if above is not None:
            return above
    return None


def _kind_of_attribute(function: _Function, owner: Definition, attribute: str) -> str | None:
    """Return the kind of what a class keeps as ``self.attribute``, assigned once, else None."""
    home = function.program.facts(owner.path)
    values = [
        each.value
        for each in (home.assignments if home is not None else ())
        if each.target == f"self.{attribute}" and each.scope.startswith(f"{owner.name}.")
    ]
    if len(values) != 1 or values[0].kind != "call":
        return None
    return HTTP if values[0].name in CLIENTS else DATABASE if values[0].name in SESSIONS else None


def _keeps_state(program: Program, owner: Definition) -> bool:
    """Whether methods of a class write to its objects after they were made."""
    home = program.facts(owner.path)
    return home is not None and any(
        store.text.startswith("self.")
        and store.scope.startswith(f"{owner.name}.")
        and not store.scope.endswith(".__init__")
        for store in home.stores
    )


def _passed(function: _Function, call: ast.Call, target: Definition) -> dict[str, object]:
    """Return the constants that a call passes to the parameters of ``target``."""
    node = function_node(function.program, target)
    if node is None:
        return {}
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    if "." in target.name:
        names = names[1:]  # self
    given = list(zip(names, call.args, strict=False))
    given += [(each.arg, each.value) for each in call.keywords if each.arg]
    return {name: one.value for name, one in given if isinstance(one, ast.Constant)}


def _look_at_method(
    function: _Function, call: ast.Call, method: str, kind: str | None, work: Work
) -> None:
    if kind == HTTP:
        verb = _verb(function, call, method)
        if verb in ("GET", "HEAD", "OPTIONS"):
            work.costly.append(ast.unparse(call.func))
        elif method not in ("aclose", "close", "build_request"):
            work.object_("side-effect", f"{ast.unparse(call.func)}() may change something upstream")
    elif kind == DATABASE and method in DATABASE_READS:
        work.costly.append(ast.unparse(call.func))
        work.queries = True
        if any(_is_raw_write(each) for each in ast.walk(call)):
            work.object_("side-effect", f"{ast.unparse(call.func)}() writes to the database")
    elif method in PREDICTIONS:
        work.costly.append(ast.unparse(call.func))
    elif (method not in HARMLESS_METHODS and method not in LOGGING) or (
        method in CHANGING_METHODS and not _is_local(function, call.func)
    ):
        work.object_("unknown-call", f"what {ast.unparse(call.func)}() does is not known")


def _is_local(function: _Function, called: ast.expr) -> bool:
    """Whether a method belongs to a value of the function itself."""
    while isinstance(called, ast.Attribute | ast.Subscript | ast.Call | ast.Await):
        called = called.func if isinstance(called, ast.Call) else called.value
    return not isinstance(called, ast.Name) or called.id in function.locals


def _verb(function: _Function, call: ast.Call, method: str) -> str | None:
    if method not in ("request", "stream"):
        return method.upper()
    first = call.args[0] if call.args else None
    first = next((each.value for each in call.keywords if each.arg == "method"), first)
    if isinstance(first, ast.Constant):
        return str(first.value).upper()
    if isinstance(first, ast.Name) and first.id in function.constants:
        return str(function.constants[first.id]).upper()
    return None


def _is_raw_write(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.match(r"\s*(?!select\b|with\b|values\b)[a-z]+\s", node.value, re.IGNORECASE)
        is not None
    )


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner else None
    return node.id if isinstance(node, ast.Name) else None


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
