"""What a background task does, with all that it uses: can another process do it, and how often?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.blocking import CONNECTING, MODELS, WAITING
from mega_optimizer.codemods.cache.harmless import (
    COLLECTIONS,
    PREDICTIONS,
)
from mega_optimizer.codemods.cache.settings_class import settings_class
from mega_optimizer.codemods.program import Definition
from mega_optimizer.codemods.serving.module_state import MUTATING
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Call, Function, PythonFacts, Value

LIMIT = 120  # functions behind one task
# Objects of modules of which each process may have one of its own.
OWN_OF_EACH_PROCESS = re.compile(
    r"logging\.getLogger$|structlog\.|loguru\.|re\.compile$|pathlib\.(?:Pure)?Path|os\.|"
    r"sqlalchemy\.(?!.*Async)(?!.*async_)|sqlmodel\.(?:create_engine|Session)|redis\.(?!asyncio)|"
    r"httpx\.(?:Client|Timeout|Limits|URL)$|requests\.[Ss]ession$|jinja2\.|typing\.|datetime\.|"
    r"collections\.namedtuple$|decimal\.|uuid\.UUID$|builtins\.(?:str|int|float|bool|bytes|"
    r"frozenset|tuple)\b|passlib\.|fastapi_mail\.|openai\.OpenAI$|anthropic\.Anthropic$|twilio\.|sendgrid\.|string\.Template$|boto3\.|botocore\.|urllib\.parse\."
)
OF_NO_LOOP = ("logging.", "structlog.", "re.", "os.", "pathlib.", "fastapi_mail.", "jinja2.")
# Packages of work that is worth a process of its own.
HEAVY = MODELS | {
    "smtplib", "aiosmtplib", "fastapi_mail", "sendgrid", "resend", "twilio", "openai", "anthropic",
    "boto3", "subprocess", "ftplib", "paramiko", "weasyprint", "reportlab", "moviepy", "ffmpeg",
    "playwright", "selenium", "pandas", "polars", "PIL", "openpyxl", "docx", "pypdf", "fitz",
    "httpx", "requests", "aiohttp", "emails", "imaplib",
}  # fmt: skip
HEAVY_METHODS = PREDICTIONS | {
    "fit", "fit_transform", "generate", "generate_content", "send_message", "sendmail",
    "generate_image", "transcribe", "invoke", "ainvoke",
}  # fmt: skip
SLEEPS = frozenset({"time.sleep", "asyncio.sleep"})
LIGHT = frozenset({"redis.Redis", "redis.StrictRedis", "redis.from_url", "redis.Redis.from_url"})
FILE_METHODS = frozenset(
    {
        "write_text", "write_bytes", "to_csv", "to_parquet", "to_excel", "to_pickle", "savefig",
        "save", "dump", "mkdir", "makedirs", "unlink", "rename", "rmtree", "copyfile", "copytree",
        "touch", "save_pretrained", "savetxt", "imwrite", "extractall", "save_model",
    }
)  # fmt: skip
FILE_CALLS = re.compile(
    r"(?:shutil|aiofiles)\.|os\.(?:remove|replace|unlink|rename|makedirs|mkdir)$"
)
AT_IMPORT = frozenset(
    {
        "Thread", "Timer", "Process", "BackgroundScheduler", "AsyncIOScheduler", "start",
        "start_http_server", "create_all", "repeat_every",
    }
)  # fmt: skip
IMPORTED = 200  # modules looked at for what they start


@dataclass(frozen=True, slots=True)
class Work:
    """The functions behind a task, the first is its own, and the variables that they read."""

    functions: tuple[Definition, ...]
    variables: tuple[Definition, ...]
    is_whole: bool


def work_behind(program: Program, start: Definition) -> Work:
    """Return what a function uses, through the service's own functions and classes."""
    functions, variables = [start], dict[Definition, None]()
    for current in functions:
        if len(functions) > LIMIT:
            return Work(tuple(functions), tuple(variables), is_whole=False)
        for used in _used(program, current):
            home = program.facts(used.path)
            if home is None or not used.name:
                continue
            root = used.name.partition(".")[0]
            own = [
                each.path
                for each in home.functions
                if each.path == used.name or each.path.startswith(f"{root}.")
            ]
            defined = {each.path for each in home.functions} | {c.path for c in home.classes}
            if root in defined:
                functions += [
                    found for each in own if (found := Definition(used.path, each)) not in functions
                ]
            else:
                variables[Definition(used.path, root)] = None
    return Work(tuple(functions), tuple(variables), is_whole=True)


def _used(program: Program, function: Definition) -> Iterator[Definition]:
    facts = program.facts(function.path)
    if facts is None:
        return
    own = facts.function(function.name)
    texts = set(_loads(facts, function.name))
    for each in own.parameters if own is not None else ():
        if each.annotation is not None:
            texts.add(each.annotation.text)
    for text in sorted(texts):
        root, dot, rest = text.partition(".")
        local = next(
            (i for i in facts.imports if i.scope == function.name and i.bound == root), None
        )
        name = f"{local.target}{dot}{rest}" if local is not None else facts.resolve(text)
        found = program.definition(function.path, name)
        if found is not None:
            yield found


def _loads(facts: PythonFacts, name: str) -> Iterator[str]:
    for scope, texts in facts.loads.items():
        if scope == name or scope.startswith(f"{name}."):
            yield from texts


