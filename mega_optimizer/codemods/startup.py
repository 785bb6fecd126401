"""Which application of a service serves, and how it starts and stops.

FastAPI and Starlette run one *lifespan* around serving, or, where none is given, the handlers of
``startup`` and ``shutdown`` events; an application with a lifespan ignores such handlers
(https://fastapi.tiangolo.com/advanced/events/). Applications that are mounted into another one
never see either (https://fastapi.tiangolo.com/advanced/events/#sub-applications).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mega_optimizer.codemods.applications import FASTAPI, assigned_name
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.module_paths import reaches
from mega_optimizer.codemods.program import Definition
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, Function, PythonFacts, Value

APPLICATIONS = (*FASTAPI, "starlette.applications.Starlette")
EVENTS = frozenset({"startup", "shutdown"})
EVENT_LITERALS = (b"on_event", b"on_startup", b"on_shutdown", b"add_event_handler")
EVENT_CALLS = frozenset({"on_event", "add_event_handler"})
EVENT_LISTS = ("on_startup", "on_shutdown")
LIFESPAN_OFF = rb"\blifespan\s*=\s*[\"']off[\"']"
BARE_CLIENT = (
    rb"(?m)^(?!.*\bwith\b.*TestClient\()(?!\s*#).*\bTestClient\("
    rb"|\bASGITransport\(|\bAsyncClient\(\s*app="
)

Style = Literal["none", "lifespan", "events"]


@dataclass(frozen=True, slots=True)
class Startup:
    """How the application that ``call`` in the module at ``path`` makes starts and stops.

    ``style`` is ``lifespan`` where it has one (``function`` is the function, maybe of another
    module), ``events`` where the service registers handlers of events, else ``none``.
    """

    path: str
    call: Call
    style: Style
    function: Definition | None = None

    @property
    def place(self) -> Place:
        """Where the application is made."""
        return Place(self.path, self.call.line, self.call.column)


def startup_of(context: Context, user: str) -> Startup | Skip:
    """Return how the application that serves the code of the module at ``user`` starts.

    Skip codes: ``no-application``, ``several-applications``, ``lifespan-off``,
    ``arguments-hidden`` (``FastAPI(**kwargs)``), ``lifespan-elsewhere`` (not one function of this
    service).
    """
    program = context.program
    found = _serving(context, user)
    if isinstance(found, Skip):
        return found
    path, call = found
    place = Place(path, call.line, call.column)
    if _is_off(context):
        return Skip(place, "lifespan-off", "the service is started with its lifespan off")
    replaced = next(
        program.containing(rb"\.lifespan_context\s*=", program.product, b"lifespan_context"), None
    )
    if replaced is not None:
        return Skip(Place(replaced), "lifespan-elsewhere", f"{replaced} puts a lifespan in place")
    given = call.argument("lifespan")
    if given is None and (call.unpacks or len(call.positional) > 1):
        return Skip(place, "arguments-hidden", "its arguments may hold a lifespan")
    if given is None:
        return Startup(path, call, "events" if _has_events(program, path) else "none")
    function = _lifespan_function(program, path, given, call.scope)
    if function is None:
        reason = f"lifespan={given.text or '…'} is not a function of this service that can be read"
        return Skip(place, "lifespan-elsewhere", reason)
    return Startup(path, call, "lifespan", function)


def bare_test_client(program: Program) -> str | None:
    """Return a test module that calls the application without running its lifespan, else None.

    ``TestClient(app)`` runs it only in a ``with`` statement, httpx's ``ASGITransport`` never.
    """
    return next(program.containing(BARE_CLIENT, program.tests, b"Client", b"ASGITransport"), None)


def _serving(context: Context, user: str) -> tuple[str, Call] | Skip:
    """Return the application that is not mounted into another, and serves the module ``user``."""
    program = context.program
    made = list(_applications(program))
    if not made:
        return Skip(Place(user), "no-application", "no FastAPI or Starlette application was found")
    mounted = set(_mounted(program))
    roots = [
        (facts.path, call)
        for facts, call in made
        if mounted.isdisjoint(_names_of(program, facts, call))
    ]
    # a library that offers to be mounted elsewhere mounts what else serves by itself
    roots = roots or [(facts.path, call) for facts, call in made]
    if len(roots) > 1:
        own = [root for root in roots if root[0] == user]
        near = own or [root for root in roots if reaches(program, root[0], user)]
        roots = near or roots
    if len(roots) > 1:
        launched = [root for root in roots if _is_launched(context, *root)]
        roots = launched or roots
    if len(roots) > 1:
        path, call = roots[0]
        reason = "which of several applications serves this code cannot be told"
        return Skip(Place(path, call.line, call.column), "several-applications", reason)
    return roots[0]


def _applications(program: Program) -> Iterator[tuple[PythonFacts, Call]]:
    for path in program.containing(
        rb"\b(FastAPI|Starlette)\(", program.product, b"FastAPI", b"Starlette"
    ):
        facts = program.facts(path)
        for call in facts.called(*APPLICATIONS) if facts is not None else ():
            if facts is not None:
                yield facts, call


def _names_of(program: Program, facts: PythonFacts, call: Call) -> set[Definition]:
    """Return the variable that holds the application, and the function that makes it."""
    names = set()
    name = assigned_name(facts, call)
    if name is not None:
        names.add(Definition(facts.path, name.removeprefix(":")))
    if call.scope:
        names.add(Definition(facts.path, call.scope))
    for each in facts.assignments:
        made = each.value.kind == "call" and not each.scope and call.scope
        if made and program.definition(facts.path, each.value.name) == Definition(
            facts.path, call.scope
        ):
            names.add(Definition(facts.path, each.target))
    return names


def _mounted(program: Program) -> Iterator[Definition]:
    """Yield the variables and factories whose applications are mounted into others."""
    for path in program.containing(rb"\b[mM]ount\(", program.product, b"mount", b"Mount"):
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            if call.text.rpartition(".")[2] not in ("mount", "Mount"):
                continue
            for each in call.arguments:
                found = program.definition(path, each.value.name)
                if found is not None:
                    yield found


def _is_launched(context: Context, path: str, call: Call) -> bool:
    facts = context.program.facts(path)
    if facts is None:
        return False
    names = _names_of(context.program, facts, call)
    for site in context.service.launch:
        module, colon, attribute = (site.application or "").partition(":")
        found = context.program.module(module, path) if module else None
        if found is None:
            continue
        name = attribute.removesuffix("()")
        if not colon and found == path:
            return True
        resolved = context.program.facts(found)
        target = context.program.definition(found, resolved.resolve(name) if resolved else None)
        if target is not None and target in names:
            return True
    return False


def _is_off(context: Context) -> bool:
    if any(site.option("--lifespan") == "off" for site in context.service.launch):
        return True
    program = context.program
    return next(program.containing(LIFESPAN_OFF, program.product, b"lifespan"), None) is not None


def _has_events(program: Program, application: str) -> bool:
    """Whether handlers of start-up or shutdown are registered, on the application or a router."""
    pattern = rb"\bon_(?:event|startup|shutdown)\b|\badd_event_handler\b"
    for path in program.containing(pattern, program.product, *EVENT_LITERALS):
        facts = program.facts(path)
        if not reaches(program, application, path) and not reaches(program, path, application):
            continue
        for call in facts.calls if facts is not None else ():
            first = call.positional[0].constant if call.positional else None
            if call.text.rpartition(".")[2] in EVENT_CALLS and first in EVENTS:
                return True
            if any(call.argument(name) is not None for name in EVENT_LISTS):
                return True
    return False


def _lifespan_function(program: Program, path: str, given: Value, scope: str) -> Definition | None:
    """Return the function that ``lifespan=given`` means, in ``scope`` of the module at ``path``."""
    facts = program.facts(path)
    if facts is None:
        return None
    if given.kind == "call":
        return _made_by(program, path, given)
    if given.text.startswith("self."):
        owner = scope.rpartition(".")[0]
        return _as_function(
            program, Definition(path, f"{owner}.{given.text.removeprefix('self.')}")
        )
    found = program.definition(path, given.name)
    if found is None:
        return None
    home = program.facts(found.path)
    inner, _, last = found.name.rpartition(".")
    value = home.assigned(last, inner) if home is not None else None
    if value is not None and value.kind == "call":
        return _made_by(program, found.path, value)
    return _as_function(program, found)


def _made_by(program: Program, path: str, value: Value) -> Definition | None:
    """Return the function that a factory of lifespans defines and returns."""
    found = program.definition(path, value.name)
    factory = _function(program, found)
    if found is None or factory is None or len(factory.returns) != 1:
        return None
    returned = factory.returns[0]
    if returned is None or returned.name != f":{found.name}.{returned.text}":
        return None
    return _as_function(program, Definition(found.path, f"{found.name}.{returned.text}"))


def _function(program: Program, found: Definition | None) -> Function | None:
    facts = program.facts(found.path) if found is not None else None
    return facts.function(found.name) if facts is not None and found is not None else None


def _as_function(program: Program, found: Definition) -> Definition | None:
    function = _function(program, found)
    if function is None or not function.is_async or not function.is_generator:
        return None
    return found
