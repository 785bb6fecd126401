"""Add an import as a person would, and take away one that has become unused.

Our own, because libcst's ``AddImportsVisitor`` duplicates names that exist under an alias, in a
function or behind ``try``, ignores clashes and breaks one-name-per-line lists, and its
``RemoveImportsVisitor`` takes ``# noqa: F401`` and re-exports away.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, NamedTuple, cast

import libcst as cst

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.python import LINE_LENGTH, dotted_name
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mega_optimizer.repository.python import PythonFacts

KEPT_COMMENT = re.compile(r"#.*\b(noqa\b(?!:)|noqa:.*\bF401\b|isort:\s*skip|pragma|pylint)", re.I)
Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement


class Line(NamedTuple):
    """A module-level import statement that stands alone on its line."""

    position: int
    statement: cst.SimpleStatementLine
    node: cst.Import | cst.ImportFrom

    @property
    def module(self) -> str:
        """The dotted module that is imported (from), with leading dots where relative."""
        if isinstance(self.node, cst.Import):
            return dotted_name(self.node.names[0].name) or ""
        name = dotted_name(self.node.module) if self.node.module else ""
        return "." * len(self.node.relative) + (name or "")

    @property
    def sort_key(self) -> tuple[bool, str]:
        """Isort's and ruff's order within a section: plain imports first, then by module."""
        return isinstance(self.node, cst.ImportFrom), self.module.lower()

    @property
    def section(self) -> int:
        """Isort's section: 0 future, 1 standard library, 2 installed or own, 3 relative."""
        return _section(self.module)


def ensure_import(
    tree: cst.Module,
    facts: PythonFacts,
    module: str,
    name: str,
    before: int,
    *,
    beside: Sequence[str] = (),
    own: Callable[[str], bool] | None = None,
) -> tuple[cst.Module, str] | Skip:
    """Make ``from module import name`` hold at module level, ahead of line ``before``.

    Where the file keeps its imports in several blocks, that of a package in ``beside`` is chosen.
    ``own`` tells modules of the service itself, which stand in a block of their own.
    Returns the tree and the local name (an existing alias is used). Skip codes: ``name-taken``,
    ``conditional-import``, ``star-import``, ``no-place-for-import``.
    """
    target = f"{module}.{name}"
    known = [
        each for each in facts.imports if each.target == target and not each.scope and each.bound
    ]
    for each in known:
        if facts.bindings.get(each.bound) == target and each.line < before:
            return tree, each.bound
    place = Place(facts.path, known[0].line if known else before)
    if any(each.where != "plain" for each in known):
        return Skip(place, "conditional-import", f"{name} is imported conditionally")
    if any(each.bound == "*" for each in facts.imports):
        return Skip(place, "star-import", f"a star import hides where {name} comes from")
    if name in facts.bound_names:
        return Skip(place, "name-taken", f"{name} already means something else in this file")
    lines = [line for line in _lines(tree) if _starts_before(line, facts, before)]
    merged = _merged(tree, lines, module, name)
    if merged is not None:
        return merged, name
    inserted = _first_of_its_own(tree, lines, module, name, own) if own is not None else None
    if inserted is None:
        inserted = _inserted(tree, _block_of(lines, beside) or lines, module, name)
    if inserted is None:
        return Skip(place, "no-place-for-import", "no import block to add to")
    return inserted, name


def ensure_module(
    tree: cst.Module, facts: PythonFacts, module: str, before: int
) -> tuple[cst.Module, str] | Skip:
    """Make ``import module`` (no dots) hold at module level, ahead of line ``before``.

    Returns the tree and the local name. Skip codes: those of :func:`ensure_import`.
    """
    known = [each for each in facts.imports if each.target == module and not each.scope]
    for each in known:
        if facts.bindings.get(each.bound) == module and each.line < before:
            return tree, each.bound
    place = Place(facts.path, known[0].line if known else before)
    if known:
        return Skip(place, "conditional-import", f"{module} is imported conditionally")
    if any(each.bound == "*" for each in facts.imports):
        return Skip(place, "star-import", f"a star import hides what {module} is")
    if module in facts.bound_names:
        return Skip(place, "name-taken", f"{module} already means something else in this file")
    lines = [line for line in _lines(tree) if _starts_before(line, facts, before)]
    node = cst.Import(names=[cst.ImportAlias(cst.Name(module))])
    inserted = _inserted_node(tree, lines, node, module, (False, module.lower()))
    if inserted is None:
        return Skip(place, "no-place-for-import", "no import block to add to")
    return inserted, module


