"""What makes a service wrong, or too heavy, when several worker processes serve it.

Each hazard is named with the place that shows it. Sources: uvicorn's and gunicorn's pages on
workers (https://www.uvicorn.org/deployment/, https://docs.gunicorn.org/en/stable/design.html) and
the changes that maintainers of thirty services took back (counts of workers, for memory).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.request_paths import runs_per_request
from mega_optimizer.codemods.serving.hazard_names import (
    CACHES,
    CONNECTIONS,
    LIMITERS,
    LOCKS,
    MAKES_TABLES,
    METRICS,
    MODEL_LOADERS,
    RANDOM,
    SCHEDULERS,
    SOCKETS,
    WORKING,
)
from mega_optimizer.codemods.serving.module_state import process_state, startup_functions
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, PythonFacts, Value

MULTIPROCESS_DIRECTORY = b"PROMETHEUS_MULTIPROC_DIR"
NATIVE = ("numpy", "scipy", "torch", "scikit-learn", "pandas", "onnxruntime", "tensorflow")
NATIVE_VARIABLE = "OMP_NUM_THREADS"
REACH = 400  # modules of one application that are looked at

# Most modules hold none of these words, and need not be understood.
WORDS = re.compile(
    rb"\bglobal\b|\.(?:append|appendleft|add|update|pop|popleft|popitem|setdefault|clear|extend|"
    rb"insert|remove|discard|put|put_nowait|cache_clear|from_pretrained)\(|\]\s*(?:[-+|*]?=[^=]|:)|"
    rb"[Ll]ock\b|Semaphore|Condition|CapacityLimiter|TTLCache|LRUCache|LFUCache|SimpleCache|"
    rb"MemoryCache|InMemoryBackend|diskcache|Limiter|Thread|Timer|Process\b|create_task|"
    rb"ensure_future|load|InferenceSession|pipeline|SentenceTransformer|YOLO|Reader|Whisper|Llama|"
    rb"Booster|CatBoost|urandom|token_|uuid4|generate_key|start_http_server|sqlite|scheduler|"
    rb"create_all|upgrade|repeat_every|rocketry|socketio|flask_sock|prometheus"
)


@dataclass(frozen=True, slots=True, order=True)
class Hazard:
    """A reason against several processes: its kind, the place that shows it, and a sentence."""

    kind: str
    place: Place
    sentence: str


def multi_worker_hazards(context: Context) -> tuple[Hazard, ...]:
    """Return what speaks against more than one worker process, the first place of each kind.

    Kinds: ``kubernetes``, ``autoscaler``, ``replicas``, ``gpu``, ``module-state``,
    ``global-state``, ``websocket-state``, ``socketio``, ``scheduler``, ``background-loop``,
    ``in-process-lock``, ``in-process-cache``, ``in-process-limiter``, ``prometheus``,
    ``model-in-memory``, ``native-threads``, ``sqlite``, ``random-secret``, ``tables-at-startup``.
    """
    found: dict[str, Hazard] = {}
    for hazard in (*_deployed(context), *_native_threads(context), *_in_code(context)):
        if hazard.kind == "model-in-memory" and context.service.trait("preload"):
            continue  # the processes share it
        found.setdefault(hazard.kind, hazard)
    return tuple(found.values())


def _deployed(context: Context) -> Iterator[Hazard]:
    for each in context.service.deployments:
        if each.kind == "kubernetes":
            sentence = "Kubernetes runs it: one process per container, and replicas to scale"
            yield Hazard("kubernetes", each.place, sentence)
            autoscaler = _autoscaler(context, each.name)
            if autoscaler is not None:
                yield Hazard("autoscaler", autoscaler, "its pods are scaled by their load")
        elif (each.replicas or 1) > 1:
            sentence = f"{each.replicas} containers of it run already"
            yield Hazard("replicas", each.place, sentence)
    gpu = context.service.trait("gpu")
    if gpu is not None:
        sentence = "it uses a GPU, whose memory every process would fill again"
        yield Hazard("gpu", gpu.place, sentence)


def _native_threads(context: Context) -> Iterator[Hazard]:
    """Yield libraries that start a thread per processor, in every process anew."""
    deployed = (each.environment for each in context.service.deployments)
    if any(NATIVE_VARIABLE in each for each in deployed) or any(
        NATIVE_VARIABLE in site.environment for site in context.launch
    ):
        return
    for name in NATIVE:
        for declared in context.dependencies.declared(name):
            sentence = f"{name} starts threads in every process unless {NATIVE_VARIABLE} is set"
            yield Hazard("native-threads", declared.place, sentence)


def _autoscaler(context: Context, name: str) -> Place | None:
    for path in context.files.paths:
        if not path.endswith((".yaml", ".yml")):
            continue
        content = context.read(path)
        if not isinstance(content, bytes) or b"HorizontalPodAutoscaler" not in content:
            continue
        target = re.search(rb"\bname:[ \t]*[\"']?" + re.escape(name.encode()) + rb"\b", content)
        if target is not None:
            return Place(path, content.count(b"\n", 0, target.start()) + 1)
    return None


def _in_code(context: Context) -> Iterator[Hazard]:
    program = context.program
    paths = reached_modules(context, program)
    interesting = tuple(program.containing(WORDS.pattern, paths))
    for state in process_state(program, interesting):
        yield _of_state(context, state.name, state.place, state.is_global)
    for path in interesting:
        facts = program.facts(path)
        if facts is not None:
            yield from _in_module(context, program, facts)


def reached_modules(context: Context, program: Program) -> tuple[str, ...]:
    """Return the modules that the application imports, all where the application is not known."""
    starts: list[str] = []
    for site in context.service.launch:
        name = (site.application or "").partition(":")[0].removesuffix(".py").replace("/", ".")
        module = program.module(name.strip("."), site.place.path) if name else None
        if site.source == "python" and module is None:
            module = site.place.path
        if module is not None and module in program.product:
            starts.append(module)
    if not starts:
        return program.product
    seen = dict.fromkeys(starts)
    waiting = list(seen)
    while waiting and len(seen) < REACH:
        path = waiting.pop()
        facts = program.facts(path)
        for each in facts.imports if facts is not None else ():
            for name in (each.target, each.target.rpartition(".")[0]):
                module = program.module(name, path) if name.strip(".") else None
                if module is not None and module not in seen and module in program.product:
                    seen[module] = None
                    waiting.append(module)
    return tuple(sorted(seen))


def _of_state(context: Context, name: str, place: Place, is_global: bool) -> Hazard:
    content = context.read(place.path)
    sockets = isinstance(content, bytes) and b"WebSocket" in content
    if sockets and not is_global and CONNECTIONS.search(name.lower()):
        sentence = f"{name} keeps connections that only their own process can reach"
        return Hazard("websocket-state", place, sentence)
    sentence = f"{name} is written while it runs: every process would have its own"
    return Hazard("global-state" if is_global else "module-state", place, sentence)


def _in_module(context: Context, program: Program, facts: PythonFacts) -> Iterator[Hazard]:
    for each in facts.imports:
        package = each.target.partition(".")[0]
        place = Place(facts.path, each.line)
        if package in SCHEDULERS:
            yield Hazard("scheduler", place, f"{package} would run its jobs in every process")
        elif package in SOCKETS:
            yield Hazard("socketio", place, f"{package} keeps its clients in one process")
        elif package in METRICS and not _counts_over_processes(context):
            sentence = (
                f"{package} counts per process unless {MULTIPROCESS_DIRECTORY.decode()} is set"
            )
            yield Hazard("prometheus", place, sentence)
        elif package == "sqlite3":
            yield Hazard("sqlite", place, "SQLite lets one process write at a time")
    starting = startup_functions(facts)
    for scope, texts in facts.loads.items():
        made = next((text for text in sorted(texts) if text.endswith(MAKES_TABLES)), None)
        if made is not None:
            sentence = f"{made} would run in all processes at once, and all but one could fail"
            yield Hazard("tables-at-startup", Place(facts.path, _line_of(facts, scope)), sentence)
    for call in facts.calls:
        hazard = _of_call(program, facts, call, starting)
        if hazard is not None:
            yield hazard
    for kept in facts.assignments:
        if not kept.scope and "secret" in kept.target.lower() and _is_random(kept.value):
            yield _random_secret(facts, kept.line)
    for store in facts.stores:
        named = f"{store.text} {store.key}".lower()
        if "secret" in named and store.value is not None and _is_random(store.value):
            yield _random_secret(facts, store.line)


def _line_of(facts: PythonFacts, scope: str) -> int:
    function = facts.function(scope)
    return function.line if function is not None else 1


def _of_call(
    program: Program, facts: PythonFacts, call: Call, starting: frozenset[str]
) -> Hazard | None:
    place = Place(facts.path, call.line)
    name = call.name or ""
    at_start = not call.scope or call.scope in starting
    if name in LOCKS and not call.scope:
        return Hazard("in-process-lock", place, f"{call.text} holds within one process only")
    if name in CACHES and at_start:
        return Hazard("in-process-cache", place, f"{call.text} would be filled in every process")
    if call.text.endswith(".cache_clear") and call.scope:
        return Hazard("in-process-cache", place, f"{call.text} clears one process's cache only")
    if name in LIMITERS and not _has_storage(call):
        return Hazard("in-process-limiter", place, f"{call.text} counts within one process")
    if name in WORKING and at_start:
        return Hazard("background-loop", place, f"{call.text} would run in every process")
    if name == "prometheus_client.start_http_server":
        return Hazard("prometheus", place, "only one process can listen on the port of its metrics")
    if _loads_model(call) and (at_start or not _per_request(program, facts, call)):
        return Hazard("model-in-memory", place, f"{call.text} would be held by every process")
    if name.endswith(("create_engine", "create_async_engine")) and _names_sqlite(call.value):
        return Hazard("sqlite", place, "SQLite lets one process write at a time")
    return None


def _per_request(program: Program, facts: PythonFacts, call: Call) -> bool:
    """Whether a model is loaded anew for each request, and so is no lasting copy."""
    return runs_per_request(program, Definition(facts.path, call.scope), unknown=True)


def _loads_model(call: Call) -> bool:
    return call.name in MODEL_LOADERS or call.text.endswith(".from_pretrained")


def _has_storage(call: Call) -> bool:
    return call.unpacks or call.argument("storage_uri") is not None


def _names_sqlite(value: Value) -> bool:
    if isinstance(value.constant, str) and value.constant.startswith("sqlite"):
        return True
    return any(_names_sqlite(each.value) for each in value.arguments)


def _is_random(value: Value) -> bool:
    if value.kind == "call" and value.name in RANDOM:
        return True
    return any(_is_random(each.value) for each in value.arguments)


def _random_secret(facts: PythonFacts, line: int) -> Hazard:
    sentence = "every process would make up its own secret and refuse what the others signed"
    return Hazard("random-secret", Place(facts.path, line), sentence)


def _counts_over_processes(context: Context) -> bool:
    started = [context.read(context.service.dockerfile)] if context.service.dockerfile else []
    started += [context.read(path) for path in context.modules(MULTIPROCESS_DIRECTORY)]
    deployed = (each.environment for each in context.service.deployments)
    return any(
        isinstance(content, bytes) and MULTIPROCESS_DIRECTORY in content for content in started
    ) or any(MULTIPROCESS_DIRECTORY.decode() in environment for environment in deployed)


def in_one_sentence(hazards: Sequence[Hazard]) -> str:
    """Return what ``hazards`` say, each with its place, as one reason."""
    return "; ".join(f"{each.sentence} ({each.place})" for each in hazards)
