"""Calls by name: those that cost, those that change nothing, those that answer otherwise."""

from __future__ import annotations

import re

CLIENTS = frozenset(
    {
        "httpx.AsyncClient", "httpx.Client", "requests.Session", "requests.session",
        "aiohttp.ClientSession",
    }
)  # fmt: skip
HTTP_READS = re.compile(r"(?:httpx|requests)\.(?:get|head|options)$")
SESSIONS = frozenset(
    {
        "sqlalchemy.orm.Session", "sqlalchemy.orm.sessionmaker", "sqlalchemy.orm.session.Session",
        "sqlalchemy.ext.asyncio.AsyncSession", "sqlalchemy.ext.asyncio.async_sessionmaker",
        "sqlalchemy.orm.scoped_session", "sqlmodel.Session",
        "sqlmodel.ext.asyncio.session.AsyncSession",
    }
)  # fmt: skip
DATABASE_READS = frozenset({"execute", "scalars", "scalar", "query", "get", "exec", "get_one"})
PREDICTIONS = frozenset({"predict", "predict_proba", "decision_function", "score_samples"})
CLOCKS = frozenset(
    {
        "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
        "datetime.date.today", "time.time", "time.time_ns", "time.strftime", "time.localtime",
        "time.gmtime",
    }
)  # fmt: skip
RANDOM = re.compile(r"(?:random|secrets|uuid|numpy\.random)\.(?!UUID$)")
STREAMS = re.compile(
    r"(?:^|\.)(?:StreamingResponse|FileResponse|EventSourceResponse|RedirectResponse|"
    r"TemplateResponse|WebSocket)$"
)
HARMLESS = re.compile(
    r"(?:typing|collections|itertools|functools|operator|re|math|statistics|decimal|fractions|json|"
    r"base64|hashlib|html|dataclasses|enum|logging|textwrap|string|pydantic|numpy|pandas)\b"
    r"|urllib\.parse\.|datetime\.(?:timedelta|timezone|date|datetime)\b|uuid\.UUID$"
    r"|time\.(?:perf_counter|monotonic|process_time|perf_counter_ns|sleep)$"
    r"|asyncio\.(?:gather|wait_for|sleep|timeout|shield)$|contextlib\.(?:suppress|AsyncExitStack)$"
    r"|(?:fastapi|starlette)\.(?:exceptions\.)?HTTPException$|orjson\.|ujson\."
    r"|(?:fastapi|starlette)\.(?:responses\.)?(?:JSONResponse|ORJSONResponse|UJSONResponse|Response)$"
    r"|fastapi\.encoders\.jsonable_encoder$|httpx\.(?:Timeout|Limits|URL|QueryParams)$"
    r"|aiohttp\.ClientTimeout$|http\.cookiejar\.|os\.(?:getenv|environ\.get|path\.join)$"
    r"|sqlalchemy\.(?!insert|update|delete|event)|sqlmodel\.(?:select|col|func)\b"
)
BUILTINS = frozenset(
    {
        "len", "dict", "list", "str", "int", "float", "bool", "bytes", "set", "frozenset", "tuple",
        "round", "sum", "min", "max", "abs", "sorted", "reversed", "zip", "enumerate", "range",
        "map", "filter", "any", "all", "isinstance", "issubclass", "getattr", "hasattr", "type",
        "iter", "next", "repr", "format", "divmod", "pow", "ord", "chr", "dict.fromkeys", "hash",
        "ValueError", "KeyError", "TypeError", "RuntimeError", "LookupError", "Exception",
        "NotImplementedError", "TimeoutError", "slice", "print",
    }
)  # fmt: skip
LOGGING = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
COLLECTIONS = frozenset(
    {
        "builtins.dict", "builtins.list", "builtins.set", "collections.defaultdict",
        "collections.deque", "collections.OrderedDict", "collections.Counter",
    }
)  # fmt: skip
IN_PLACE = frozenset(
    {
        "append", "extend", "insert", "remove", "pop", "popitem", "popleft", "appendleft", "clear",
        "update", "setdefault", "add", "discard",
    }
)  # fmt: skip
# Methods of values that were made for the request: texts, lists, answers, rows, statements.
HARMLESS_METHODS = frozenset(
    {
        "get", "items", "keys", "values", "append", "extend", "insert", "sort", "reverse", "copy",
        "setdefault", "update", "pop", "index", "count", "upper", "lower", "title", "capitalize",
        "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition",
        "join", "format", "replace", "startswith", "endswith", "isdigit", "isalnum", "encode",
        "decode", "removeprefix", "removesuffix", "zfill", "isoformat", "strftime", "timestamp",
        "total_seconds", "date", "json", "raise_for_status", "read", "text", "all", "first", "one",
        "one_or_none", "scalar", "scalars", "scalar_one", "scalar_one_or_none", "mappings",
        "fetchall", "fetchone", "unique", "partitions", "where", "order_by", "limit", "offset",
        "filter", "filter_by", "group_by", "having", "options", "select_from", "distinct",
        "outerjoin", "label", "desc", "asc", "in_", "like", "ilike", "is_", "is_not", "between",
        "model_dump", "model_dump_json", "dict", "model_validate", "from_orm", "parse_obj", "close",
        "aclose", "tolist", "mean", "std", "sum", "min", "max", "round", "reshape", "astype",
        "to_dict", "as_dict", "transform", "total", "most_common", "is_integer", "hex", "group",
        "groups", "match", "search", "subquery", "cte", "union", "union_all", "add_columns",
        "_asdict",
    }
)  # fmt: skip
# Of these, the ones that change what they are called on.
CHANGING_METHODS = IN_PLACE | {"sort", "reverse", "read"}
# Of methods whose owner is not known, those that show what a function is for.
COSTLY_METHODS = PREDICTIONS | {"execute", "scalars", "scalar", "query", "get_one"}