def calls_in(program: Program, work: Work) -> Iterator[tuple[PythonFacts, Call]]:
    """Yield the calls of all functions behind a task."""
    for function in work.functions:
        facts = program.facts(function.path)
        for call in program.calls(function.path, function.name.partition(".")[0]):
            within = call.scope == function.name or call.scope.startswith(f"{function.name}.")
            if facts is not None and within:
                yield facts, call


def work_objection(context: Context, start: Definition, work: Work) -> tuple[str, str] | None:
    """Return (skip code, reason) where a worker could not do the work as this process does it.

    Codes: ``too-far``, ``process-memory``, ``local-files``, ``local-database``,
    ``starts-at-import``, ``work-not-long``.
    """
    program = context.program
    if not work.is_whole:
        return "too-far", f"{start.name} uses more of the service than can be followed"
    for function in work.functions:
        facts = program.facts(function.path)
        own = facts.function(function.name) if facts is not None else None
        if own is not None and own.global_names:
            return "process-memory", f"{function.name} assigns the global {min(own.global_names)}"
    is_async = (own := _function(program, start)) is not None and own.is_async
    for variable in work.variables:
        if not _each_process_may_have(program, variable, is_async):
            reason = f"{variable.name} of {variable.path} lives in the process that serves"
            return "process-memory", reason
    for facts, call in calls_in(program, work):
        if _touches_files(program, facts, call):
            return "local-files", f"{facts.path}:{call.line} uses files, and a worker has its own"
    if next(program.containing(rb"sqlite", program.product, b"sqlite"), None) is not None:
        return "local-database", "its database may be a file, and a worker has files of its own"
    started = _started_at_import(program, start)
    if started is not None:
        return "starts-at-import", f"{started} starts something when it is imported"
    if not any(_is_heavy(facts, call) for facts, call in calls_in(program, work)):
        return "work-not-long", f"nothing shows that {start.name} takes long"
    return None


def _function(program: Program, found: Definition) -> Function | None:
    facts = program.facts(found.path)
    return facts.function(found.name) if facts is not None else None


def _each_process_may_have(program: Program, variable: Definition, is_async: bool) -> bool:
    """Whether a variable of a module may be another object in each process."""
    home = program.facts(variable.path)
    value = home.assigned(variable.name) if home is not None else None
    if home is None or value is None:
        return False
    if value.kind in ("collection", "other") or value.name in COLLECTIONS:
        return not _is_changed(program, variable)
    if value.kind != "call":
        return True
    if is_async and not (value.name or "").startswith(OF_NO_LOOP):
        call = _call_of(home, value)
        return call is not None and settings_class(program, home, call) is not None
    if OWN_OF_EACH_PROCESS.match(value.name or ""):
        return True
    call = _call_of(home, value)
    if call is not None and settings_class(program, home, call) is not None:
        return True
    maker = program.definition(variable.path, value.name)
    made = _function(program, maker) if maker is not None else None
    return made is not None and "settings" in (maker.name.lower() if maker is not None else "")


def _call_of(facts: PythonFacts, value: Value) -> Call | None:
    return next((each for each in facts.calls if each.value == value and not each.scope), None)


def _is_changed(program: Program, variable: Definition) -> bool:
    for path in program.with_word(variable.name):
        facts = program.facts(path)
        if facts is None:
            continue
        written = [each.name for each in facts.stores if each.scope]
        written += [
            call.name.rpartition(".")[0]
            for call in facts.calls
            if call.scope and call.name and call.name.rpartition(".")[2] in MUTATING
        ]
        if any(name and program.definition(path, name) == variable for name in written):
            return True
    return False


def _touches_files(program: Program, facts: PythonFacts, call: Call) -> bool:
    if call.text == "open" or call.name == "io.open" or call.text.endswith(".open"):
        mode = call.positional[1] if len(call.positional) > 1 else call.argument("mode")
        reads = mode is None or (isinstance(mode.constant, str) and mode.constant.startswith("r"))
        known = bool(call.positional) and call.positional[0].kind in ("constant",)
        return not (reads and known and call.text == "open")
    if call.name is not None and FILE_CALLS.match(call.name):
        return True
    own = program.definition(facts.path, call.name)
    return own is None and call.text.rpartition(".")[2] in FILE_METHODS


def _is_heavy(facts: PythonFacts, call: Call) -> bool:
    name = call.name or ""
    if name in LIGHT:
        return False
    if name in SLEEPS or name in WAITING or (name in CONNECTING and name in HEAVY_CONNECTS):
        return True
    if name.partition(".")[0] in HEAVY:
        return True
    return call.text.rpartition(".")[2] in HEAVY_METHODS and "." in call.text


HEAVY_CONNECTS = frozenset({"smtplib.SMTP", "smtplib.SMTP_SSL", "ftplib.FTP", "boto3.client"})


def _started_at_import(program: Program, start: Definition) -> Place | None:
    """Return where a module that a worker imports would start threads or change a database."""
    seen = [start.path]
    for path in seen:
        if len(seen) > IMPORTED:
            break
        for each in program.imported(path):
            if each.when != "ever" and each.path not in seen:
                seen.append(each.path)
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            if not call.scope and call.text.rpartition(".")[2] in AT_IMPORT:
                return Place(path, call.line)
    return None
