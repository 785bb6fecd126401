"""Suppression comments that suppress nothing: what they were written for is gone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from mega_optimizer.engine.suppressions import MARKER, suppressions
from mega_optimizer.repository.files import UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.engine.plan import Plan
    from mega_optimizer.engine.suppressions import Suppression
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.place import Place
    from mega_optimizer.repository.service import Repository
    from mega_optimizer.rules import Rule


def unused_suppressions(
    plan: Plan, files: Files, ran: Sequence[Rule], known: Sequence[Rule]
) -> Iterator[str]:
    """Yield a line for each name in a suppression comment that suppressed nothing in ``plan``.

    ``ran`` are the rules that ran over every service, ``known`` all rules; nothing is said about
    a rule that did not run. ``files`` are those that the plan was made upon.
    """
    names = {name for rule in known for name in (rule.id, rule.category)}
    idle = {name for rule in known if rule not in ran for name in (rule.id, rule.category)}
    suppressed: dict[str, list[tuple[str, Place]]] = defaultdict(list)
    for finding in plan.findings:
        if finding.code == "suppressed":
            suppressed[finding.place.path].append((finding.rule, finding.place))
    for comment in _comments(plan.repository, files):
        for name in comment.rules:
            where = f"{comment.path}:{comment.line}"
            if name not in names:
                yield f"{where}: ignore[{name}] suppresses nothing: no rule is called {name}"
            elif name not in idle and not any(
                replace(comment, rules=(name,)).covers(rule, place)
                for rule, place in suppressed[comment.path]
            ):
                yield f"{where}: ignore[{name}] suppresses nothing"


def _comments(repository: Repository, files: Files) -> Iterator[Suppression]:
    """Yield the suppression comments in the files that rules look at."""
    for path in sorted(_looked_at(repository)):
        try:
            content = files.read(path)
        except UnreadableFile:
            continue
        if MARKER in content:
            yield from suppressions(path, content)


def _looked_at(repository: Repository) -> set[str]:
    return {
        path
        for service in repository.services
        for path in (
            service.dockerfile,
            *service.manifests,
            *service.modules,
            *(site.place.path for site in service.launch),
            *(deployment.place.path for deployment in service.deployments),
        )
        if path is not None
    }