def _block_of(lines: list[Line], packages: Sequence[str]) -> list[Line]:
    """Return the block of imports, without a blank line in it, that imports one of ``packages``."""
    blocks: list[list[Line]] = []
    for line in lines:
        follows = bool(blocks) and blocks[-1][-1].position == line.position - 1
        if follows and not line.statement.leading_lines:
            blocks[-1].append(line)
        else:
            blocks.append([line])
    wanted = frozenset(packages)
    return next(
        (block for block in blocks if any(x.module.partition(".")[0] in wanted for x in block)), []
    )


def _lines(tree: cst.Module) -> list[Line]:
    return [
        Line(position, statement, statement.body[0])
        for position, statement in enumerate(tree.body)
        if isinstance(statement, cst.SimpleStatementLine)
        and len(statement.body) == 1
        and isinstance(statement.body[0], cst.Import | cst.ImportFrom)
    ]


def _starts_before(line: Line, facts: PythonFacts, before: int) -> bool:
    """Whether the facts know this import above line ``before`` (libcst has no positions)."""
    return any(
        each.line < before and not each.scope and each.where == "plain"
        for each in facts.imports
        if _imports(line, each.target)
    )


def _imports(line: Line, target: str) -> bool:
    if isinstance(line.node, cst.Import):
        return any(dotted_name(alias.name) == target for alias in line.node.names)
    joint = "" if line.module.endswith(".") or not line.module else "."
    return any(f"{line.module}{joint}{name}" == target for name in _names(line.node))


def _names(node: cst.ImportFrom) -> list[str]:
    if isinstance(node.names, cst.ImportStar):
        return ["*"]
    return [dotted_name(alias.name) or "" for alias in node.names]


def _merged(tree: cst.Module, lines: list[Line], module: str, name: str) -> cst.Module | None:
    """Return the tree with ``name`` in the list of an existing import of ``module``."""
    candidates = [
        line
        for line in lines
        if isinstance(line.node, cst.ImportFrom)
        and line.module == module
        and not isinstance(line.node.names, cst.ImportStar)
        and not _keeps_apart(line.statement)
    ]
    single_names = sum(
        isinstance(each.node, cst.ImportFrom) and len(_names(each.node)) == 1 for each in lines
    )
    froms = sum(isinstance(each.node, cst.ImportFrom) for each in lines)
    repeated = len({each.module for each in lines}) < len(lines)
    if not candidates or (single_names == froms and repeated):  # one name per import line
        return None
    line = candidates[0]
    node = cast("cst.ImportFrom", line.node)
    changed = with_name(node, name)
    statement = line.statement.with_changes(body=[changed])
    text = tree.code_for_node(statement.with_changes(leading_lines=[]))
    if "\n" not in text.rstrip("\n") and len(text.rstrip("\n")) > LINE_LENGTH:
        return None
    return _with_statement(tree, line.position, statement)


def with_name(node: cst.ImportFrom, name: str) -> cst.ImportFrom:
    """Return an import of names with one more, where its order wants it."""
    aliases = list(cast("Sequence[cst.ImportAlias]", node.names))
    names = _names(node)
    position = len(aliases)
    key = next((k for k in (_isort_key, _plain_key) if names == sorted(names, key=k)), None)
    if key is not None:
        position = next((i for i, each in enumerate(names) if key(each) > key(name)), position)
    return node.with_changes(names=_with_alias(aliases, position, name))


