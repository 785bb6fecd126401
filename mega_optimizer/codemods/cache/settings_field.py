"""Where a service keeps its settings, and how one more is added to them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.cache.settings_class import BASE_SETTINGS
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.module_paths import import_path, reaches
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    import libcst as cst

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.draft import Draft
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.codemods.startup import Startup
    from mega_optimizer.repository.python import Class, PythonFacts


@dataclass(frozen=True, slots=True)
class SettingsField:
    """A field of a settings object that the module at ``path`` holds as ``instance``.

    ``variable`` is what the environment calls it. ``is_there`` says that nothing has to be added.
    """

    path: str
    owner: str
    instance: str
    field: str
    variable: str
    is_there: bool


def has_settings(program: Program) -> bool:
    """Whether the service reads settings through pydantic at all."""
    return next(program.containing(rb"\bBaseSettings\b", program.product), None) is not None


def settings_field(program: Program, name: str) -> SettingsField | None:
    """Return where a text setting ``name`` (lower case) belongs; None where that is not plain."""
    pattern = rb"\bBaseSettings\b"
    classes: list[tuple[PythonFacts, Class]] = [
        (facts, each)
        for path in program.containing(pattern, program.product, b"BaseSettings")
        if (facts := program.facts(path)) is not None
        for each in facts.classes
        if any(base.name in BASE_SETTINGS for base in each.bases)
    ]
    if len(classes) != 1:
        return None
    facts, owner = classes[0]
    instances = [
        each.target
        for each in facts.assignments
        if not each.scope and each.value.kind == "call" and each.value.name == f":{owner.path}"
    ]
    node = _class_node(program, facts.path, owner.path)
    if len(instances) != 1 or node is None or len(owner.bases) != 1:
        return None
    return _described(facts, owner.path, instances[0], node, name)


def _class_node(program: Program, path: str, name: str) -> ast.ClassDef | None:
    content = program.read(path)
    body = ast.parse(content).body if content is not None else []
    return next((n for n in body if isinstance(n, ast.ClassDef) and n.name == name), None)


def _described(
    facts: PythonFacts, owner: str, instance: str, node: ast.ClassDef, name: str
) -> SettingsField | None:
    fields = [
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]
    source = ast.unparse(node)
    prefix = re.search(r"env_prefix'?[=:] ?'(\w*)'", source)
    hidden = "env_prefix" in source and prefix is None
    if not fields or hidden or "alias_generator" in source:
        return None
    upper = all(each.isupper() for each in fields)
    field = name.upper() if upper else name
    if "case_sensitive" in source and not upper:
        return None
    if name in fields or name.upper() in fields:
        own = name if name in fields else name.upper()
        annotation = next(
            ast.unparse(each.annotation)
            for each in node.body
            if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == own
        )
        if not re.fullmatch(r"str|str \| None|Optional\[str\]", annotation):
            return None
        field = own
    variable = f"{prefix[1] if prefix else ''}{field}".upper()
    return SettingsField(facts.path, owner, instance, field, variable, field in fields)


def reading(context: Context, startup: Startup, field: SettingsField) -> tuple[str, str] | Skip:
    """Return the import and the expression that read ``field`` beside the module of ``startup``."""
    dotted = import_path(context, startup.path, field.path)
    if dotted is None or reaches(context.program, field.path, startup.path, "maybe"):
        reason = f"how a module beside {startup.path} would import {field.path} is not shown"
        return Skip(startup.place, "import-path-unknown", reason)
    return f"from {dotted} import {field.instance}", f"{field.instance}.{field.field}"


def add_field(draft: Draft, field: SettingsField, comment: str) -> Skip | None:
    """Add ``field`` to its class; None if it is done."""
    tree = draft.tree(field.path)
    if isinstance(tree, Skip):
        return tree
    changed = _with_field(tree, field, comment)
    if changed is None:
        return Skip(Place(field.path), "shape-not-known", f"{field.owner} has no fields")
    draft.put(field.path, changed)
    return None


def _with_field(tree: cst.Module, place: SettingsField, comment: str) -> cst.Module | None:
    """Return the module with the field, empty by default, behind the fields of its class."""
    import libcst as cst

    body = list(tree.body)
    for position, statement in enumerate(body):
        if not isinstance(statement, cst.ClassDef) or statement.name.value != place.owner:
            continue
        inner = list(statement.body.body)
        fields = [i for i, each in enumerate(inner) if _field(each)]
        urls = [i for i in fields if re.search(r"(?i)_(?:url|uri|dsn)$", _field(inner[i]) or "")]
        last = max(urls or fields, default=None)
        if last is None:
            return None
        added = cst.parse_statement(f'{place.field}: str = ""  # {comment}\n')
        inner.insert(last + 1, added)
        body[position] = statement.with_changes(body=statement.body.with_changes(body=inner))
        return tree.with_changes(body=body)
    return None


def _field(statement: cst.CSTNode) -> str | None:
    """Return the name of the annotated field that a statement defines, else None."""
    import libcst as cst

    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        return None
    only = statement.body[0]
    if not isinstance(only, cst.AnnAssign) or not isinstance(only.target, cst.Name):
        return None
    return only.target.value
