"""Load rule folders into Rule objects. A rule is a folder; nothing else has to be registered."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from mega_optimizer.errors import RuleFolderError, UnknownRuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome

Level = Literal["safe", "review", "advice"]
LEVELS: tuple[Level, ...] = ("safe", "review", "advice")

REQUIRED_KEYS = frozenset({"id", "title", "level", "because", "why", "gain", "artifacts"})
OPTIONAL_KEYS = frozenset(
    {"after", "changes_answers", "needs", "literals", "parameters", "references"}
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One optimization: what it rewrites, how far it can be trusted, and when it holds.

    ``traits`` must all be proven for a service and none of ``not_traits`` may be; ``versions``
    (package → PEP 440 specifier) must hold for every version that the service allows. One of
    ``literals`` must occur in a Python file before it is parsed.
    """

    id: str
    title: str
    level: Level
    because: str
    why: str
    folder: Path
    artifacts: tuple[str, ...]
    gain: Mapping[str, str]
    literals: tuple[bytes, ...] = ()
    after: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    not_traits: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    changes_answers: tuple[str, ...] = ()
    parameters: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    references: tuple[str, ...] = ()

    @property
    def category(self) -> str:
        """The first part of the id."""
        return self.id.split("/")[0]

    @property
    def find(self) -> Callable[[Context], Iterator[Outcome]]:
        """The codemod: ``mega_optimizer.codemods.<category>.<rule>.find``, imported when used."""
        category, name = self.id.split("/")
        module = import_module(f"mega_optimizer.codemods.{category}.{name.replace('-', '_')}")
        return cast("Callable[[Context], Iterator[Outcome]]", module.find)

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters with their defaults, overridden by ``given``."""
        return {name: given.get(name, about["default"]) for name, about in self.parameters}


@cache
def data_folder() -> Path:
    """Return the folder that holds ``rules/`` and ``templates/``.

    It is ``_data`` beside the package in an installed wheel, else the checkout.
    """
    package = Path(__file__).resolve().parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent


@cache
def load_rules(folder: Path | None = None) -> tuple[Rule, ...]:
    """Return all rules below ``folder`` (ours by default), in the order in which they run.

    Raises :class:`RuleFolderError` where a folder is not a rule.
    """
    folder = folder or data_folder() / "rules"
    return in_order([load_rule(path.parent) for path in sorted(folder.glob("*/*/rule.yaml"))])


def load_rule(folder: Path) -> Rule:
    """Return the rule that ``folder`` describes; raise :class:`RuleFolderError` if it does not."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        described = YAML(typ="safe").load(folder / "rule.yaml")
    except (YAMLError, OSError) as error:
        raise RuleFolderError(f"{folder / 'rule.yaml'}: {error}") from error
    keys = set(described) if isinstance(described, dict) else set()
    missing, unknown = REQUIRED_KEYS - keys, keys - REQUIRED_KEYS - OPTIONAL_KEYS
    if missing or unknown:
        wrong = [f"lacks {key}" for key in sorted(missing)]
        wrong += [f"does not know {key}" for key in sorted(unknown)]
        raise RuleFolderError(f"{folder / 'rule.yaml'}: {', '.join(wrong)}")
    if described["id"] != f"{folder.parent.name}/{folder.name}":
        raise RuleFolderError(f"{folder / 'rule.yaml'}: its id must be the path of its folder")
    if described["level"] not in LEVELS:
        raise RuleFolderError(f"{folder / 'rule.yaml'}: level must be one of {', '.join(LEVELS)}")
    needs = described.get("needs", {})
    return Rule(
        id=described["id"],
        title=described["title"],
        level=described["level"],
        because=described["because"].strip(),
        why=described["why"].strip(),
        folder=folder,
        artifacts=tuple(described["artifacts"]),
        gain=described["gain"],
        literals=tuple(literal.encode() for literal in described.get("literals", ())),
        after=tuple(described.get("after", ())),
        traits=tuple(needs.get("traits", ())),
        not_traits=tuple(needs.get("not_traits", ())),
        versions=tuple(needs.get("versions", {}).items()),
        changes_answers=tuple(described.get("changes_answers", ())),
        parameters=tuple(described.get("parameters", {}).items()),
        references=tuple(described.get("references", ())),
    )


def in_order(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Sort ``rules`` so that each runs after those that it names in ``after``; ties by id."""
    waiting = {rule.id: rule for rule in sorted(rules, key=lambda rule: rule.id)}
    known, ordered = set(waiting), []
    while waiting:
        ready = next(
            (
                rule
                for rule in waiting.values()
                if not any(other in waiting for other in rule.after if other in known)
            ),
            None,
        )
        if ready is None:
            raise RuleFolderError(f"these rules wait for each other: {', '.join(waiting)}")
        ordered.append(waiting.pop(ready.id))
    return tuple(ordered)


def pick(rules: Sequence[Rule], patterns: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules that ``patterns`` name: a rule id, or a category (``containers``).

    Raises :class:`UnknownRuleError` with the nearest id for a pattern that names none.
    """
    picked: list[Rule] = []
    for pattern in patterns:
        named = [rule for rule in rules if pattern in (rule.id, rule.id.split("/")[0])]
        if not named:
            raise UnknownRuleError(unknown_rule(pattern, rules))
        picked += [rule for rule in named if rule not in picked]
    return tuple(picked)


def unknown_rule(name: str, rules: Sequence[Rule]) -> str:
    """Say that ``name`` is no rule, and which one may have been meant."""
    near = get_close_matches(name, [rule.id for rule in rules], n=1, cutoff=0.4)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"no rule is called {name}{meant} (mega-optimize rules lists them)"
