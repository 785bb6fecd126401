"""Name the number format of loaded weights with the keyword that the installed library takes.

``number_format`` says which versions take which, and what they make of the other.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Outcome, Skip
from mega_optimizer.codemods.keywords import keyword_of, renamed_keyword
from mega_optimizer.codemods.ml.number_format import (
    NEW,
    OLD,
    TOOK_DTYPE,
    Load,
    hides_keywords,
    keyword_now,
    weight_loads,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context

_REPLACES = re.compile(rb"\bpatch\b|Mock|monkeypatch|mocker|\bdef from_pretrained\b")


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each load that names its format by the other version's keyword."""
    for load in weight_loads(context, NEW.encode()):
        if isinstance(load, Skip):
            yield load
            continue
        given = load.given(OLD, NEW)
        wanted = keyword_now(context, load.library) if given is not None else ""
        if given is None or wanted == given.arg:
            continue
        if isinstance(wanted, tuple):
            yield Skip(load.place, *wanted)
            continue
        if wanted == OLD and load.is_pipeline_of_diffusers:
            continue  # ignored today, so that the weights would change: ml/ignored-dtype
        objection = _objection(context, load, wanted)
        if objection is not None:
            yield Skip(load.place, *objection)
            continue
        version = TOOK_DTYPE[load.library]
        message = f"{load.library} calls it {wanted} " + (
            f"since {version}, and deprecates {OLD}" if wanted == NEW else f"before {version}"
        )
        yield Fix(load.place, message, (renamed_keyword(load.path, load.source, given, wanted),))


def _objection(context: Context, load: Load, wanted: str) -> tuple[str, str] | None:
    if load.given(NEW) is not None and load.given(OLD) is not None:
        return "both-given", f"the call gives {OLD} and {NEW}"
    if wanted == OLD:
        return None
    if hides_keywords(load.call):
        return "keywords-hidden", f"what ** brings may hold {NEW} too"
    remote = keyword_of(load.call, "trust_remote_code")
    if remote is not None and not _is_constant(remote.value, False):
        return "remote-code", f"code that comes with the model may take {OLD} itself"
    given = load.given(OLD)
    if load.owner == "pipeline" and given is not None and not _is_something(given.value):
        # pipeline() of 4.57 reads torch_dtype=None as "auto", and dtype=None as float32.
        return "format-may-be-none", f"{OLD}=None and {NEW}=None mean different formats here"
    tested = _replaced_in_tests(context, load.owner)
    if tested is not None:
        return "tests-vary", f"{tested} replaces what loads, and names {OLD}"
    return None


def _is_constant(value: ast.expr, wanted: object) -> bool:
    return isinstance(value, ast.Constant) and value.value is wanted


def _is_something(value: ast.expr) -> bool:
    """Whether an expression cannot be None."""
    if isinstance(value, ast.IfExp):
        return _is_something(value.body) and _is_something(value.orelse)
    if isinstance(value, ast.Constant):
        return value.value is not None
    return (
        isinstance(value, ast.Attribute)
        and isinstance(value.value, ast.Name)
        and value.value.id == "torch"
    )


def _replaced_in_tests(context: Context, owner: str) -> str | None:
    """Return a test module that puts something else in place of ``owner`` and names the keyword."""
    program = context.program
    for path in program.containing(rb"\btorch_dtype\b", program.tests, OLD.encode()):
        content = program.read(path) or b""
        names = re.search(rb"\b%s\b" % re.escape(owner).encode(), content)
        if names and _REPLACES.search(content):
            return path
    return None
