"""Install uvloop and httptools beside Uvicorn, which picks both up by itself.

``--loop auto`` and ``--http auto`` are Uvicorn's defaults and look for these packages at start-up
(https://www.uvicorn.org/settings/).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.dependencies.model import Dependencies
    from mega_optimizer.repository.python import Call

# Floors and markers are those that uvicorn[standard] itself declares (uvicorn 0.54.0 metadata).
REQUIREMENTS = {
    "uvloop": (
        "uvloop>=0.15.1; sys_platform != 'win32' and sys_platform != 'cygwin' "
        "and platform_python_implementation != 'PyPy'"
    ),
    "httptools": "httptools>=0.6.3",
}
# Extras that bring both packages along: (package, extra).
BRING_BOTH = (("uvicorn", "standard"), ("fastapi", "standard"), ("fastapi", "all"))
EXTRA_IN_TEXT = re.compile(rb"\b(?:uvicorn|fastapi)\[(?:[\w-]+, *)*(?:standard|all)[\],]")
OTHER_SERVERS = frozenset({"hypercorn", "granian", "daphne"})
# Their requirements.txt names uvicorn[standard] (github.com/tiangolo/uvicorn-gunicorn-docker).
BASES_WITH_BOTH = re.compile(r"(?:^|/)tiangolo/uvicorn-gunicorn")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for a service that serves with Uvicorn and lacks one of the two packages."""
    dependencies = context.dependencies
    declared = dependencies.declared("uvicorn")
    if not declared or _comes_with_an_extra(dependencies) or _dockerfile_installs_both(context):
        return
    missing = [name for name in REQUIREMENTS if name not in dependencies]
    if not missing:
        return
    place = declared[0].place
    if BASES_WITH_BOTH.search(context.base_image or ""):
        reason = f"the base image {context.base_image} brings both"
        yield Skip(place, "base-brings-it", reason)
        return
    if not (context.service.dockerfile or context.service.launch or context.service.deployments):
        reason = "nothing shows that this is started and not a library for others to depend on"
        yield Skip(place, "launch-unknown", reason)
        return
    other = _other_server(context)
    if other:
        reason = f"{other} serves, not Uvicorn"
        yield Skip(place, "not-served-by-uvicorn", reason, agrees_to=place.path)
        return
    chosen = _place_of_a_choice(context)
    if chosen:
        yield Skip(place, "loop-chosen", f"the launch command chooses loop or parser ({chosen})")
        return
    yield Fix(
        place,
        f"Install {' and '.join(missing)}, which Uvicorn uses when they are there",
        requires=tuple(REQUIREMENTS[name] for name in missing),
        beside="uvicorn",
    )


def _comes_with_an_extra(dependencies: Dependencies) -> bool:
    return any(
        extra in declaration.extras
        for package, extra in BRING_BOTH
        for declaration in dependencies.declared(package)
    )


def _dockerfile_installs_both(context: Context) -> bool:
    path = context.service.dockerfile
    content = context.read(path) if path else b""
    return isinstance(content, bytes) and EXTRA_IN_TEXT.search(content) is not None


def _other_server(context: Context) -> str | None:
    """Return the ASGI server that starts the service wherever it is known what starts it."""
    servers = {site.server for site in context.service.launch}
    others = sorted(server for server in servers if server in OTHER_SERVERS)
    return others[0] if len(others) == len(servers) and others else None


def _place_of_a_choice(context: Context) -> Place | None:
    """Return where an option, a keyword, a variable or a worker class chooses loop or parser."""
    for site in context.service.launch:
        options = [site.option("--loop"), site.option("--http")]
        variables = [site.environment.get("UVICORN_LOOP"), site.environment.get("UVICORN_HTTP")]
        if any(value not in (None, "auto") for value in (*options, *variables)):
            return site.place
        if "UvicornH11Worker" in site.command:
            return site.place
    for path in context.modules(b"uvicorn"):
        facts = context.python(path)
        if isinstance(facts, Problem):
            continue
        for call in facts.calls:
            if call.name in ("uvicorn.run", "uvicorn.Config") and _chooses(call):
                return Place(path, call.line)
        # https://www.uvicorn.org/deployment/#gunicorn
        for kept in facts.assignments:
            values = [each.value.constant for each in kept.value.arguments]
            if kept.target.endswith("CONFIG_KWARGS") and ("loop" in values or "http" in values):
                return Place(path, kept.line)
    return None


def _chooses(call: Call) -> bool:
    given = [call.argument(keyword) for keyword in ("loop", "http")]
    return call.unpacks or any(value and value.constant != "auto" for value in given)
