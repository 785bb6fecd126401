"""What a module of Flask needs beside its own code when FastAPI serves it: imports, functions.

``flask.jsonify`` sorts keys, escapes what is not ASCII, ends with a line feed and knows more types
than ``json`` (``flask/json/provider.py``); ``get_json`` answers 415 and 400
(``werkzeug/wrappers/request.py``); ``args.get`` takes the first value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.serving.flask_routes import body_options, query_arguments

if TYPE_CHECKING:
    from mega_optimizer.codemods.serving.flask_module import FlaskModule
    from mega_optimizer.codemods.serving.flask_routes import Handler

RESPONSE = "SortedJSONResponse"
READ, PARSE, QUERY = "read_body", "parse_json", "query_value"
RESPONSE_CLASS = '''\
class SortedJSONResponse(JSONResponse):
    """JSON as this service always wrote it: sorted keys, ASCII, a final newline."""

    def render(self, content: Any) -> bytes:
        text = json.dumps({options})
        return f"{{text}}\\n".encode()
'''
OPTIONS = 'content, sort_keys=True, separators=(",", ":")'
SPECIAL_OPTIONS = """
            content, default=encode_special, sort_keys=True, separators=(",", ":")
        """
ENCODE_SPECIAL = '''\
def encode_special(value: Any) -> Any:
    """Write what JSON has no type for as this service always did."""
    if isinstance(value, date):
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        if value.tzinfo is None:
            value = value.replace(tzinfo=timezone.utc)
        return format_datetime(value.astimezone(timezone.utc), usegmt=True)
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if is_dataclass(value):
        return asdict(value)
    if hasattr(value, "__html__"):
        return str(value.__html__())
    raise TypeError(f"{type(value).__name__} is not serializable as JSON")
'''
SPECIAL = (
    ("dataclasses", "asdict"),
    ("dataclasses", "is_dataclass"),
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "timezone"),
    ("decimal", "Decimal"),
    ("email.utils", "format_datetime"),
    ("uuid", "UUID"),
)
READ_BODY = '''\
async def read_body(request: Request) -> bytes:
    """Read the body here: a handler that is a plain function cannot."""
    return await request.body()
'''
PARSE_JSON = '''\
def parse_json({parameters}) -> Any:
    """Parse the body: 415 if it is not declared as JSON, 400 if it is not JSON."""
{check}    try:
        return json.loads(body)
    except ValueError as error:
{fallback}        raise HTTPException(400) from error
'''
CHECK = """\
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if {condition}not re.fullmatch(r"application/(json|.*\\+json)", media_type):
{silent}        raise HTTPException(415)
"""
QUERY_VALUE = '''\
def query_value(request: Request, name: str, default: Any = None) -> Any:
    """Return the first value of a query parameter, or ``default``."""
    values = request.query_params.getlist(name)
    return values[0] if values else default
'''
QUERY_CONVERTED = '''\
def query_value(
    request: Request, name: str, default: Any = None, convert: Callable[[str], Any] = str
) -> Any:
    """Return the first value of a query parameter, ``default`` if none converts."""
    values = request.query_params.getlist(name)
    try:
        return convert(values[0])
    except (IndexError, ValueError):
        return default
'''


def generated_names(module: FlaskModule) -> set[str]:
    """Return the names that the converted module binds anew; those of added imports are checked."""
    return {*from_fastapi(module), *from_responses(module), *definitions(module)}


def _has_json_answers(module: FlaskModule) -> bool:
    return any(each.kind == "json" for handler in module.handlers for each in handler.answers)


def _reads_bodies(module: FlaskModule) -> bool:
    return any(handler.bodies for handler in module.handlers)


def checks_type(module: FlaskModule) -> bool:
    """Whether some handler counts on the type that a body is declared as."""
    bodies = [each for handler in module.handlers for each in handler.bodies]
    return any("force" not in body_options(each) for each in bodies)


def _converts(module: FlaskModule) -> bool:
    queries = [each for handler in module.handlers for each in handler.queries]
    return any("type" in query_arguments(each) for each in queries)


def _queries(module: FlaskModule) -> bool:
    return any(handler.queries for handler in module.handlers)


def from_fastapi(module: FlaskModule) -> list[str]:
    """Return the names to import from ``fastapi``."""
    names = {"FastAPI"}
    if _reads_bodies(module):
        names |= {"Depends", "HTTPException", "Request"}
    if _queries(module):
        names.add("Request")
    if module.aborts:
        names.add("HTTPException")
    return sorted(names)


def from_responses(module: FlaskModule) -> list[str]:
    """Return the names to import from ``fastapi.responses``."""
    kinds = {each.kind for handler in module.handlers for each in handler.answers}
    names = {"json": "JSONResponse", "html": "HTMLResponse"}
    wanted = {names[kind] for kind in kinds}
    if any(answer_annotation(handler) == "Response" for handler in module.handlers):
        wanted.add("Response")
    return sorted(wanted)


def standard_imports(module: FlaskModule) -> list[tuple[str, str]]:
    """Return (module, name) of the imports to add; no module for ``import name``."""
    wanted: list[tuple[str, str]] = []
    if _has_json_answers(module) or _reads_bodies(module):
        wanted.append(("", "json"))
    if checks_type(module):
        wanted.append(("", "re"))
    if _converts(module):
        wanted.append(("typing", "Callable"))
    if _has_json_answers(module) or _reads_bodies(module) or _queries(module):
        wanted.append(("typing", "Any"))
    if _has_json_answers(module) and module.has_special_values:
        wanted += SPECIAL
    if module.run is not None:
        wanted.append(("", "uvicorn"))
    return wanted


def definitions(module: FlaskModule) -> dict[str, str]:
    """Return the functions and classes that the converted module needs."""
    found: dict[str, str] = {}
    if _has_json_answers(module):
        special = module.has_special_values
        if special:
            found["encode_special"] = ENCODE_SPECIAL
        found[RESPONSE] = RESPONSE_CLASS.format(options=SPECIAL_OPTIONS if special else OPTIONS)
    if _reads_bodies(module):
        found[READ], found[PARSE] = READ_BODY, _parse_json(module)
    if _queries(module):
        found[QUERY] = QUERY_CONVERTED if _converts(module) else QUERY_VALUE
    return found


def _parse_json(module: FlaskModule) -> str:
    """Return the function that parses bodies, with the options that the handlers use."""
    options = [set(body_options(body)) for handler in module.handlers for body in handler.bodies]
    used = [name for name in ("force", "silent") if any(name in each for each in options)]
    used = used if checks_type(module) else [name for name in used if name != "force"]
    parameters = ["request: Request", "body: bytes"]
    parameters += ["*", *(f"{name}: bool = False" for name in used)] if used else []
    joined = ", ".join(parameters)
    silent = "        if silent:\n            return None\n" if "silent" in used else ""
    condition = "not force and " if "force" in used else ""
    check = CHECK.format(condition=condition, silent=silent) if checks_type(module) else ""
    text = PARSE_JSON.format(
        parameters=f"\n    {joined}\n" if used else joined, check=check, fallback=silent
    )
    said = "415 if it is not declared as JSON, 400 if it is not JSON"
    if silent:
        text = text.replace(said, "415 or 400 if it is not JSON, None instead if silent")
    elif not check:
        text = text.replace(said, "400 if it is not JSON")
    return text


def answer_annotation(handler: Handler) -> str | None:
    """Return the annotation of what a handler returns, None where it has none."""
    if handler.function.returns is None:
        return None
    kinds = {each.kind for each in handler.answers}
    if len(kinds) > 1:
        return "Response"
    return RESPONSE if kinds == {"json"} else "HTMLResponse"
