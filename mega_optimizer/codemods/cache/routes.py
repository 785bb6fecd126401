"""GET routes of FastAPI whose answer is the same for everybody who asks the same.

Shared by the rules that keep answers, wherever they keep them.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.applications import FASTAPI, ROUTER
from mega_optimizer.codemods.cache.harmless import CLIENTS, COSTLY_METHODS, HTTP_READS
from mega_optimizer.codemods.cache.purity import function_node, work_of
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.program import Definition
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, PythonFacts, Route, Value

MARK = "cached"
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Routes that probes, scrapers and people ask for what is so right now.
PROBES = re.compile(
    r"(?:^|[/_.-])(?:health\w*|live\w*|ready\w*|readiness|ping|metrics|version|docs|openapi|favicon)"
    r"(?:$|[/_.-])"
)
POLLED = re.compile(
    r"(?:^|[/_-])(?:status|state|progress|result|job|task|run|poll|wait|queue|session|event|log)"
)
STATUS = re.compile(r"(?:^|[/_-])stat(?:us|e|s)")
PREDICTION = re.compile(r"predict|forecast|inference")
PERSONAL = re.compile(
    r"auth|user|token|login|permission|credential|tenant|account|api_?key|principal|session_id|me$"
)
SCALARS = frozenset(
    {
        "builtins.str", "builtins.int", "builtins.float", "builtins.bool", "builtins.list",
        "builtins.set", "builtins.tuple", "builtins.None", "datetime.date", "datetime.datetime",
        "datetime.time", "datetime.timedelta", "uuid.UUID", "decimal.Decimal", "typing.Optional",
        "typing.Union", "typing.List", "typing.Set", "typing.Literal", "typing.Annotated",
        "typing_extensions.Annotated", "typing_extensions.Literal", "annotated_types.Ge",
        "annotated_types.Le", "annotated_types.Gt", "annotated_types.Lt",
        "pydantic.PositiveInt", "pydantic.NonNegativeInt", "pydantic.constr", "pydantic.conint",
        "fastapi.Query", "fastapi.Path", "fastapi.param_functions.Query",
        "fastapi.param_functions.Path",
    }
)  # fmt: skip
ENUMS = frozenset({"enum.Enum", "enum.StrEnum", "enum.IntEnum"})
RAW_WRITES = rb"(?i)\binsert\s+into\b|\bdelete\s+from\b|\bupdate\s+\w+\s+set\b"
SAVING = rb"\.(?:add|add_all|merge|delete|commit|bulk_\w+)\(|\b(?:insert|update|delete)\("


@dataclass(frozen=True, slots=True)
class Cacheable:
    """A route whose answers may be kept. ``kind`` is what it answers: it decides how long."""

    facts: PythonFacts
    route: Route
    owner: Definition
    kind: str
    costly: str

    @property
    def place(self) -> Place:
        """Where the handler is defined."""
        return Place(self.facts.path, self.route.line)

    @property
    def path(self) -> str:
        """The path as its decorator gives it, or the name of the handler."""
        return self.route.path or f"{self.route.handler.path}()"


def cacheable_routes(
    context: Context, refusal: tuple[str, str] | None = None
) -> Iterator[Cacheable | Skip]:
    """Yield the GET routes that do costly work: those that may be kept, and why others may not.

    ``refusal`` is what speaks against all routes of the service.
    """
    program = context.program
    for path in program.containing(rb"(?m)^[ \t]*@[\w.]+\.get\(", program.product, b".get("):
        facts = program.facts(path)
        for route in facts.routes if facts is not None else ():
            if facts is None or route.methods != ("GET",) or _is_marked(route):
                continue
            found = _judged(context, facts, route, refusal)
            if found is not None:
                yield found


def _judged(
    context: Context, facts: PythonFacts, route: Route, refusal: tuple[str, str] | None
) -> Cacheable | Skip | None:
    """Return what is to be said of a GET route; None where there is nothing to win."""
    program = context.program
    handler = Definition(facts.path, route.handler.path)
    owner = program.definition(facts.path, route.owner)
    if owner is None or "." in handler.name:
        return None
    place = Place(facts.path, route.line)
    if refusal is not None:
        return Skip(place, *refusal) if _looks_costly(facts, route) else None
    # What the signature shows is looked at first: to follow all calls takes much longer.
    objection = (
        _route_objection(context, route)
        or _parameters_objection(program, handler)
        or _owner_objection(program, owner)
    )
    if objection is not None:
        return Skip(place, *objection) if _looks_costly(facts, route) else None
    work = work_of(program, handler)
    objection = work.objection
    if not work.costly:
        return None
    if objection is None:
        objection = _written(program, route, owner, work.classes, work.queries)
    if objection is not None:
        return Skip(place, *objection)
    return Cacheable(facts, route, owner, _kind(route), work.costly[0])


def _looks_costly(facts: PythonFacts, route: Route) -> bool:
    """Whether the handler itself, not what it calls, asks another service, a database or a model.

    That is enough to tell why a route is left alone, and takes no time.
    """
    return any(
        call.name in CLIENTS
        or (call.name is not None and HTTP_READS.match(call.name) is not None)
        or call.text.rpartition(".")[2] in COSTLY_METHODS
        for call in facts.calls
        if call.scope == route.handler.path
    )


def _is_marked(route: Route) -> bool:
    return any(each.text.rpartition(".")[2] == MARK for each in route.handler.decorators)


def _kind(route: Route) -> str:
    words = f"{route.path or ''} {route.handler.path}".lower()
    if PREDICTION.search(words):
        return "prediction"
    return "status" if STATUS.search(words) else "other"


def _route_objection(context: Context, route: Route) -> tuple[str, str] | None:
    path = route.path or ""
    words = f"{path}/{route.handler.path}".lower()
    if len(route.handler.decorators) > 1:
        return "decorated", "another decorator stands between the route and its handler"
    if route.handler.is_generator:
        return "streams", "it answers piece by piece"
    if PROBES.search(words) or _is_probed(context, path):
        return "probe", "probes and people ask it for what is so right now"
    if "{" in path and POLLED.search(path.lower()):
        return "polled", "clients may ask it again and again until something has happened"
    if PERSONAL.search(path.lower()):
        return "personal", "its path speaks of accounts or sessions"
    unknown = [
        each.keyword
        for each in route.decorator.arguments
        if each.star
        or each.keyword in ("dependencies", "response_class", "callbacks")
        or (each.keyword == "status_code" and not _is_ok(each.value))
    ]
    if unknown:
        return "route-options", f"the route is declared with {unknown[0] or 'hidden arguments'}"
    return None


def _is_ok(status: Value) -> bool:
    return status.constant == 200 or (status.name or "").endswith(".HTTP_200_OK")


def _is_probed(context: Context, path: str) -> bool:
    """Whether a manifest or the Dockerfile asks for the path in a health check."""
    if not path or path == "/":
        return path == "/"
    paths = {each.place.path for each in context.service.deployments}
    paths |= {context.service.dockerfile} if context.service.dockerfile else set()
    pattern = re.escape(path.encode()) + rb"[\"'\s\]?]"
    contents = (context.read(each) for each in sorted(paths))
    return any(isinstance(each, bytes) and re.search(pattern, each) for each in contents)


def _parameters_objection(
    program: Program, target: Definition, depth: int = 0
) -> tuple[str, str] | None:
    """Object to whatever is neither in the path or the query, nor a session of the database."""
    facts = program.facts(target.path)
    node = function_node(program, target)
    if facts is None or node is None or depth > 4:
        return "depends-on-the-request", f"what {target.name} takes cannot be told"
    arguments = node.args
    if arguments.vararg or arguments.kwarg:
        return "depends-on-the-request", f"{target.name} takes whatever it is given"
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(plain, defaults, strict=True)]
    pairs += [*zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    for argument, default in pairs:
        dependency = _dependency(argument.annotation) or _dependency(default)
        if dependency is not None:
            objection = _dependency_objection(program, facts, argument.arg, dependency, depth)
        else:
            objection = _scalar_objection(program, facts, argument, default)
        if objection is not None:
            return objection
    return None


def _dependency(node: ast.expr | None) -> ast.Call | None:
    """Return the ``Depends(...)`` in an annotation or a default, else None."""
    for each in ast.walk(node) if node is not None else ():
        if isinstance(each, ast.Call) and ast.unparse(each.func).rpartition(".")[2] in (
            "Depends",
            "Security",
        ):
            return each
    return None


def _dependency_objection(
    program: Program, facts: PythonFacts, name: str, call: ast.Call, depth: int
) -> tuple[str, str] | None:
    text = ast.unparse(call.args[0]) if call.args else ""
    if PERSONAL.search(f"{name} {text}".lower()):
        return "personal", f"{name} depends on who asks"
    found = program.definition(facts.path, facts.resolve(text) if text else None)
    if found is None:
        return "depends-on-the-request", f"what {name} depends on cannot be told"
    objection = _parameters_objection(program, found, depth + 1)
    if objection is not None:
        return objection
    work = work_of(program, found)
    return work.objection


def _scalar_objection(
    program: Program, facts: PythonFacts, argument: ast.arg, default: ast.expr | None
) -> tuple[str, str] | None:
    made = None if _is_literal(program, facts, default) else default
    for node in (argument.annotation, made):
        for each in _types(node):
            text = ast.unparse(each)
            name = facts.resolve(text) or f"builtins.{text}"
            if name in SCALARS or _is_enum(program, facts, name):
                continue
            reason = f"{argument.arg} is more than a value of the path or the query"
            return "depends-on-the-request", reason
    return None


def _is_literal(program: Program, facts: PythonFacts, value: ast.expr | None) -> bool:
    """Whether it is a literal, or the name of one: a setting that is assigned once."""
    if value is None or isinstance(value, ast.Constant):
        return True
    if not isinstance(value, ast.Name | ast.Attribute):
        return False
    found = program.definition(facts.path, facts.resolve(ast.unparse(value)))
    home = program.facts(found.path) if found is not None else None
    assigned = home.assigned(found.name) if found is not None and home is not None else None
    return assigned is not None and assigned.kind == "constant"


def _types(node: ast.expr | None) -> Iterator[ast.expr]:
    """Yield the names of an annotation or a default, without the arguments of calls."""
    if isinstance(node, ast.Call):
        yield node.func
    elif isinstance(node, ast.Name | ast.Attribute):
        yield node
    elif isinstance(node, ast.Subscript):
        yield node.value
        if ast.unparse(node.value).rpartition(".")[2] != "Literal":
            yield from _types(node.slice)
    elif isinstance(node, ast.BinOp):
        yield from _types(node.left)
        yield from _types(node.right)
    elif isinstance(node, ast.Tuple | ast.List):
        for each in node.elts:
            yield from _types(each)
    elif (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    ):
        yield ast.Name(node.value)


def _is_enum(program: Program, facts: PythonFacts, name: str | None) -> bool:
    found = program.definition(facts.path, name)
    home = program.facts(found.path) if found is not None else None
    if found is None or home is None:
        return False
    root = found.name.partition(".")[0]  # a member may be the default
    return any(
        each.path == root and any(base.name in ENUMS for base in each.bases)
        for each in home.classes
    )


def constructor(program: Program, owner: Definition) -> Call | None:
    """Return the call that makes the application or router ``owner``, else None."""
    home = program.facts(owner.path)
    made = home.assigned(owner.name) if home is not None else None
    for call in home.called(*FASTAPI, *ROUTER) if home is not None else ():
        if call.value == made and not call.scope:
            return call
    return None


def _owner_objection(program: Program, owner: Definition) -> tuple[str, str] | None:
    call = constructor(program, owner)
    if call is None or call.unpacks:
        return "shape-not-known", f"how {owner.name} is made cannot be told"
    if call.argument("route_class") is not None and not _is_ours(call):
        return "route-class", f"{owner.name} has a route class of its own"
    makers = [(owner.path, call), *_including(program, owner)]
    for path, each in makers:
        given = each.argument("dependencies")
        if given is not None and given.arguments:
            return "personal", f"dependencies of {path}:{each.line} may depend on who asks"
    return None


def _is_ours(call: Call) -> bool:
    given = call.argument("route_class")
    return given is not None and given.text.rpartition(".")[2] == "CachedRoute"


def _including(program: Program, owner: Definition) -> Iterator[tuple[str, Call]]:
    """Yield the calls of ``include_router`` and ``FastAPI`` around a router."""
    for path in program.containing(rb"include_router|FastAPI\(", program.product):
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            if facts is not None and call.name in FASTAPI:
                yield path, call
            if call.text.rpartition(".")[2] == "include_router":
                first = call.positional[0] if call.positional else call.argument("router")
                found = program.definition(path, first.name) if first is not None else None
                if found is None or found == owner:
                    yield path, call


def _written(
    program: Program,
    route: Route,
    owner: Definition,
    classes: set[Definition],
    queries: bool,
) -> tuple[str, str] | None:
    """Object where the service itself changes what the route reads: callers would miss it."""
    own = _resource(program, owner, route)
    for path in program.containing(rb"\.(?:post|put|patch|delete)\(", program.product):
        other = program.facts(path)
        for each in other.routes if other is not None else ():
            if not WRITES.intersection(each.methods):
                continue
            home = program.definition(path, each.owner)
            if home is None or _resource(program, home, each) == own:
                reason = f"{path}:{each.line} changes what it answers, and callers would miss it"
                return "written-by-the-service", reason
    if not queries:
        return None
    raw = next(program.containing(RAW_WRITES, program.product), None)
    if raw is not None:
        return "written-by-the-service", f"{raw} writes to the database"
    names = {each.name for each in classes}
    for path in program.containing(SAVING, program.product):
        content = program.read(path) or b""
        used = next((n for n in sorted(names) if re.search(rb"\b%s\b" % n.encode(), content)), None)
        if used is not None:
            return "written-by-the-service", f"{path} writes {used}, and callers would miss it"
    return None


def _resource(program: Program, owner: Definition, route: Route) -> tuple[str, Definition | None]:
    """Return the first fixed part of a route's path, the prefix of its router included."""
    call = constructor(program, owner)
    prefix = call.argument("prefix") if call is not None else None
    start = prefix.constant if prefix is not None and isinstance(prefix.constant, str) else ""
    parts = [
        part
        for part in f"{start}{route.path or ''}".split("/")
        if part and not part.startswith("{") and not re.fullmatch(r"api|v\d+", part)
    ]
    return (parts[0], None) if parts else ("", owner)
