"""Where a module makes its application of Flask, and how it starts the development server."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.codemods.serving.flask_module import FlaskModule

# Parameters of ``Flask.run`` that only concern developing.
RUN_DROPPED = frozenset({"debug", "use_reloader", "use_debugger", "load_dotenv", "threaded"})


def read_application(module: FlaskModule) -> None:
    """Find the one ``Flask(…)``, at the top level of the module or in a factory."""
    tree = module.source.tree
    calls = [
        node
        for node in module.source.calls()
        if isinstance(node.func, ast.Name) and node.func.id == "Flask"
    ]
    statements: list[tuple[ast.FunctionDef | None, ast.stmt]] = [(None, each) for each in tree.body]
    functions = [each for each in tree.body if isinstance(each, ast.FunctionDef)]
    statements += [(function, each) for function in functions for each in function.body]
    made = [
        (function, each)
        for function, each in statements
        if isinstance(each, ast.Assign) and each.value in calls
    ]
    if len(calls) != 1 or len(made) != 1:
        place = calls[0] if calls else tree.body[0] if tree.body else tree
        text = "the application is not made once, by the module or a function of it"
        module.block(place, "factory", text)
        return
    module.factory, assignment = made[0]
    target = assignment.targets[0]
    if len(assignment.targets) != 1 or not isinstance(target, ast.Name):
        module.block(assignment, "factory", "the application has several names")
        return
    module.made, module.name = assignment, target.id
    if len(calls[0].args) != 1 or calls[0].keywords:
        module.block(assignment, "settings", "Flask(…) is given settings")
    bound = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == target.id
    ]
    if module.factory is not None:
        _read_factory(module, module.factory)
    elif len(bound) != 1:
        module.block(assignment, "factory", f"{target.id} is bound more than once")


def _read_factory(module: FlaskModule, factory: ast.FunctionDef) -> None:
    """Note what of a factory is more than making the application, for the one that is served."""
    tree, name = module.source.tree, module.name
    last = factory.body[-1]
    returned = (
        isinstance(last, ast.Return)
        and last.value is not None
        and (ast.unparse(last.value) == name)
    )
    called = [
        node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == factory.name
    ]
    stored = [
        module.source.parents[node]
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
    ]
    served = [each for each in stored if each is not module.made]
    once = (
        len(called) == len(served) == 1 and ast.unparse(served[0]) == f"{name} = {factory.name}()"
    )
    if not returned or not once or factory.decorator_list or _parameters(factory):
        text = f"{factory.name} does not just make the application that the program serves"
        module.block(factory, "factory", text)


def _parameters(function: ast.FunctionDef) -> list[ast.arg]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [*named, *(each for each in (arguments.vararg, arguments.kwarg) if each)]


def read_run(module: FlaskModule, call: ast.Call) -> None:
    """Note the call that starts the development server, and what of it Uvicorn has not."""
    statement = module.source.parents[call]
    if module.run is not None or not isinstance(statement, ast.Expr):
        module.block(call, "main-block", "the server is started in more than one way")
        return
    module.run = call
    guarded = any(
        isinstance(each, ast.FunctionDef)
        or (isinstance(each, ast.If) and "__name__" in ast.unparse(each.test))
        for each in module.source.around(call)
    )
    if not guarded:
        module.block(call, "main-block", "importing the module starts the server")
    given = [each.arg for each in call.keywords]
    if len(call.args) > 2 or any(isinstance(each, ast.Starred) for each in call.args):
        module.block(call, "main-block", "arguments of run are not understood")
    for each in call.keywords:
        constant = isinstance(each.value, ast.Constant)
        if each.arg == "threaded" and not (constant and ast.literal_eval(each.value)):
            module.block(call, "single-threaded", "it may be told to answer one at a time")
        elif each.arg not in (*RUN_DROPPED, "host", "port"):
            module.block(call, "main-block", f"run is given {each.arg or '**'}")
    if "host" in given[: len(call.args)]:
        module.block(call, "main-block", "arguments of run are not understood")
