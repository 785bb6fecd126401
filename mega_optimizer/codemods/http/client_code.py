"""Rewrite a module so that its functions use one client, which the application opens and closes.

Where the application does not run (in a script, in tests without its lifespan, while it starts),
they make a client for themselves as before.
"""

from __future__ import annotations

import keyword
from functools import partial
from typing import TYPE_CHECKING, cast

import libcst as cst

from mega_optimizer.codemods.annotations import generic_module, unites
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.layout import inserted_above
from mega_optimizer.codemods.lifespan import Resource
from mega_optimizer.codemods.python import replace_calls, with_keyword
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.http.clients import Client
    from mega_optimizer.codemods.http.per_request import Moved
    from mega_optimizer.codemods.startup import Startup
    from mega_optimizer.repository.python import Call, PythonFacts

# Stems of module names that say nothing about whom the client talks to.
VAGUE = frozenset(
    {
        "main", "app", "api", "server", "service", "services", "client", "clients", "http", "utils",
        "util", "helpers", "common", "core", "base", "views", "routes", "router", "routers", "deps",
        "dependencies", "endpoints", "__init__", "__main__", "http_client", "httpx_client",
    }
)  # fmt: skip

# Without a bound of their own, both packages keep to 100 connections.
LIMITS = {
    "httpx": ("limits", "{}Limits(max_connections=None, max_keepalive_connections=20)"),
    "aiohttp": ("connector", "{}TCPConnector(limit=0)"),
}
TRANSPORTS = ("transport", "mounts")


def share_client(
    context: Context,
    draft: Draft,
    startup: Startup,
    facts: PythonFacts,
    client: Client,
    uses: dict[Call, Moved],
    unlimited: bool,
) -> Resource | Skip:
    """Make the calls (alike) use one client; return what opens and closes it.

    ``uses``: which of a call's arguments go to its requests instead.
    ``unlimited``: it may have any number of connections, as its predecessors had together.

    Skip codes: ``several-clients``, ``name-taken``, ``not-found-again``, those of imports.
    """
    calls = tuple(uses)
    path, place = facts.path, Place(facts.path, calls[0].line, calls[0].column)
    noun = "http_client" if path == startup.path else _noun(path)
    if f"open_{noun}" in facts.bound_names:
        return Skip(place, "several-clients", f"{path} shares a client with other arguments")
    if not facts.bound_names.isdisjoint((noun, f"_{noun}", f"_new_{noun}")):
        return Skip(place, "name-taken", f"{noun} already means something else in this module")
    above = min((_root_line(facts, call), call.scope.partition(".")[0]) for call in calls)[1]
    tree = draft.tree(path)
    if isinstance(tree, Skip):
        return tree
    found: list[cst.Call] = []

    def use(node: cst.Call) -> cst.Call:
        found.append(node)
        return cst.Call(cst.Name(noun))

    replaced: dict[Call, Callable[[cst.Call], cst.BaseExpression]] = dict.fromkeys(calls, use)
    for moved in uses.values():
        for request in moved.requests:
            replaced[request] = partial(_with_arguments, moved, request.column)
    changed = replace_calls(tree, replaced)
    if changed is None:
        return Skip(place, "not-found-again", "a call could not be found again in the tree")
    draft.put(path, changed)
    names = _imports(context, draft, facts, client, above, calls[0].text, unlimited)
    if isinstance(names, Skip):
        return names
    column = len("    return ") + 1
    made = _without(found[0], frozenset().union(*(moved.keywords for moved in uses.values())))
    bounds = LIMITS[client.package]
    if unlimited and not any(calls[0].argument(each) for each in (*TRANSPORTS, bounds[0])):
        value = cst.parse_expression(bounds[1].format(names["module"]))
        made = with_keyword(made, bounds[0], value, column)
    made = with_keyword(made, client.cookies, cst.parse_expression(names["jar"]), column)
    definitions = _definitions(client, noun, calls[0].text, names, made)
    tree = draft.tree(path)
    changed = inserted_above(tree, above, definitions) if not isinstance(tree, Skip) else None
    if changed is None:
        return Skip(place, "shape-not-known", f"{above} is not defined at the top level")
    draft.put(path, changed)
    return Resource(path, f"open_{noun}")


def _with_arguments(moved: Moved, column: int, request: cst.Call) -> cst.Call:
    for keyword_name, source in moved.arguments:
        request = with_keyword(request, keyword_name, cst.parse_expression(source), column)
    return request


def _without(call: cst.Call, keywords: frozenset[str]) -> cst.Call:
    kept = [arg for arg in call.args if not (arg.keyword and arg.keyword.value in keywords)]
    if not kept:
        return call.with_changes(args=(), whitespace_before_args=cst.SimpleWhitespace(""))
    if kept[-1] is not call.args[-1]:
        last = call.args[-1]
        kept[-1] = kept[-1].with_changes(
            comma=last.comma, whitespace_after_arg=last.whitespace_after_arg
        )
    return call.with_changes(args=kept)


