"""What makes a thread wait, and what may not be done by several threads at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.call_graph import calls_of, function_of
from mega_optimizer.repository.python import is_test

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mega_optimizer.codemods.program import Definition, Program
    from mega_optimizer.repository.python import Call, PythonFacts

VERBS = ("get", "post", "put", "patch", "delete", "head", "options", "request")
# Functions that wait and return: a thread can do them in the place of the event loop.
WAITING = frozenset(
    {
        *(f"requests.{verb}" for verb in VERBS), *(f"requests.api.{verb}" for verb in VERBS),
        *(f"httpx.{verb}" for verb in VERBS), "urllib.request.urlopen",
        "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output",
        "os.system",
    }
)  # fmt: skip
# What else shows that a function waits for a disk, a process or the network.
CONNECTING = frozenset(
    {
        "time.sleep", "psycopg2.connect", "psycopg.connect", "pymysql.connect", "MySQLdb.connect",
        "mysql.connector.connect", "pyodbc.connect", "oracledb.connect", "redis.Redis",
        "redis.StrictRedis", "redis.from_url", "redis.Redis.from_url", "smtplib.SMTP",
        "smtplib.SMTP_SSL", "ftplib.FTP", "pymongo.MongoClient", "boto3.client", "boto3.resource",
        "socket.create_connection", "httpx.Client", "requests.Session",
        "elasticsearch.Elasticsearch",
    }
)  # fmt: skip
SESSIONS = frozenset(
    {
        "sqlalchemy.orm.Session", "sqlmodel.Session", "sqlalchemy.orm.session.Session",
        "sqlalchemy.engine.Connection", "sqlalchemy.Connection",
    }
)  # fmt: skip
SESSION_METHODS = frozenset(
    {"query", "execute", "scalar", "scalars", "get", "commit", "flush", "refresh", "exec"}
)
# Objects of these packages are shared between requests, and not made for several threads.
MODELS = frozenset(
    {
        "torch", "diffusers", "transformers", "sentence_transformers", "tensorflow", "keras", "jax",
        "onnxruntime", "vllm", "ctranslate2", "llama_cpp", "whisper", "cv2", "spacy", "sklearn",
        "xgboost", "lightgbm", "catboost", "joblib", "ultralytics", "face_recognition", "paddle",
    }
)  # fmt: skip
CHANGING = frozenset(
    {
        "append", "appendleft", "add", "update", "pop", "popitem", "popleft", "setdefault",
        "remove", "discard", "clear", "insert", "extend", "inc", "sort",
    }
)  # fmt: skip


_PACKAGES = sorted({name.partition(".")[0] for name in (*WAITING, *CONNECTING)})
_CALLS = sorted(re.escape(name) for name in (*WAITING, *CONNECTING))
# Each call that `blocks` knows stands in a file that matches.
FORMS = "|".join(
    (
        rf"(?<![\w.])(?:{'|'.join(_CALLS)})\s*\(",
        rf"^[ \t]*from (?:{'|'.join(_PACKAGES)})[\w.]* import",
        r":\s*(?:\w+\.)?Session\b|\bSession\s*\(",
    )
).encode()
# One of these stands in each such file: to look for them takes a tenth of the time.
FORM_WORDS = (
    *(name.encode() for name in sorted((*WAITING, *CONNECTING))),
    *(f"from {package}".encode() for package in _PACKAGES),
)


def may_block(program: Program) -> frozenset[str]:
    """Return the modules of the service that may hold calls that make a thread wait."""
    sessions = program.with_word("Session")
    named = program.containing(b"(?m)" + FORMS, program.product, *FORM_WORDS)
    return frozenset((*named, *program.containing(b"(?m)" + FORMS, tuple(sessions))))


def blocks(program: Program, found: Definition) -> Call | None:
    """Return the first call in a function that makes its thread wait."""
    facts = program.facts(found.path)
    function = function_of(program, found)
    sessions = {
        each.name
        for each in (function.parameters if function is not None else ())
        if each.annotation is not None and each.annotation.name in SESSIONS
    }
    for call in calls_of(program, found):
        receiver, _, method = call.text.rpartition(".")
        if call.name in WAITING or call.name in CONNECTING:
            return call
        if receiver in sessions and method in SESSION_METHODS:
            return call
        if facts is not None and facts.assigned(receiver, call.scope) is not None:
            made = facts.assigned(receiver, call.scope)
            if made is not None and made.name in SESSIONS and method in SESSION_METHODS:
                return call
    return None


def thread_hazard(program: Program, functions: Iterable[Definition]) -> tuple[str, str] | None:
    """Return (skip code, reason) where functions may not run in several threads at once.

    Codes: ``shared-state``, ``shared-connection``, ``model-not-thread-safe``, ``sqlite``.
    """
    for found in functions:
        facts = program.facts(found.path)
        function = function_of(program, found)
        if facts is None or function is None or is_test(found.path):
            continue
        if function.global_names:
            name = min(function.global_names)
            return "shared-state", f"{found.name} assigns the global {name}"
        for store in facts.stores:
            if not _within(store.scope, found.name):
                continue
            own = store.text.startswith(("self.", "cls."))
            if own and found.name.rpartition(".")[2] not in ("__init__", "__post_init__"):
                return "shared-state", f"{found.name} writes to {store.text}"
            if not own and _is_module_level(program, facts, store.name):
                return "shared-state", f"{found.name} writes to {store.text}"
        for call in calls_of(program, found):
            receiver, _, method = call.text.rpartition(".")
            owner = call.name.rpartition(".")[0] if call.name else None
            if method in CHANGING and _is_module_level(program, facts, owner):
                return "shared-state", f"{found.name} calls {call.text}"
            if receiver.startswith("self.") and method in CHANGING:
                return "shared-state", f"{found.name} calls {call.text}"
            if call.name == "sqlite3.connect":
                return "sqlite", f"{found.name} opens SQLite, whose connections belong to a thread"
        imported = {each.target.partition(".")[0] for each in facts.imports}
        models = sorted(imported & MODELS)
        if models:
            return "model-not-thread-safe", f"{found.path} uses {models[0]}"
        shared = _shared_connection(program, facts, found)
        if shared is not None:
            return "shared-connection", f"{found.name} uses {shared}, which all requests share"
    return None


def _within(scope: str, name: str) -> bool:
    return scope == name or scope.startswith(f"{name}.")


def _is_module_level(program: Program, facts: PythonFacts, name: str | None) -> bool:
    """Whether ``name`` is a variable of a module of the service, or an attribute of one."""
    found = program.definition(facts.path, name)
    home = program.facts(found.path) if found is not None else None
    if found is None or home is None or not found.name:
        return False
    root = found.name.partition(".")[0]
    return any(each.target == root and not each.scope for each in home.assignments)


def _shared_connection(program: Program, facts: PythonFacts, found: Definition) -> str | None:
    """Return a connection or session of a module that the function uses."""
    for text in facts.loads.get(found.name, ()):
        root = text.partition(".")[0]
        target = program.definition(facts.path, facts.resolve(root))
        home = program.facts(target.path) if target is not None else None
        value = home.assigned(target.name) if home is not None and target is not None else None
        if value is None or value.kind != "call":
            continue
        made = value.name or value.text
        if re.search(r"(?i)(?:^|\.)(?:connect|session|scoped_session|cursor)$", made) or (
            value.text.startswith(".") and value.text[1:] == "cursor"
        ):
            return root
    return None