def _isort_key(name: str) -> tuple[int, str]:
    """Isort's default order of names: CONSTANTS, Classes, functions (ruff's likewise)."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name


def _plain_key(name: str) -> tuple[int, str]:
    return 0, name.lower()


def _with_alias(aliases: list[cst.ImportAlias], position: int, name: str) -> list[cst.ImportAlias]:
    added = cst.ImportAlias(cst.Name(name))
    between = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    if len(aliases) > 1 and isinstance(aliases[0].comma, cst.Comma):
        between = aliases[0].comma
        space = between.whitespace_after
        if isinstance(space, cst.ParenthesizedWhitespace):
            plain = cst.TrailingWhitespace(
                whitespace=cst.SimpleWhitespace(""), newline=space.first_line.newline
            )
            between = between.with_changes(
                whitespace_after=space.with_changes(first_line=plain, empty_lines=[])
            )
    if position < len(aliases):
        return [*aliases[:position], added.with_changes(comma=between), *aliases[position:]]
    last = aliases[-1]
    added = added.with_changes(comma=last.comma)
    return [*aliases[:-1], last.with_changes(comma=between), added]


def _keeps_apart(statement: cst.SimpleStatementLine) -> bool:
    comment = statement.trailing_whitespace.comment
    return comment is not None and KEPT_COMMENT.search(comment.value) is not None


def _inserted(tree: cst.Module, lines: list[Line], module: str, name: str) -> cst.Module | None:
    """Return the tree with a new import line, in isort's order where the file keeps it."""
    node = _import_from(module, name)
    return _inserted_node(tree, lines, node, module, (True, module.lower()))


def _inserted_node(
    tree: cst.Module,
    lines: list[Line],
    node: cst.Import | cst.ImportFrom,
    module: str,
    key: tuple[bool, str],
) -> cst.Module | None:
    section = _section(module)
    added = cst.SimpleStatementLine([node])
    same = [line for line in lines if line.section == section]
    root = module.partition(".")[0]
    family = [line for line in same if line.module.partition(".")[0] == root] or same
    if all(isinstance(line.node, cst.Import) for line in family):
        family = _block(same, family[-1]) if family else same
    earlier = [line for line in family if line.sort_key <= key]
    if earlier:
        # not the last one: the imports of the service itself follow those of packages
        nearest = max(earlier, key=lambda line: (line.sort_key, line.position))
        return _with_inserted(tree, nearest.position + 1, added)
    if family:
        first = family[0]
        moved = first.statement.with_changes(leading_lines=[])
        added = added.with_changes(leading_lines=first.statement.leading_lines)
        if any(each.comment for each in first.statement.leading_lines):
            return None
        return _with_inserted(_with_statement(tree, first.position, moved), first.position, added)
    return _new_section(tree, lines, section, added)


def _first_of_its_own(
    tree: cst.Module, lines: list[Line], module: str, name: str, own: Callable[[str], bool]
) -> cst.Module | None:
    """Return the tree with an import of the service's own code behind all those of packages.

    None where there is no such thing to add: the file imports its service's code already.
    """
    packages = [line for line in lines if line.section <= 2]
    if module.startswith(".") or not packages or not own(module):
        return None
    if any(own(line.module) for line in packages):
        return None
    blank = cst.EmptyLine(indent=False)
    added = cst.SimpleStatementLine([_import_from(module, name)], leading_lines=[blank])
    return _with_inserted(tree, packages[-1].position + 1, added)


def _block(lines: list[Line], one: Line) -> list[Line]:
    """Return those of ``lines`` that stand together with ``one``, no empty line in between."""
    block = [one]
    for line in lines:
        follows = line.position == block[-1].position + 1 and not line.statement.leading_lines
        if line.position > one.position and follows:
            block.append(line)
    for line in reversed(lines):
        first = block[0]
        if line.position == first.position - 1 and not first.statement.leading_lines:
            block.insert(0, line)
    return block


def _import_from(module: str, name: str) -> cst.ImportFrom:
    absolute = module.lstrip(".")
    return cst.ImportFrom(
        module=cast("cst.Name | cst.Attribute", cst.parse_expression(absolute))
        if absolute
        else None,
        names=[cst.ImportAlias(cst.Name(name))],
        relative=[cst.Dot()] * (len(module) - len(absolute)),
    )


def _new_section(
    tree: cst.Module, lines: list[Line], section: int, added: cst.SimpleStatementLine
) -> cst.Module | None:
    blank = cst.EmptyLine(indent=False)
    before = [line for line in lines if line.section < section]
    if before:
        return _with_inserted(
            tree, before[-1].position + 1, added.with_changes(leading_lines=[blank])
        )
    after = [line for line in lines if line.section > section]
    if not after or any(each.comment for each in after[0].statement.leading_lines):
        return None
    first = after[0]
    if first.position == 0 and not first.statement.leading_lines:
        lower = first.statement.with_changes(leading_lines=[blank])
        return _with_inserted(_with_statement(tree, 0, lower), 0, added)
    added = added.with_changes(leading_lines=first.statement.leading_lines)
    lower = first.statement.with_changes(leading_lines=[blank])
    return _with_inserted(_with_statement(tree, first.position, lower), first.position, added)


