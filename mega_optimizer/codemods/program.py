"""The Python modules of a service as one program: where a name of one module is defined."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mega_optimizer.codemods.import_lines import import_lines
from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.python import is_test

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.import_lines import When
    from mega_optimizer.repository.python import Call, PythonFacts

T = TypeVar("T")
REEXPORTS = 5  # how many modules a name may be handed through
# Imports as they stand in lines; a hundred times as fast as reading the facts of a module.
_IMPORTS = re.compile(
    rb"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)|import[ \t]+([^\n#]+))",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, order=True)
class Definition:
    """The dotted ``name`` of what the module at ``path`` defines; ``""`` is the module itself."""

    path: str
    name: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A module of the service that another one imports as ``dotted``."""

    dotted: str
    path: str
    when: When


class Program:
    """The modules of one service; each is read only when it is asked for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._facts: dict[str, PythonFacts | None] = {}
        self._imported: dict[str, tuple[Imported, ...]] = {}
        self._calls: dict[str, dict[str, list[Call]]] = {}
        self._definitions: dict[tuple[str, str], Definition | None] = {}
        self._imports: dict[str, tuple[str, ...]] = {}
        self._holders: dict[tuple[bytes, ...], frozenset[str]] = {}
        self._once: dict[tuple[Hashable, ...], Any] = {}
        self._modules = frozenset(context.service.modules)
        self.product = tuple(p for p in context.service.modules if not is_test(p))
        self.tests = tuple(p for p in context.service.modules if is_test(p))

    def once(self, make: Callable[..., T], *of: Hashable) -> T:
        """Return ``make(program, *of)``, made when it is asked for first."""
        key = (make, *of)
        if key not in self._once:
            self._once[key] = make(self, *of)
        return cast("T", self._once[key])

    def facts(self, path: str) -> PythonFacts | None:
        """Return the facts of a module, None where it cannot be understood."""
        if path not in self._facts:
            facts = self._context.python(path)
            self._facts[path] = None if isinstance(facts, Problem) else facts
        return self._facts[path]

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file of the snapshot, None where they cannot be read."""
        content = self._context.read(path)
        return content if isinstance(content, bytes) else None

    def containing(self, pattern: bytes, paths: tuple[str, ...], *literals: bytes) -> Iterator[str]:
        """Yield those of ``paths`` whose bytes match the regular expression ``pattern``.

        One of ``literals``, where some are given, is a part of every match: files without any are
        not even read.
        """
        matches = self._context.files.matching(pattern)
        holding = self._holding(tuple(each for each in literals if each))
        for path in paths:
            if (holding is None or path in holding) and matches(path):
                yield path

    def _holding(self, literals: tuple[bytes, ...]) -> frozenset[str] | None:
        """Return the modules that hold one of ``literals``; None where none are given."""
        if literals and literals not in self._holders:
            found = map(self._context.files.holding, literals)
            self._holders[literals] = frozenset().union(*found)
        return self._holders.get(literals)

    def calls(self, path: str, root: str) -> list[Call]:
        """Return the calls in the top-level function or class ``root`` of a module."""
        if path not in self._calls:
            facts = self.facts(path)
            grouped: defaultdict[str, list[Call]] = defaultdict(list)
            for call in facts.calls if facts is not None else ():
                grouped[call.scope.partition(".")[0]].append(call)
            self._calls[path] = grouped
        return self._calls[path].get(root, [])

    def with_word(self, word: str) -> list[str]:
        """Return the modules of the product that hold ``word`` as a word of its own."""
        holding = self._context.files.with_word(word.encode())
        return [path for path in self.product if path in holding]

    @cached_property
    def _by_suffix(self) -> dict[str, list[str]]:
        """Modules by every dotted suffix of their path: any folder but a package may be a root."""
        modules = self._context.service.modules
        packages = {p.removesuffix("/__init__.py") for p in modules if p.endswith("/__init__.py")}
        found: defaultdict[str, list[str]] = defaultdict(list)
        for path in modules:
            parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
            for start in range(len(parts)):
                if "/".join(parts[:start]) not in packages:
                    found[".".join(parts[start:])].append(path)
        return found

    def module(self, dotted: str, importer: str) -> str | None:
        """Return the path of the module ``dotted`` as seen from ``importer``, else None."""
        if dotted.startswith("."):
            return self._relative(dotted, importer)
        candidates = self._by_suffix.get(dotted, [])
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        nearness = [_shared_folders(each, importer) for each in candidates]
        best = max(nearness)
        nearest = [c for c, n in zip(candidates, nearness, strict=True) if n == best]
        return nearest[0] if len(nearest) == 1 else None

    def _relative(self, dotted: str, importer: str) -> str | None:
        name = dotted.lstrip(".")
        folders = importer.split("/")[: -(len(dotted) - len(name))]
        base = "/".join([*folders, *(name.split(".") if name else [])])
        choices = (f"{base}.py", f"{base}/__init__.py", "__init__.py" if not base else "")
        return next((each for each in choices if each in self._modules), None)

    def imports(self, path: str) -> tuple[str, ...]:
        """Return the service's modules that the module at ``path`` names in its imports."""
        if path not in self._imports:
            content = self._context.read(path)
            found = (
                self._split(path, target)
                for target in (_imported(path, content) if isinstance(content, bytes) else ())
            )
            paths = dict.fromkeys(each.path for each in found if each and each.path != path)
            self._imports[path] = tuple(paths)
        return self._imports[path]

    def imported_module(self, path: str, target: str) -> tuple[str, str] | None:
        """Return the dotted name and the path of the module that an import of ``target`` reads.

        ``target`` is an import's, as seen from the module at ``path``; None for other packages'.
        """
        found = self._split(path, target)
        if found is None:
            return None
        dotted = target.removesuffix(f".{found.name}") if found.name else target
        if dotted == target and found.name:  # ``from . import name``
            dotted = target.removesuffix(found.name)
        return dotted, found.path

    def imported(self, path: str) -> tuple[Imported, ...]:
        """Return the modules of the service that the module at ``path`` imports."""
        if path not in self._imported:
            content = self._context.read(path)
            lines = import_lines(path, content) if isinstance(content, bytes) else ()
            found: dict[Imported, None] = {}
            for line in lines:
                module = self.imported_module(path, line.target)
                if module is not None and module[1] != path:
                    found[Imported(*module, line.when)] = None
            self._imported[path] = tuple(found)
        return self._imported[path]

    def definition(self, path: str, name: str | None) -> Definition | None:
        """Return where the resolved ``name`` of the module at ``path`` is defined.

        Names are those of :class:`PythonFacts`; re-exports are followed. None for what other
        packages define, and where it cannot be told.
        """
        if name is None:
            return None
        if (path, name) not in self._definitions:
            self._definitions[path, name] = self._defined(path, name)
        return self._definitions[path, name]

    def _defined(self, path: str, name: str) -> Definition | None:
        for _ in range(REEXPORTS):
            if name.startswith(":"):
                return Definition(path, name[1:])
            found = self._split(path, name)
            if found is None or not found.name:
                return found
            facts = self.facts(found.path)
            resolved = facts.resolve(found.name) if facts else None
            if resolved is None:
                return None
            path, name = found.path, resolved
        return None

    def _split(self, path: str, name: str) -> Definition | None:
        dots = len(name) - len(name.lstrip("."))
        parts = name[dots:].split(".")
        for end in range(len(parts), -1 if dots else 0, -1):
            module = self.module("." * dots + ".".join(parts[:end]), path)
            if module is not None:
                return Definition(module, ".".join(parts[end:]))
        return None


@by_content(size=8192)
def _imported(path: str, content: bytes) -> tuple[str, ...]:
    """Return the dotted names that the import statements of a module bring in."""
    found: dict[str, None] = {}
    for module, names, modules in _IMPORTS.findall(content):
        listed = re.sub(rb"#[^\n]*|[()\\]", b" ", names or modules)
        for each in listed.split(b","):
            name = each.split()[0].decode(errors="replace") if each.split() else ""
            if module and name:
                base = module.decode()
                found[f"{base}{name}" if base.endswith(".") else f"{base}.{name}"] = None
            elif name:
                found[name] = None
    return tuple(found)


def _shared_folders(one: str, other: str) -> int:
    count = 0
    for left, right in zip(one.split("/"), other.split("/"), strict=False):
        if left != right:
            break
        count += 1
    return count
