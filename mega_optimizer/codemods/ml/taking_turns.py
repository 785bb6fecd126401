"""How a function uses a loaded object, and which of its statements must hold the object's lock."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.loading import DEFINITIONS, Objection, own_nodes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mega_optimizer.codemods.ml.loading import Function
    from mega_optimizer.codemods.source import Source

# Methods that leave the object different for the next request. The prefixes are those of diffusers
# (set_adapters, enable_model_cpu_offload, load_lora_weights, fuse_qkv_projections, ...).
CHANGES = frozenset(
    {
        "to", "half", "float", "double", "bfloat16", "cuda", "cpu", "train", "requires_grad_",
        "compile", "fit", "partial_fit", "update", "quantize", "apply", "add_pipe",
    }
)  # fmt: skip
CHANGING = (
    "set_", "enable_", "disable_", "load_", "unload_", "fuse_", "unfuse_", "add_", "resize_",
    "register_", "delete_", "merge_", "init_",
)  # fmt: skip
# What may be read of an object while another thread uses it: none of it changes in a run.
READS = frozenset(
    {
        "device", "dtype", "config", "model_max_length", "name_or_path", "vocab_size",
        "sampling_rate",
        "eos_token", "eos_token_id", "pad_token", "pad_token_id", "bos_token", "bos_token_id",
        "unk_token_id", "mask_token", "mask_token_id", "sep_token_id", "cls_token_id",
        "vae_scale_factor", "all_special_ids",
    }
)  # fmt: skip


def changes_in(function: Function, variable: str, moved: Iterable[ast.stmt]) -> str | None:
    """Return how a function changes the object in ``variable``, apart from setting it up."""
    inside = {each for one in moved for each in ast.walk(one)}
    for node in ast.walk(function):
        if node in inside or not isinstance(node, ast.Attribute):
            continue
        root, names = _chain(node)
        if root != variable:
            continue
        if isinstance(node.ctx, ast.Store | ast.Del):
            return f"{variable}.{'.'.join(names)}"
        if names[-1] in CHANGES or names[-1].startswith(CHANGING):
            return f"{variable}.{'.'.join(names)}"
    return None


def _chain(node: ast.Attribute) -> tuple[str | None, list[str]]:
    names: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        names.insert(0, value.attr)
        value = value.value
    return (value.id if isinstance(value, ast.Name) else None), names


def sections(
    source: Source, function: Function, variable: str, moved: Iterable[ast.stmt]
) -> list[ast.stmt] | Objection:
    """Return the statements of ``function`` in which it uses the object, outermost only."""
    inside = {each for one in moved for each in ast.walk(one)}
    found: list[ast.stmt] = []
    own = set(own_nodes(function))
    for node in ast.walk(function):
        if not isinstance(node, ast.Name) or node.id != variable or node in inside:
            continue
        if node not in own:
            reason = f"a function within {function.name} uses it, maybe later"
            return Objection("needs-a-lock", reason)
        use = _use(source, node)
        if use is None:
            continue
        if isinstance(use, Objection):
            return use
        statement = next(e for e in source.around(node) if isinstance(e, ast.stmt))
        objection = _cannot_hold(source, function, statement, node)
        if objection is not None:
            return objection
        found.append(statement)
    outermost = [
        each
        for each in dict.fromkeys(found)
        if not any(outer in found for outer in source.around(each))
    ]
    return sorted(outermost, key=lambda each: each.lineno)


def _use(source: Source, node: ast.Name) -> ast.Call | Objection | None:
    """Return the call that uses the object, None where it is only read."""
    child: ast.AST = node
    parent = source.parents[node]
    names: list[str] = []
    while isinstance(parent, ast.Attribute):
        names.append(parent.attr)
        child, parent = parent, source.parents[parent]
    if isinstance(parent, ast.Call) and parent.func is child:
        return parent
    if names and names[0] in READS:
        return None
    if isinstance(parent, ast.Compare) and not names:
        return None  # pipe is None
    reason = f"what is done with {'.'.join([node.id, *names])} cannot be seen from here"
    return Objection("needs-a-lock", reason)


def _cannot_hold(
    source: Source, function: Function, statement: ast.stmt, node: ast.Name
) -> Objection | None:
    within = list(ast.walk(statement))
    if any(isinstance(each, DEFINITIONS) for each in within):
        return Objection("needs-a-lock", "the statement that uses it defines a function")
    for outer in source.around(node):
        if outer is statement:
            break
        if isinstance(outer, ast.GeneratorExp):
            return Objection("needs-a-lock", "a generator uses it, maybe later")
    if any(isinstance(each, ast.Yield | ast.YieldFrom) for each in within):
        return Objection("yields-with-lock", "would hold its lock while a response is streamed")
    waits = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    if any(isinstance(each, waits) for each in within):
        return Objection("awaits-with-lock", "would hold its lock while other coroutines run")
    if source.own_lines(statement) is None:
        return Objection("shape-not-known", "shares its line with another statement")
    outer_statement = source.parents[statement]
    if (
        isinstance(outer_statement, ast.If)
        and outer_statement.orelse == [statement]
        and isinstance(statement, ast.If)
    ):
        return Objection("shape-not-known", "an elif uses it")
    return None
