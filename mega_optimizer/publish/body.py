"""The body of a pull request: evidence first, short, and nothing in it that was not shown."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mega_optimizer import __version__
from mega_optimizer.publish import statements
from mega_optimizer.publish.marker import Marker
from mega_optimizer.publish.size_rows import image_rows, part_rows, total_change, verdict
from mega_optimizer.publish.text import block, code, plain
from mega_optimizer.rules import data_folder
from mega_optimizer.verify.stated import stated_differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mega_optimizer.pipeline import Result
    from mega_optimizer.publish.commits import Commit

# GitHub refuses bodies near 65,536 characters.
LIMIT = 58_000
PLACES_SHOWN = 12
SHORT_ID = 10
TITLE_LIMIT = 120
SECTIONS = (
    "verdict",
    "images",
    "rules",
    "verification",
    "not_verified",
    "callers",
    "reproduce",
    "layers",
    "ways_out",
)
# The least important first. What is not named here is never cut.
CUT_FIRST = ("layers", "reproduce", "rules", "callers", "verification", "images")


@dataclass(frozen=True, slots=True)
class _RuleSection:
    """What the body says of one rule."""

    id: str
    level: str
    title: str
    commit: str
    changes: tuple[str, ...]
    why: str
    because: str


def title_of(result: Result) -> str:
    """Return the title of the pull request."""
    rules = list(dict.fromkeys(change.rule for change in result.plan.changes))
    services = list(dict.fromkeys(change.service for change in result.plan.changes))
    if len(rules) == 1:
        return next(rule.title for rule in result.rules if rule.id == rules[0])
    named = ", ".join(plain(service) for service in services)
    title = f"Optimize {named}"
    return title if len(title) <= TITLE_LIMIT else f"Optimize {len(services)} services"


def render(result: Result, commits: Iterable[Commit], marker: Marker, limit: int = LIMIT) -> str:
    """Return the body for ``result``, of at most ``limit`` characters, ``marker`` at its end."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(data_folder() / "templates"), autoescape=False, trim_blocks=False
    )
    environment.filters |= {"code": code, "plain": plain, "block": block}
    template = environment.get_template("pull_request/body.md.j2")
    context = template.new_context(_content(result, {each.rule: each.id for each in commits}))
    sections = {name: _tidy("".join(template.blocks[name](context))) for name in SECTIONS}
    _cut(sections, limit - len(str(marker)) - 2)
    return "\n\n".join([each for each in sections.values() if each] + [str(marker)])


def _content(result: Result, commits: Mapping[str, str]) -> dict[str, Any]:
    plan = result.plan
    return {
        "count": statements.count,
        "verdict": verdict(result.images),
        "files": len(plan.changed()),
        "services": {change.service for change in plan.changes},
        "images": image_rows(result.images),
        "on_disk": any(
            size.bytes_on_disk is not None
            for pair in result.images
            for size in (pair.before, pair.after)
        ),
        "total": total_change(result.images),
        "sources": _sources(result),
        "rules": _rules(result, commits),
        "verified": statements.verified(result),
        "not_verified": statements.not_verified(result),
        "answers": _answers(result),
        "version": __version__,
        "commit": result.commit,
        "command": _command(result),
        "parts": part_rows(result.images),
        "packages": [
            (pair.service, statements.first(each, PLACES_SHOWN), word)
            for pair in result.images
            for each, word in ((pair.came, "came"), (pair.left, "left"))
            if each
        ],
    }


def _sources(result: Result) -> list[str]:
    """Return where the sizes come from, and the date of the oldest figure that has one."""
    shown = [
        pair.after
        for pair in result.images
        if pair.differences or pair.after.bytes_compressed is not None
    ]
    sources = dict.fromkeys(source for size in shown for source in size.source.split("; "))
    oldest = min((size.date for size in shown if size.date), default="")
    return [*filter(None, sources), *([f"oldest figure {oldest}"] if oldest else [])]


def _rules(result: Result, commits: Mapping[str, str]) -> list[_RuleSection]:
    known = {rule.id: rule for rule in result.rules}
    sections = []
    for rule_id in dict.fromkeys(change.rule for change in result.plan.changes):
        rule = known[rule_id]
        sections.append(
            _RuleSection(
                id=rule_id,
                level=rule.level,
                title=rule.title,
                commit=commits[rule_id][:SHORT_ID],
                changes=_changes(result, rule_id),
                why=rule.why,
                because=rule.because,
            )
        )
    return sections


def _changes(result: Result, rule: str) -> tuple[str, ...]:
    """Say what a rule does and where, places of the same kind together."""
    places: dict[str, dict[str, None]] = {}
    for finding in result.plan.findings:
        if finding.rule == rule and finding.status == "would-apply":
            message = finding.message[:1].upper() + finding.message[1:]
            places.setdefault(message, {})[code(str(finding.place))] = None
    told = [
        f"{plain(message)}: {', '.join(statements.first(list(where), PLACES_SHOWN))}"
        for message, where in places.items()
    ]
    return statements.first(told, PLACES_SHOWN)


def _answers(result: Result) -> list[str]:
    changed = {change.rule for change in result.plan.changes}
    answers = [
        f"{code(rule.id)}: {plain(answer)}"
        for rule in result.rules
        if rule.id in changed
        for answer in rule.changes_answers
    ]
    told: dict[tuple[str, str], list[str]] = {}
    for rule, service, stated in stated_differences(result):
        told.setdefault((service, stated.words), []).append(code(rule.id))
    measured = [
        f"Answers of {code(service)} after {', '.join(rules)}: {plain(words)}."
        for (service, words), rules in told.items()
    ]
    return [*answers, *measured]


def _command(result: Result) -> str:
    settings = result.settings
    words = ["mega-optimize", ".", "--diff"]
    if settings.level != "safe":
        words += ["--level", settings.level]
    for option, values in (
        ("--select", settings.select),
        ("--ignore", settings.ignore),
        ("--service", settings.services),
        ("--exclude", settings.exclude),
    ):
        words += [word for value in values for word in (option, value)]
    if settings.sizes == "build":
        words += ["--sizes", "build"]
    if settings.stale_locks:
        words.append("--stale-locks")
    return shlex.join(words)


def _cut(sections: dict[str, str], limit: int) -> None:
    """Shorten ``sections`` from the least important one until all fit into ``limit``."""
    for name in CUT_FIRST:
        excess = sum(len(each) + 2 for each in sections.values()) - limit
        if excess <= 0:
            return
        section = sections[name]
        if not section:
            continue
        heading = re.sub(r"<.*?>|#", "", section.partition("\n")[0]).strip()
        note = f"*Cut for length: {heading or name}. `mega-optimize --diff` shows all of it.*"
        kept = _whole_paragraphs(section, len(section) - excess - len(note) - 2)
        sections[name] = f"{kept}\n\n{note}" if kept else note


def _whole_paragraphs(section: str, room: int) -> str:
    """Return the paragraphs of ``section`` that fit into ``room``; folded ones only whole."""
    kept = ""
    for paragraph in re.split(r"\n\n(?!(?:(?!<details>)[\s\S])*?</details>)", section):
        if len(kept) + len(paragraph) + 2 > room:
            break
        kept += f"\n\n{paragraph}" if kept else paragraph
    return kept


def _tidy(section: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", section).strip()
