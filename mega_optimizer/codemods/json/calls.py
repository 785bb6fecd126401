"""What calls give: built-ins, methods of strings and dicts, and functions of the service."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mega_optimizer.codemods.json.shape import (
    BOOL,
    FINITE,
    FLOAT,
    INT,
    INT64,
    NONE,
    NUMBERS,
    PARSED,
    STR,
    Shape,
    held,
    iterated,
    join,
    mapping,
    only,
    sequence,
    unknown,
    valued,
    without_none,
)
from mega_optimizer.codemods.program import Definition

if TYPE_CHECKING:
    from mega_optimizer.codemods.json.values import Frame, Values

NAMED = {
    "builtins.str": STR, "builtins.repr": STR, "builtins.format": STR, "builtins.chr": STR,
    "builtins.hex": STR, "builtins.len": INT64, "builtins.ord": INT64, "builtins.int": INT,
    "builtins.float": FLOAT, "builtins.bool": BOOL, "builtins.isinstance": BOOL,
    "builtins.any": BOOL, "builtins.all": BOOL, "builtins.callable": BOOL,
    "builtins.hasattr": BOOL, "math.ceil": INT, "math.floor": INT, "time.time": FINITE,
    "time.perf_counter": FINITE, "time.monotonic": FINITE, "os.getpid": INT64,
    "socket.gethostname": STR, "platform.node": STR, "platform.python_version": STR,
    "os.path.basename": STR, "os.path.join": STR, "os.path.exists": BOOL, "os.path.isfile": BOOL,
    "secrets.token_hex": STR, "secrets.token_urlsafe": STR, "importlib.metadata.version": STR,
}  # fmt: skip
# Methods that give a string whatever they belong to.
STRINGS = frozenset({"isoformat", "hexdigest", "upper", "lower", "title", "capitalize"})
OF_STRINGS = frozenset(
    {"strip", "lstrip", "rstrip", "replace", "removeprefix", "removesuffix", "format", "join",
     "zfill", "ljust", "rjust", "center", "casefold", "swapcase", "expandtabs", "translate"}
)  # fmt: skip
PARSERS = frozenset({"json.loads", "json.load", "orjson.loads"})
ENVIRONMENT = frozenset({"os.getenv", "os.environ.get"})


class CallReader:
    """Reads calls for :class:`Values`."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def shape(self, frame: Frame, call: ast.Call) -> Shape:
        """Return what a call gives."""
        text = ast.unparse(call.func)
        name = self._resolved(frame, text)
        if _parses(call, name):
            return PARSED
        if name in NAMED:
            return NAMED[name]
        if name in ENVIRONMENT:
            return join(STR, self._default(frame, call))
        builtin = self._builtin(frame, call, (name or "").removeprefix("builtins."))
        if builtin is not None:
            return builtin
        found = self._values.program.definition(frame.tree.path, name)
        if found is not None:
            return self._own(frame, call, found)
        if isinstance(call.func, ast.Attribute):
            return self._method(frame, call, call.func)
        return unknown(f"{text}()")

    def _resolved(self, frame: Frame, text: str) -> str | None:
        root = text.partition(".")[0]
        if root in frame.bound or (frame.function is not None and self._is_local(frame, root)):
            return None
        resolved = frame.tree.facts.resolve(text)
        if resolved is None and root not in frame.tree.facts.bound_names:
            return f"builtins.{text}"
        return resolved

    def _is_local(self, frame: Frame, name: str) -> bool:
        function = frame.function
        assert function is not None
        arguments = function.args
        given = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        bound = frame.tree.scope(function).bindings
        return name in bound or any(each.arg == name for each in given)

    def _default(self, frame: Frame, call: ast.Call) -> Shape:
        given = [each.value for each in call.keywords if each.arg == "default"]
        values = [*call.args[1:2], *given]
        return self._values.shape(frame, values[0]) if values else NONE

    def _builtin(self, frame: Frame, call: ast.Call, name: str) -> Shape | None:
        values = self._values
        first = values.shape(frame, call.args[0]) if call.args else None
        if name in ("list", "sorted", "reversed", "tuple"):
            if first is None:
                return sequence(Shape(), many=False)
            return first if first.unknown else sequence(iterated(first), many=True)
        if name == "dict":
            return self._dict(frame, call, first)
        if name == "range":
            shapes = [values.shape(frame, each) for each in call.args]
            narrow = all(only(each, {"int64"}) for each in shapes)
            return sequence(INT64 if narrow else INT, many=True)
        if first is None:
            return None
        if name == "round":
            if len(call.args) == 1:
                return INT
            return first if only(first, NUMBERS) else unknown("a rounded value")
        if name in ("abs", "sum", "min", "max"):
            inner = [values.shape(frame, each) for each in call.args]
            shape = iterated(inner[0]) if len(inner) == 1 and name != "abs" else join(*inner)
            shape = join(shape, self._fallback(frame, call)) if name in ("min", "max") else shape
            if not only(shape, NUMBERS | {"bool", "str", "none"}):
                return unknown(f"{name}()")
            return join(shape, INT) if name == "sum" else shape
        if name == "next":
            return join(iterated(first), *(values.shape(frame, each) for each in call.args[1:]))
        if name == "enumerate":
            return sequence(unknown("pairs"), many=True)
        return None

    def _fallback(self, frame: Frame, call: ast.Call) -> Shape:
        given = [each.value for each in call.keywords if each.arg == "default"]
        return self._values.shape(frame, given[0]) if given else Shape()

    def _dict(self, frame: Frame, call: ast.Call, first: Shape | None) -> Shape:
        shapes = [first] if first is not None else [mapping(Shape(), many=False)]
        for each in call.keywords:
            value = self._values.shape(frame, each.value)
            shapes.append(value if each.arg is None else mapping(value, many=False))
        joined = join(*shapes)
        return joined if joined.item is None and not joined.leaves else unknown("dict()")

    def _own(self, frame: Frame, call: ast.Call, found: Definition) -> Shape:
        tree = self._values.tree(found.path)
        if tree is not None and found.name in tree.classes:
            return Shape(instance=found)
        node = tree.functions.get(found.name) if tree is not None else None
        if tree is None or node is None:
            return self._method_of_constant(frame, call, found)
        bound: dict[str, Shape] = {}
        parameters = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
        if not any(isinstance(each, ast.Starred) for each in call.args):
            for name, value in zip(parameters, call.args, strict=False):
                bound[name] = self._values.shape(frame, value)
        for each in call.keywords:
            if each.arg is not None:
                bound[each.arg] = self._values.shape(frame, each.value)
        known = {name: shape for name, shape in bound.items() if _is_plain(shape)}
        shape = self._values.returns(found, known)
        declared = self._values.declared.annotation(tree, node.returns)
        # the author's word for a class or a plain value, where the body cannot be followed
        return declared if shape.unknown and not declared.unknown else shape

    def _method_of_constant(self, frame: Frame, call: ast.Call, found: Definition) -> Shape:
        if isinstance(call.func, ast.Attribute):
            return self._method(frame, call, call.func)
        return unknown(f"{found.name}()")

    def _method(self, frame: Frame, call: ast.Call, method: ast.Attribute) -> Shape:
        name = method.attr
        if name in STRINGS:
            return STR
        owner = self._values.shape(frame, method.value)
        if name in OF_STRINGS and only(owner, {"str"}):
            return STR
        if name in ("split", "splitlines", "rsplit") and only(owner, {"str"}):
            return sequence(STR, many=True)
        if name in ("partition", "rpartition") and only(owner, {"str"}):
            return sequence(STR, many=False)
        if only(owner, {"str"}) and name in ("startswith", "endswith", "isdigit", "isalpha"):
            return BOOL
        if owner.instance is not None and not owner.unknown and not owner.leaves:
            return self._of_instance(call, name, owner.instance)
        if owner.unknown:
            return unknown(f"{ast.unparse(method)}()"[:60])
        value = valued(owner)
        if value is not None:
            if name in ("get", "pop", "setdefault"):
                absent = self._default(frame, call) if name == "get" else Shape()
                return join(value, absent)
            if name == "keys":
                return sequence(STR, many=True)
            if name == "values":
                return sequence(value, many=True)
        if name == "copy":
            return owner
        if name in ("pop", "popleft"):
            return held(owner)
        if name in ("index", "count", "find"):
            return INT64
        return unknown(f"{ast.unparse(method)}()"[:60])

    def _of_instance(self, call: ast.Call, name: str, owner: Definition) -> Shape:
        if name in ("model_dump", "dict") and not call.args:
            mode = {each.arg for each in call.keywords}
            fields = self._values.declared.fields(owner)
            harmless = {"exclude", "include", "exclude_none", "exclude_unset", "exclude_defaults"}
            if fields is not None and mode <= harmless:
                return fields
        tree = self._values.tree(owner.path)
        node = tree.functions.get(f"{owner.name}.{name}") if tree is not None else None
        if tree is not None and node is not None:
            return self._values.returns(Definition(owner.path, f"{owner.name}.{name}"))
        return unknown(f"{owner.name}.{name}()")


def _parses(call: ast.Call, name: str | None) -> bool:
    """Whether a call reads JSON, as it is: no hook makes other objects of it."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "json":
        return not call.args and not call.keywords
    return name in PARSERS and len(call.args) == 1 and not call.keywords


def _is_plain(shape: Shape) -> bool:
    """Whether an argument is a proven leaf: containers may be changed by the function."""
    bare = shape.item is None and shape.value is None
    return bare and not shape.unknown and without_none(shape) != Shape()