def _section(module: str) -> int:
    if module.startswith("."):
        return 3
    root = module.partition(".")[0]
    if root == "__future__":
        return 0
    return 1 if root in sys.stdlib_module_names else 2


def _with_statement(tree: cst.Module, position: int, statement: Statement) -> cst.Module:
    body = list(tree.body)
    body[position] = statement
    return tree.with_changes(body=body)


def _with_inserted(tree: cst.Module, position: int, statement: Statement) -> cst.Module:
    body = list(tree.body)
    body.insert(position, statement)
    return tree.with_changes(body=body)


def without_import(
    tree: cst.Module, facts: PythonFacts, bound: str, *, is_mentioned: bool | None = None
) -> cst.Module:
    """Return the tree without the import of the local name ``bound``, where nothing needs it.

    It stays in ``__init__.py``, behind ``noqa`` and isort comments, as ``X as X``, and where a
    string (``__all__``, a doctest, an annotation) names it. Whether *other* modules import it
    from here, the caller must have looked. ``is_mentioned`` says whether something needs the name,
    where the caller knows.
    """
    imports = [each for each in facts.imports if each.bound == bound]
    if facts.path.rpartition("/")[2] == "__init__.py" or len(imports) != 1 or imports[0].scope:
        return tree
    if is_mentioned is None:
        mentions = _Mentions(bound)
        tree.visit(mentions)
        is_mentioned = mentions.found
    line = next((line for line in _lines(tree) if _binds(line, bound)), None)
    if is_mentioned or line is None or _keeps_apart(line.statement):
        return tree
    node = line.node
    if isinstance(node, cst.Import):
        return _without_statement(tree, line.position) if len(node.names) == 1 else tree
    if isinstance(node.names, cst.ImportStar):
        return tree
    alias = next(alias for alias in node.names if _local(alias) == bound)
    if alias.asname is not None and dotted_name(alias.name) == bound:
        return tree  # ``X as X`` is a re-export (PEP 484)
    kept = [each for each in node.names if each is not alias]
    if not kept:
        return _without_statement(tree, line.position)
    if alias is node.names[-1]:
        closing: cst.Comma | cst.MaybeSentinel = alias.comma
        if not node.lpar:
            closing = cst.MaybeSentinel.DEFAULT
        kept[-1] = kept[-1].with_changes(comma=closing)
    changed = line.statement.with_changes(body=[node.with_changes(names=kept)])
    return _with_statement(tree, line.position, changed)


def _local(alias: cst.ImportAlias) -> str:
    name = alias.asname.name if alias.asname else alias.name
    return dotted_name(cast("cst.BaseExpression", name)) or ""


def _binds(line: Line, bound: str) -> bool:
    node = line.node
    if isinstance(node.names, cst.ImportStar):
        return False
    return any(_local(alias) == bound for alias in node.names)


def _without_statement(tree: cst.Module, position: int) -> cst.Module:
    body = list(tree.body)
    removed = cast("cst.SimpleStatementLine", body.pop(position))
    leading = list(removed.leading_lines)
    if leading and position < len(body):
        following = cast("cst.SimpleStatementLine", body[position])
        own = list(following.leading_lines)
        blank = not any(each.comment for each in (*leading, *own))
        # two groups that meet keep the wider of their gaps
        joined = max(leading, own, key=len) if blank else [*leading, *own]
        body[position] = following.with_changes(leading_lines=joined)
    return tree.with_changes(body=body)


class _Mentions(cst.CSTVisitor):
    """Whether a name is used, or named in a string, outside of import statements."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.word = re.compile(rf"\b{re.escape(name)}\b")
        self.found = False

    def visit_Import(self, node: cst.Import) -> bool:
        """Leave imports out."""
        return False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        """Leave imports out."""
        return False

    def visit_Name(self, node: cst.Name) -> None:
        """See a use."""
        self.found = self.found or node.value == self.name

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        """See ``__all__``, annotations and doctests."""
        self.found = self.found or self.word.search(node.value) is not None
