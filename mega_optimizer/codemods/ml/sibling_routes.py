"""Write the route that streams, and the function behind it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, cast

import libcst as cst

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.python import fitted, with_keyword
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.ml.stream_generation import Sibling
    from mega_optimizer.codemods.ml.written_text import Writing

_KEPT = ("dependencies", "tags", "include_in_schema", "deprecated")
_INNER = "write"


def add_sibling(draft: Draft, sibling: Sibling, module: str) -> Skip | None:
    """Add the route, and where another function writes the text, one that streams it.

    ``draft`` is of the service with the module at path ``module``. Skip codes:
    ``name-taken``, ``import-path-unknown``, ``not-found-again``, ``shape-not-known``.
    """
    path, handler = sibling.facts.path, sibling.route.handler.path
    writer = sibling.home
    names = {(path, f"stream_{handler}"), (writer.path, f"stream_{writer.name}")}
    for where, name in names:
        facts = draft.facts(where)
        if isinstance(facts, Skip):
            return facts
        if name in facts.bound_names:
            return Skip(Place(where), "name-taken", f"{name} is taken")
    stream = draft.add_own_import(writer.path, module, "stream_text", writer.name)
    if isinstance(stream, Skip):
        return stream
    response = draft.add_import(path, "fastapi.responses", "StreamingResponse", handler)
    if isinstance(response, Skip):
        return response
    if sibling.call is None:
        return _add_route(draft, sibling, response, stream, None)
    objection = _add_function(draft, sibling, stream)
    if objection is not None:
        return objection
    name = f"stream_{writer.name}"
    called = name
    if writer.path != path:
        local = draft.add_own_import(path, writer.path, name, handler)
        if isinstance(local, Skip):
            return local
        called = local
    return _add_route(draft, sibling, response, stream, called)


def _add_function(draft: Draft, sibling: Sibling, stream: str) -> Skip | None:
    """Put the function that streams behind the one that writes."""
    path, name = sibling.home.path, sibling.home.name
    found = _function(draft, path, name)
    if isinstance(found, Skip):
        return found
    tree, position, function = found
    body = _streaming_body(function, sibling.writing, stream)
    if body is None:
        return Skip(Place(path), "shape-not-known", f"how {name} is written cannot be followed")
    returns = None
    if function.returns is not None:
        iterator = draft.add_import(path, "collections.abc", "AsyncIterator", name)
        if isinstance(iterator, Skip):
            return iterator
        returns = cst.Annotation(cst.parse_expression(f"{iterator}[str]"))
        found = _function(draft, path, name)
        if isinstance(found, Skip):
            return found
        tree, position, function = found
    docstring = cst.parse_statement(f'"""Yield what {name} returns, piece by piece."""')
    added = _plain(function, f"stream_{name}", [docstring, *body]).with_changes(
        returns=returns
        if returns is None
        else returns.with_changes(whitespace_before_indicator=cst.SimpleWhitespace(" ")),
        decorators=[],
    )
    draft.put(path, _with_behind(tree, position, added))
    return None


def _add_route(
    draft: Draft, sibling: Sibling, response: str, stream: str, called: str | None
) -> Skip | None:
    """Put the route behind the one that it is a sibling of."""
    path, handler = sibling.facts.path, sibling.route.handler.path
    found = _function(draft, path, handler)
    if isinstance(found, Skip):
        return found
    tree, position, function = found
    decorator = _decorator(function.decorators[0], f"{sibling.route.path}".rstrip("/"), response)
    if decorator is None:
        return Skip(Place(path), "shape-not-known", "the path of the route is no literal")
    if called is None:
        body = _streaming_body(function, sibling.writing, stream, response)
        if body is None:
            reason = f"how {handler} is written cannot be followed"
            return Skip(Place(path), "shape-not-known", reason)
    else:
        call = _last_call(function, sibling)
        if call is None:
            return Skip(
                Place(path), "not-found-again", f"the call in {handler} was not found again"
            )
        text = cst.Module([]).code_for_node(call.with_changes(func=cst.Name(called)))
        body = [_return(f'{response}({text}, media_type="text/plain")')]
    added = _plain(function, f"stream_{handler}", body).with_changes(
        decorators=[decorator], returns=None
    )
    draft.put(path, _with_behind(tree, position, added))
    return None


def _function(draft: Draft, path: str, name: str) -> tuple[cst.Module, int, cst.FunctionDef] | Skip:
    tree = draft.tree(path)
    if isinstance(tree, Skip):
        return tree
    for position, each in enumerate(tree.body):
        if isinstance(each, cst.FunctionDef) and each.name.value == name:
            return tree, position, each
    return Skip(Place(path), "not-found-again", f"{name} was not found again")


def _plain(
    function: cst.FunctionDef, name: str, body: Sequence[cst.BaseStatement]
) -> cst.FunctionDef:
    """Return ``function`` under another name with another body: a plain one, two lines apart."""
    return function.with_changes(
        name=cst.Name(name),
        asynchronous=None,
        body=cst.IndentedBlock(body=body),
        leading_lines=[cst.EmptyLine(indent=False), cst.EmptyLine(indent=False)],
        lines_after_decorators=[],
    )


def _with_behind(tree: cst.Module, position: int, added: cst.FunctionDef) -> cst.Module:
    body = [*tree.body[: position + 1], added, *tree.body[position + 1 :]]
    return tree.with_changes(body=body)


def _decorator(given: cst.Decorator, path: str, response: str) -> cst.Decorator | None:
    """Return the decorator of the route with the path of its sibling."""
    call = given.decorator
    if not isinstance(call, cst.Call):
        return None
    kept = [
        f"{each.keyword.value}={cst.Module([]).code_for_node(each.value)}"
        for each in call.args
        if each.keyword is not None and each.keyword.value in _KEPT
    ]
    owner = cst.Module([]).code_for_node(call.func)
    words = [f'"{path}/stream"', f"response_class={response}", *kept]
    made = cast("cst.Call", cst.parse_expression(f"{owner}({', '.join(words)})"))
    return cst.Decorator(fitted(made, 1))


def _last_call(function: cst.FunctionDef, sibling: Sibling) -> cst.Call | None:
    """Return the call of the function that writes."""
    wanted = ast.unparse(sibling.call) if sibling.call is not None else ""
    found: list[cst.Call] = []

    class Calls(cst.CSTVisitor):
        def visit_Call(self, node: cst.Call) -> None:
            code = cst.Module([]).code_for_node(node)
            if ast.unparse(ast.parse(code.strip(), mode="eval")) == wanted:
                found.append(node)

    function.visit(Calls())
    return found[0] if len(found) == 1 else None


def _streaming_body(
    function: cst.FunctionDef, writing: Writing, stream: str, response: str | None = None
) -> list[cst.BaseStatement] | None:
    """Return the body up to the statement that generates, which a function within takes over."""
    block = cast("cst.IndentedBlock", function.body)
    body = list(block.body)
    if not isinstance(block, cst.IndentedBlock) or any(
        isinstance(each, cst.SimpleStatementLine) and len(each.body) != 1 for each in body
    ):
        return None
    before, generates = body[: writing.position], body[writing.position]
    if before and _is_docstring(before[0]):
        before = before[1:]
    inner = _returning(generates, 16)
    code = cst.Module([]).code_for_node(function)
    if inner is None or f"{_INNER}(" in code or f"{_INNER} =" in code or "streaming" in code:
        return None
    defined = cast(
        "cst.FunctionDef", cst.parse_statement(f"def {_INNER}(**streaming):\n    pass\n")
    )
    defined = defined.with_changes(
        body=cst.IndentedBlock(body=[inner]), leading_lines=[cst.EmptyLine(indent=False)]
    )
    words = [writing.tokenizer, _INNER]
    words += [f"lock={writing.lock}"] if writing.lock else []
    words += ["skip_prompt=True"] if writing.skips_prompt else []
    words += [f"{each.arg}={ast.unparse(each.value)}" for each in writing.decoding]
    text = f"{stream}({', '.join(words)})"
    if response is not None:
        text = f'{response}({text}, media_type="text/plain")'
    last = _return(text).with_changes(leading_lines=[cst.EmptyLine(indent=False)])
    return [*before, defined, last]


def _return(text: str) -> cst.SimpleStatementLine:
    """Return the statement, in a function at the top level, that returns what a call makes."""
    made = cast("cst.Call", cst.parse_expression(text))
    return cst.SimpleStatementLine([cst.Return(fitted(made, 11))])


def _is_docstring(statement: cst.BaseStatement | cst.BaseSmallStatement) -> bool:
    return (
        isinstance(statement, cst.SimpleStatementLine)
        and isinstance(statement.body[0], cst.Expr)
        and isinstance(statement.body[0].value, cst.SimpleString | cst.ConcatenatedString)
    )


def _returning(statement: cst.BaseStatement, column: int) -> cst.BaseStatement | None:
    """Return the statement that generates, with what streams among its arguments, as a return."""
    if isinstance(statement, cst.With):
        block = statement.body
        if not isinstance(block, cst.IndentedBlock) or len(block.body) != 1:
            return None
        inner = _returning(block.body[0], column + 4)
        return None if inner is None else statement.with_changes(body=cst.IndentedBlock([inner]))
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return None
    assigned = statement.body[0]
    call = assigned.value if isinstance(assigned, cst.Assign) else None
    if not isinstance(call, cst.Call) or not call.args:
        return None
    longer = len("streaming=streaming") - len("**streaming")
    wider = with_keyword(call, "streaming", cst.Name("streaming"), column - longer)
    given = wider.args[-1].with_changes(keyword=None, equal=cst.MaybeSentinel.DEFAULT, star="**")
    returned = cst.Return(wider.with_changes(args=[*wider.args[:-1], given]))
    return statement.with_changes(body=[returned])
