"""Functions that let a language model write one text, decode it, and return it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.origins import Origin, origins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
# What writes token after token behind the prompt, and does not search with beams by itself.
_CAUSAL = re.compile(r"transformers\.(?!TF|Flax)\w*(?:ForCausalLM|LMHeadModel)\.from_pretrained")
_TOKENIZER = re.compile(r"transformers\.\w*Tokenizer\w*\.from_pretrained")
_THE_MODEL_ITSELF = frozenset({"eval", "to", "cuda", "cpu", "half", "float", "bfloat16"})
_DECODING = frozenset({"skip_special_tokens", "clean_up_tokenization_spaces"})
_NOT_STREAMED = {
    "streamer": "it streams already",
    "stopping_criteria": "it stops by rules of its own",
    "generation_config": "its configuration may ask for beams",
    "num_return_sequences": "it writes more than one text",
    "assistant_model": "another model helps it",
    "custom_generate": "it generates in a way of its own",
}
_SETS_TOKENIZER = frozenset({"truncation", "padding", "max_length", None})
_LEAVES = (ast.Return, ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith)


@dataclass(frozen=True, slots=True)
class Writing:
    """How a function writes.

    ``position`` is the place of the statement that generates in its body, ``tokenizer`` the
    variable that decodes, ``decoding`` the keywords of its call, ``lock`` the lock that is held
    meanwhile, and ``text`` what stands for the text in ``answer``: a name or the call that decodes.
    ``sets_tokenizer``: the tokenizer is told how to pad or to cut, which threads see of each other.
    """

    position: int
    call: ast.Call
    tokenizer: str
    decoding: tuple[ast.keyword, ...]
    skips_prompt: bool
    lock: str | None
    answer: ast.expr
    text: ast.expr
    sets_tokenizer: bool


def writing_of(
    program: Program, facts: PythonFacts, function: FunctionNode, scope: str
) -> Writing | tuple[str, str]:
    """Return how ``function`` writes its text, or the code and the reason why that is not known."""
    calls = [
        each
        for each in ast.walk(function)
        if isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr == "generate"
    ]
    if len(calls) != 1:
        return "shape-not-known", "it generates more than once"
    call = calls[0]
    position = next(
        (n for n, each in enumerate(function.body) if call in ast.walk(each)), len(function.body)
    )
    written = _written(function.body[position], call)
    if written is None:
        return "shape-not-known", "it generates within a loop, a condition or another expression"
    model = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if not _is_a(program, facts, model, scope, _CAUSAL):
        return "model-not-known", f"that {model} is a causal language model cannot be seen"
    if any(isinstance(each, _LEAVES) for one in function.body[:position] for each in ast.walk(one)):
        return "shape-not-known", "it may return or wait before it generates"
    objection = _of_arguments(function, call)
    if objection is not None:
        return objection
    return _decoded(program, facts, function, scope, position, call, written)


def _written(statement: ast.stmt, call: ast.Call) -> str | None:
    """Return the name that ``statement`` gives to what ``call`` returns."""
    while isinstance(statement, ast.With) and len(statement.body) == 1:
        statement = statement.body[0]
    if isinstance(statement, ast.Assign) and statement.value is call:
        target = statement.targets[0]
        if len(statement.targets) == 1 and isinstance(target, ast.Name):
            return target.id
    return None


def _of_arguments(function: FunctionNode, call: ast.Call) -> tuple[str, str] | None:
    for keyword in call.keywords:
        if keyword.arg in _NOT_STREAMED:
            return "not-one-text", _NOT_STREAMED[keyword.arg]
        if keyword.arg == "num_beams" and ast.unparse(keyword.value) != "1":
            return "beams", "transformers cannot stream what it searches with beams"
        if keyword.arg is None and not _is_tokenized(function, keyword.value):
            return "keywords-hidden", f"what **{ast.unparse(keyword.value)} brings is not known"
    if any(isinstance(each, ast.Starred) for each in call.args):
        return "keywords-hidden", "what * brings is not known"
    return None


def _is_tokenized(function: FunctionNode, value: ast.expr) -> bool:
    """Whether ``value`` is a variable to which the function gives what a tokenizer makes."""
    if not isinstance(value, ast.Name):
        return False
    given = [
        each.value
        for each in ast.walk(function)
        if isinstance(each, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == value.id for t in each.targets)
    ]
    return bool(given) and all("tokenize" in ast.unparse(each).lower() for each in given)


def _decoded(
    program: Program,
    facts: PythonFacts,
    function: FunctionNode,
    scope: str,
    position: int,
    call: ast.Call,
    written: str,
) -> Writing | tuple[str, str]:
    rest, lock = _without_locks(function.body[position + 1 :])
    text: ast.expr | None = None
    name = None
    if len(rest) == 2 and isinstance(rest[0], ast.Assign):
        target = rest[0].targets[0]
        if len(rest[0].targets) == 1 and isinstance(target, ast.Name):
            name, text = target.id, rest[0].value
    last = rest[-1] if rest else None
    if not isinstance(last, ast.Return) or last.value is None or len(rest) > 2:
        return "processed", "more is done with the text than to return it"
    if name is None:
        found = [each for each in answer_parts(last.value) if _decoding_call(each, written)]
        if len(rest) != 1 or len(found) != 1:
            return "processed", "more is done with the text than to return it"
        text = found[0]
        answer_text: ast.expr = text
    else:
        uses = [e for e in answer_parts(last.value) if isinstance(e, ast.Name) and e.id == name]
        if len(uses) != 1:
            return "processed", "more is done with the text than to return it"
        answer_text = uses[0]
    decoding = _decoding_call(text, written) if text is not None else None
    if decoding is None:
        return "processed", "more is done with the text than to return it"
    tokenizer, keywords, skips = decoding
    if not _is_a(program, facts, tokenizer, scope, _TOKENIZER):
        return "model-not-known", f"that {tokenizer} is a tokenizer of transformers cannot be seen"
    asked = [
        each
        for each in ast.walk(function)
        if isinstance(each, ast.Call) and ast.unparse(each.func) == tokenizer and each.args
    ]
    for each in asked:
        first = each.args[0]
        if (isinstance(first, ast.List) and len(first.elts) != 1) or _is_list(function, first):
            return "not-one-text", "it is asked for several texts"
    sets = any(keyword.arg in _SETS_TOKENIZER for each in asked for keyword in each.keywords)
    return Writing(position, call, tokenizer, keywords, skips, lock, last.value, answer_text, sets)


def _without_locks(statements: list[ast.stmt]) -> tuple[list[ast.stmt], str | None]:
    """Return the statements with those in a ``with lock:`` in its place, and the lock."""
    found: list[ast.stmt] = []
    lock = None
    for each in statements:
        context = each.items[0].context_expr if isinstance(each, ast.With) else None
        if isinstance(each, ast.With) and isinstance(context, ast.Name | ast.Attribute):
            lock = ast.unparse(context)
            found += each.body
        else:
            found.append(each)
    return found, lock


def answer_parts(answer: ast.expr) -> Iterator[ast.expr]:
    """Yield what may be the text in an answer: all of it, or its one part that varies."""
    if isinstance(answer, ast.Dict):
        varying = [each for each in answer.values if not isinstance(each, ast.Constant)]
        if len(varying) == 1 and all(isinstance(each, ast.Constant) for each in answer.keys):
            yield varying[0]
    elif isinstance(answer, ast.Call) and not answer.args and len(answer.keywords) == 1:
        if isinstance(answer.func, ast.Name) and answer.keywords[0].arg is not None:
            yield answer.keywords[0].value
    else:
        yield answer


def _decoding_call(
    node: ast.expr, written: str
) -> tuple[str, tuple[ast.keyword, ...], bool] | None:
    """Return tokenizer, keywords, and whether the prompt is left out of what ``node`` decodes."""
    batch = False
    if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == "0":
        node, batch = node.value, True
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    if node.func.attr != ("batch_decode" if batch else "decode") or len(node.args) != 1:
        return None
    if any(
        each.arg not in _DECODING or not isinstance(each.value, ast.Constant)
        for each in node.keywords
    ):
        return None
    tokens, skips = node.args[0], False
    if not batch:
        inner = tokens
        if isinstance(inner, ast.Subscript) and isinstance(inner.slice, ast.Slice):
            if not _is_length_of_prompt(inner.slice):
                return None
            inner, skips = inner.value, True
        if not isinstance(inner, ast.Subscript) or ast.unparse(inner.slice) != "0":
            return None
        tokens = inner.value
    if not isinstance(tokens, ast.Name) or tokens.id != written:
        return None
    return ast.unparse(node.func.value), tuple(node.keywords), skips


def _is_length_of_prompt(part: ast.Slice) -> bool:
    lower = part.lower
    return (
        part.upper is None
        and part.step is None
        and isinstance(lower, ast.Subscript)
        and isinstance(lower.value, ast.Attribute)
        and lower.value.attr == "shape"
        and ast.unparse(lower.slice) in ("1", "-1")
    )


def _is_list(function: FunctionNode, value: ast.expr) -> bool:
    if isinstance(value, ast.ListComp | ast.Tuple | ast.GeneratorExp):
        return True
    if not isinstance(value, ast.Name):
        return False
    kinds = [
        each.annotation for each in ast.walk(function.args)
        if isinstance(each, ast.arg) and each.arg == value.id and each.annotation is not None
    ]  # fmt: skip
    return any("list" in ast.unparse(kind).lower() for kind in kinds)


def _is_a(
    program: Program, facts: PythonFacts, text: str, scope: str, kind: re.Pattern[str]
) -> bool:
    """Whether all that the dotted ``text`` may hold in ``scope`` is loaded by ``kind``."""
    found = origins(program, facts, text, scope)
    return bool(found) and all(_loads(program, each, kind, 4) for each in found)


def _loads(program: Program, origin: Origin, kind: re.Pattern[str], depth: int) -> bool:
    value = origin.value
    if value.kind != "call" or depth == 0:
        return False
    if value.name is not None and kind.fullmatch(value.name):
        return True
    owner, _, method = value.text.rpartition(".")
    if method not in _THE_MODEL_ITSELF:
        return False
    if owner:
        found = origins(program, origin.facts, owner, origin.scope)
        return bool(found) and all(_loads(program, each, kind, depth - 1) for each in found)
    if not value.arguments:
        return False
    return _loads(
        program, Origin(origin.facts, origin.scope, value.arguments[0].value), kind, depth - 1
    )
