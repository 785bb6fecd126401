"""Whether the expressions that load a model mean the same for the whole life of a process."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mega_optimizer.codemods.database.constants import PURE, PURE_METHODS, Inputs, is_constant
from mega_optimizer.repository.python import Value

if TYPE_CHECKING:
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts

DEPTH = 4
LIBRARIES = frozenset({"torch", "transformers", "diffusers", "whisper", "pathlib", "builtins"})
CHANCE = re.compile(r"^torch\.(?:rand|normal|bernoulli|multinomial|seed|manual_seed)")
CALLS = PURE | {
    "os.getenv", "os.environ.get", "os.path.join", "os.path.dirname", "os.path.abspath",
    "os.path.realpath", "os.path.exists", "os.path.isdir", "os.path.isfile", "builtins.open",
    "builtins.print",
}  # fmt: skip
PATH_METHODS = PURE_METHODS | frozenset(
    {
        "resolve", "absolute", "expanduser", "joinpath", "as_posix", "with_name", "with_suffix",
        "exists", "is_dir", "is_file", "startswith", "endswith", "is_available",
    }
)  # fmt: skip
LOGGING = re.compile(
    r"^(?:self\.|app\.)?_?(?:log|logger|logging|LOGGER|LOG)"
    r"\.(?:debug|info|warning|error|exception)$"
)
PARTS = (
    ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.BinOp,
    ast.BoolOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.keyword, ast.Starred, ast.Subscript,
    ast.Slice, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


@dataclass(slots=True)
class Steady:
    """Asks about the expressions of one module; ``inputs`` collects what they draw on.

    ``local`` are names of the function around that are steady themselves.
    """

    program: Program
    facts: PythonFacts
    local: frozenset[str] = frozenset()
    inputs: Inputs = field(default_factory=Inputs)
    depth: int = 0

    def holds(self, node: ast.AST) -> bool:
        """Whether ``node`` gives the same (or an equal new object) whenever it is evaluated."""
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                self.inputs.texts.append(node.value)
            return True
        if isinstance(node, ast.Call):
            return self._call_holds(node)
        if isinstance(node, ast.Name | ast.Attribute):
            text = dotted(node)
            if text is None:
                return isinstance(node, ast.Attribute) and self.holds(node.value)
            return self._name_holds(text)
        if isinstance(node, PARTS):
            return all(self.holds(each) for each in ast.iter_child_nodes(node))
        return False

    def _name_holds(self, text: str) -> bool:
        root = text.partition(".")[0]
        if root in self.local:
            return True
        name = self.facts.resolve(text)
        if name is None:
            return False
        if name.partition(".")[0] in LIBRARIES or name.startswith("os.environ"):
            return True
        value = Value("name", text, name)
        return is_constant(self.program, self.facts, value, "", self.inputs)

    def _call_holds(self, node: ast.Call) -> bool:
        text = dotted(node.func)
        if text is not None and LOGGING.match(text):
            return True
        if not all(self.holds(each) for each in (*node.args, *node.keywords)):
            return False
        if text is None:
            method = node.func
            return isinstance(method, ast.Attribute) and self.holds(method.value)
        root, _, last = text.partition(".")[0], "", text.rpartition(".")[2]
        if root in self.local:
            return True
        name = self.facts.resolve(text)
        if name is None:
            return False
        if name in CALLS:
            return True
        if name.partition(".")[0] in LIBRARIES:
            return CHANCE.match(name) is None
        if not (node.args or node.keywords) and self._own_function_holds(name):
            return True
        owner = text.rpartition(".")[0]
        return bool(owner) and last in PATH_METHODS and self._name_holds(owner)

    def _own_function_holds(self, name: str) -> bool:
        """Whether a function of the service without parameters returns a steady expression."""
        found = self.program.definition(self.facts.path, name)
        home = self.program.facts(found.path) if found is not None else None
        function = home.function(found.name) if home is not None and found is not None else None
        content = self.program.read(found.path) if found is not None else None
        if home is None or found is None or function is None or content is None:
            return False
        if function.parameters or function.is_async or self.depth >= DEPTH:
            return False
        self.inputs.words.add(function.path)
        node = next(
            (
                each
                for each in ast.parse(content).body
                if isinstance(each, ast.FunctionDef) and each.name == found.name
            ),
            None,
        )
        if node is None:
            return False
        body = node.body[int(ast.get_docstring(node) is not None) :]
        inner = Steady(self.program, home, inputs=self.inputs, depth=self.depth + 1)
        return all(_returns_steadily(inner, each) for each in body)


def _returns_steadily(steady: Steady, statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Return):
        return statement.value is not None and steady.holds(statement.value)
    if isinstance(statement, ast.If):
        inner = (*statement.body, *statement.orelse)
        return steady.holds(statement.test) and all(_returns_steadily(steady, e) for e in inner)
    return False


def dotted(node: ast.AST) -> str | None:
    """Return ``a.b.c`` for a name or a chain of attributes of a name, else None."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None
