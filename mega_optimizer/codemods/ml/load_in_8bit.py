"""Hand bitsandbytes' options over in a ``BitsAndBytesConfig``.

``from_pretrained`` of transformers 4 makes that object itself from ``load_in_8bit=``,
``load_in_4bit=`` and the arguments that the class has (``modeling_utils.py`` of 4.57), and warns;
transformers 5 no longer does, and the model's constructor raises TypeError.
"""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Outcome, Skip
from mega_optimizer.codemods.ml.number_format import Load, hides_keywords, weight_loads
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Edits

BITS = ("load_in_8bit", "load_in_4bit")
_OPTIONS = ("llm_int8_", "bnb_4bit_")
CONFIG = "BitsAndBytesConfig"


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each load that names the bits as an argument."""
    for load in weight_loads(context, *(each.encode() for each in BITS)):
        if isinstance(load, Skip):
            yield load
            continue
        given = load.given(*BITS)
        if load.library != "transformers" or load.owner == "pipeline" or given is None:
            continue
        objection = _objection(load, given)
        if objection is not None:
            yield Skip(load.place, *objection)
            continue
        message = f"transformers 5 takes {given.arg} only in a {CONFIG}"
        yield Fix(load.place, message, partial(_edits, context, load, given))


def _objection(load: Load, given: ast.keyword) -> tuple[str, str] | None:
    if load.given("quantization_config") is not None or all(map(load.given, BITS)):
        return "both-given", "the call says in two ways how to quantize"
    if hides_keywords(load.call):
        return "keywords-hidden", "what ** brings may say more about how to quantize"
    if isinstance(given.value, ast.Constant) and given.value.value is not True:
        return "not-quantized", f"{given.arg} is {given.value.value!r}: the argument can go"
    if not isinstance(given.value, ast.Constant | ast.Name | ast.Attribute):
        return "shape-not-known", f"what decides about {given.arg} is more than a name"
    return None


def _edits(context: Context, load: Load, given: ast.keyword) -> Edits | Skip:
    import libcst as cst

    from mega_optimizer.codemods.local_imports import name_beside
    from mega_optimizer.codemods.python import (
        edits_between,
        fitted,
        one_per_line,
        replace_calls,
        skipped,
        with_argument_replaced,
        without_keyword,
    )

    facts = context.python(load.path)
    if isinstance(facts, Problem):
        return skipped(facts)
    tree = context.tree(load.path)
    if isinstance(tree, Problem):
        return skipped(tree)
    call = load.fact
    named = name_beside(tree, facts, call, "transformers", CONFIG)
    if isinstance(named, Skip):
        return named
    imported, name = named
    options = [each for each in load.call.keywords if (each.arg or "").startswith(_OPTIONS)]
    value = _value(load, given, options, name)

    def rewritten(node: cst.Call) -> cst.Call:
        for each in options:
            node = without_keyword(node, each.arg or "")
        is_on_one_line = "\n" not in cst.Module([]).code_for_node(node)
        config = cst.parse_expression(value)
        if options and isinstance(config, cst.Call):
            config = one_per_line(config, depth=1)
        node = with_argument_replaced(node, given.arg or "", "quantization_config", config)
        return one_per_line(node) if options and is_on_one_line else fitted(node, call.column)

    changed = replace_calls(imported, {call: rewritten})
    if changed is None:
        return Skip(load.place, "shape-not-known", "the call was not found again")
    return edits_between(load.path, tree.bytes, changed)


def _value(load: Load, given: ast.keyword, options: list[ast.keyword], name: str) -> str:
    """Return the expression of the configuration, None where the service does not quantize."""

    def text(node: ast.expr) -> str:
        start, end = load.source.range(node)
        return load.source.content[start:end].decode()

    arguments = [f"{given.arg}=True", *(f"{each.arg}={text(each.value)}" for each in options)]
    config = f"{name}({', '.join(arguments)})"
    if isinstance(given.value, ast.Constant):
        return config
    return f"{config} if {text(given.value)} else None"
