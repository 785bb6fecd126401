"""Where a program listens, as far as its code says: fixed, or set by a variable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import Value

DEPTH = 5
LOOKUPS = frozenset({"os.environ.get", "os.getenv"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A text of the code, or that of the environment ``variable`` with the text as its default."""

    text: str | None = None
    variable: str | None = None

    def in_shell(self) -> str:
        """Return it as a POSIX shell would write it."""
        if self.variable is None:
            return self.text or ""
        return f"${{{self.variable}:-{self.text}}}" if self.text else f"${{{self.variable}}}"


def setting(
    program: Program, path: str, value: Value, scope: str = "", depth: int = DEPTH
) -> Setting | None:
    """Return what an expression of the module at ``path`` stands for, None where it is hidden."""
    if depth == 0:
        return None
    if value.kind == "constant":
        plain = isinstance(value.constant, str | int) and not isinstance(value.constant, bool)
        return Setting(str(value.constant)) if plain else None
    if value.kind == "call":
        given = [each.value for each in value.arguments if each.keyword is None and not each.star]
        if value.name in ("builtins.int", "builtins.str") and len(given) == 1:
            return setting(program, path, given[0], scope, depth - 1)
        if value.name in LOOKUPS and given and isinstance(given[0].constant, str):
            return _looked_up(program, path, given, scope, depth)
        return None
    if value.kind == "subscript" and value.name == "os.environ" and value.arguments:
        name = value.arguments[0].value.constant
        return Setting(None, name) if isinstance(name, str) else None
    if value.kind != "name":
        return None
    facts = program.facts(path)
    local = facts.assigned(value.text, scope) if facts is not None else None
    if local is not None:
        return setting(program, path, local, scope, depth - 1)
    target = program.definition(path, value.name)
    home = program.facts(target.path) if target is not None else None
    if target is None or home is None:
        return None
    owner, _, last = target.name.rpartition(".")
    assigned = home.assigned(last, owner)
    return setting(program, target.path, assigned, owner, depth - 1) if assigned else None


def _looked_up(
    program: Program, path: str, given: list[Value], scope: str, depth: int
) -> Setting | None:
    variable = str(given[0].constant)
    if len(given) == 1:
        return Setting(None, variable)
    default = setting(program, path, given[1], scope, depth - 1)
    if default is None or default.variable is not None:
        return None
    return Setting(default.text, variable)


def bind(host: Setting, port: Setting) -> str:
    """Return the address for gunicorn's ``--bind``, with variables as a shell writes them."""
    name = host.in_shell()
    return (
        f"[{name}]:{port.in_shell()}"
        if ":" in name and "$" not in name
        else (f"{name}:{port.in_shell()}")
    )