def _noun(path: str) -> str:
    stem = path.rpartition("/")[2].removesuffix(".py").lower().strip("_")
    if stem in VAGUE or not stem.isidentifier() or keyword.iskeyword(stem):
        return "http_client"
    return stem if stem.endswith("client") else f"{stem}_client"


def _root_line(facts: PythonFacts, call: Call) -> int:
    root = call.scope.partition(".")[0]
    lines = [each.line for each in facts.functions if each.path == root]
    lines += [each.line for each in facts.classes if each.path == root]
    return min(lines, default=call.line)


def _is_typed(facts: PythonFacts) -> bool:
    """Whether the functions of a module are annotated, those of its routes aside."""
    handlers = {route.handler.path for route in facts.routes}
    return any(
        each.annotation is not None or any(one.annotation for one in each.parameters)
        for each in facts.functions
        if each.path not in handlers or each.annotation is not None
    )


def _imports(
    context: Context,
    draft: Draft,
    facts: PythonFacts,
    client: Client,
    above: str,
    text: str,
    unlimited: bool,
) -> dict[str, str] | Skip:
    """Add the imports that the new definitions need; return local names by what they are for."""
    wanted = {"open": ("contextlib", "asynccontextmanager")}
    if not client.is_async:
        wanted["use"] = ("contextlib", "contextmanager")
    if _is_typed(facts):
        wanted["opened"] = (generic_module(context), "AsyncIterator")
        if not client.is_async:
            wanted["used"] = (generic_module(context), "Iterator")
    qualified = text.rpartition(".")[0]
    if client.package == "httpx":
        wanted["cookies"] = ("http.cookiejar", "CookieJar")
        wanted["policy"] = ("http.cookiejar", "DefaultCookiePolicy")
    elif not qualified:
        wanted["dummy"] = ("aiohttp", "DummyCookieJar")
    if unlimited and not qualified:
        wanted["limits"] = (client.package, LIMITS[client.package][1][2:].partition("(")[0])
    if "opened" in wanted and not unites(context, facts):
        wanted["optional"] = ("typing", "Optional")
    names: dict[str, str] = {}
    for key, (module, name) in wanted.items():
        local = draft.add_import(facts.path, module, name, above)
        if isinstance(local, Skip):
            return local
        names[key] = local
    names["module"] = f"{qualified}." if qualified else ""
    names.setdefault("use", names["open"])
    names.setdefault("used", names.get("opened", ""))
    if client.package == "httpx":
        names["jar"] = f"{names['cookies']}({names['policy']}(allowed_domains=()))"
    else:
        names["jar"] = f"{names.get('dummy') or f'{qualified}.DummyCookieJar'}()"
    return names


def _definitions(
    client: Client, noun: str, type_name: str, names: dict[str, str], made: cst.Call
) -> list[cst.BaseStatement]:
    typed = bool(names.get("opened"))

    def returns(annotation: str) -> str:
        return f" -> {annotation}" if typed else ""

    optional = f"{names['optional']}[{type_name}]" if "optional" in names else f"{type_name} | None"
    enter = "async with" if client.is_async else "with"
    use = "async def" if client.is_async else "def"
    opened = returns(f"{names.get('opened')}[None]")
    used = returns(f"{names.get('used')}[{type_name}]")
    sources = [
        f"_{noun}{f': {optional}' if typed else ''} = None\n",
        f"def _new_{noun}(){returns(type_name)}:\n"
        f"    # Requests of all users share the client: it must keep the cookies of none.\n"
        f"    return made\n",
        f"@{names['open']}\n"
        f"async def open_{noun}(){opened}:\n"
        f'    """Share one HTTP client between requests while the application runs."""\n'
        f"    global _{noun}\n"
        f"    {enter} _new_{noun}() as client:\n"
        f"        _{noun} = client\n"
        f"        try:\n"
        f"            yield\n"
        f"        finally:\n"
        f"            _{noun} = None\n",
        f"@{names['use']}\n"
        f"{use} {noun}(){used}:\n"
        f'    """Yield the shared HTTP client, or one for this use where none is open."""\n'
        f"    if _{noun} is not None:\n"
        f"        yield _{noun}\n"
        f"        return\n"
        f"    {enter} _new_{noun}() as client:\n"
        f"        yield client\n",
    ]
    statements = [cast("cst.BaseStatement", cst.parse_statement(each)) for each in sources]
    statements[1] = cast("cst.BaseStatement", statements[1].visit(_Return(made)))
    return statements


class _Return(cst.CSTTransformer):
    """Puts the call that makes the client in its place."""

    def __init__(self, made: cst.Call) -> None:
        super().__init__()
        self.made = made

    def leave_Return(self, original_node: cst.Return, updated_node: cst.Return) -> cst.Return:
        """Return what is made."""
        return updated_node.with_changes(value=self.made)
