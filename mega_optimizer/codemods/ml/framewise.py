"""Whether a model is a module of the service's own that looks at each frame by itself."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.loading import own_nodes
from mega_optimizer.codemods.ml.steady import dotted
from mega_optimizer.codemods.source import Source, read_source

if TYPE_CHECKING:
    from mega_optimizer.codemods.ml.loading import Function
    from mega_optimizer.codemods.program import Definition, Program
    from mega_optimizer.repository.python import PythonFacts

# Layers of torch.nn that, in evaluation mode, compute each element of a batch from itself alone.
LAYERS = frozenset(
    {
        "Linear", "Conv2d", "ConvTranspose2d", "GroupNorm", "LayerNorm", "InstanceNorm2d",
        "BatchNorm2d", "BatchNorm1d", "SiLU", "ReLU", "LeakyReLU", "GELU", "ELU", "Tanh", "Sigmoid",
        "Softmax2d", "Softplus", "Hardswish", "Mish", "Upsample", "PixelShuffle", "PixelUnshuffle",
        "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Dropout", "Dropout2d", "Identity",
        "ReflectionPad2d", "ZeroPad2d", "Sequential", "ModuleList",
    }
)  # fmt: skip
HOPS = 4


def framewise_model(
    program: Program, facts: PythonFacts, source: Source, call: ast.Call
) -> tuple[str, str] | None:
    """Return why the model that ``call`` calls may look at other frames, None where it does not."""
    text = dotted(call.func)
    around = next(
        (e for e in source.around(call) if isinstance(e, ast.FunctionDef | ast.AsyncFunctionDef)),
        None,
    )
    if text is None or around is None:
        return "model-not-known", "what is called cannot be told"
    made = _made(program, facts, around, ast.parse(text, mode="eval").body, HOPS)
    if made is None:
        return "model-not-known", f"where {text} is made and put into evaluation mode is not seen"
    return _looks_elsewhere(program, made)


def _made(
    program: Program, facts: PythonFacts, function: Function, value: ast.expr, hops: int
) -> Definition | None:
    """Return the class of the module that ``value`` is, where it was put into evaluation mode."""
    evaluated = False
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        if value.func.attr not in ("to", "eval", "cuda", "cpu", "requires_grad_"):
            break
        evaluated = evaluated or value.func.attr == "eval"
        value = value.func.value
    if isinstance(value, ast.Name):
        return _of_variable(program, facts, function, value.id, evaluated, hops)
    if not isinstance(value, ast.Call) or hops == 0:
        return None
    text = dotted(value.func)
    found = program.definition(facts.path, facts.resolve(text)) if text else None
    home = program.facts(found.path) if found is not None else None
    if found is None or home is None:
        return None
    if any(each.path == found.name for each in home.classes):
        return found if evaluated else None
    maker = _function(program, found)
    if maker is None:
        return None
    returned = [each.value for each in own_nodes(maker) if isinstance(each, ast.Return)]
    made = {
        _made(program, home, maker, each, hops - 1) if each is not None else None
        for each in returned
    }
    return made.pop() if len(made) == 1 else None


def _of_variable(
    program: Program,
    facts: PythonFacts,
    function: Function,
    name: str,
    evaluated: bool,
    hops: int,
) -> Definition | None:
    assigned = [
        each.value
        for each in own_nodes(function)
        if isinstance(each, ast.Assign)
        and len(each.targets) == 1
        and isinstance(each.targets[0], ast.Name)
        and each.targets[0].id == name
    ]
    if len(assigned) != 1:
        return None
    calls = {dotted(each.func) for each in own_nodes(function) if isinstance(each, ast.Call)}
    if f"{name}.train" in calls:
        return None
    value = assigned[0]
    if evaluated or f"{name}.eval" in calls:
        value = ast.Call(ast.Attribute(value, "eval", ast.Load()), [], [])
    return _made(program, facts, function, value, hops)


def _function(program: Program, found: Definition) -> Function | None:
    content = program.read(found.path)
    source = read_source(found.path, content) if content is not None else None
    if not isinstance(source, Source):
        return None
    named = [
        each
        for each in source.tree.body
        if isinstance(each, ast.FunctionDef) and each.name == found.name
    ]
    return named[0] if len(named) == 1 else None


def _looks_elsewhere(program: Program, made: Definition) -> tuple[str, str] | None:
    """Return why a class of modules may not compute each frame from itself alone."""
    content = program.read(made.path)
    source = read_source(made.path, content) if content is not None else None
    facts = program.facts(made.path)
    if not isinstance(source, Source) or facts is None:
        return "model-not-known", f"{made.path} cannot be read"
    owner = next(
        each
        for each in source.tree.body
        if isinstance(each, ast.ClassDef) and each.name == made.name
    )
    bases = [facts.resolve(dotted(each) or "") for each in owner.bases]
    if bases != ["torch.nn.Module"]:
        return "model-not-known", f"{made.name} has more bases than torch.nn.Module"
    methods = [each for each in owner.body if isinstance(each, ast.FunctionDef)]
    for method in methods:
        if method.name == "__init__":
            other = _other_layer(facts, method)
            if other is not None:
                return "frames-depend", f"{other} of {made.name} may look at other frames"
            continue
        if method.name != "forward":
            return "model-not-known", f"{made.name} has a method {method.name}"
        changed = _stateful(method)
        if changed is not None:
            return "frames-depend", f"{made.name}.forward {changed}"
    return None


def _other_layer(facts: PythonFacts, method: ast.FunctionDef) -> str | None:
    """Return a layer that is not known to compute each element of a batch by itself."""
    for node in ast.walk(method):
        text = dotted(node.func) if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and text is None:
            if ast.unparse(node.func) == "super().__init__":
                continue
            return ast.unparse(node.func)
        if text is None or text in ("super", "range", "len", "int"):
            continue
        name = facts.resolve(text) or text
        keywords = {each.arg for each in node.keywords} if isinstance(node, ast.Call) else set()
        if "track_running_stats" in keywords or None in keywords:
            return text
        if not (name.startswith("torch.nn.") and name.rpartition(".")[2] in LAYERS):
            return text
    return None


def _stateful(method: ast.FunctionDef) -> str | None:
    """Return what in ``forward`` is more than layers applied to sums and products."""
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            return f"keeps {ast.unparse(node)}"
        if isinstance(node, ast.Call):
            text = dotted(node.func) or ""
            if not text.startswith("self."):
                return f"calls {ast.unparse(node.func)}"
        if isinstance(node, ast.Subscript) and not _keeps_the_batch(node.slice):
            return f"picks {ast.unparse(node)}"
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple | ast.Dict):
            return "returns several things"
        if isinstance(node, ast.MatMult | ast.For | ast.While | ast.If):
            return "is more than layers one after another"
    return None


def _keeps_the_batch(index: ast.expr) -> bool:
    first = index.elts[0] if isinstance(index, ast.Tuple) and index.elts else index
    return isinstance(first, ast.Slice) and ast.unparse(first) == ":"
