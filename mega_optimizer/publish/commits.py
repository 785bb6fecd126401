"""One commit for each rule of a plan, made without hooks, filters or signing."""

from __future__ import annotations

import hashlib
import os
import re
import textwrap
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from mega_optimizer.engine.apply import apply_changes
from mega_optimizer.publish.text import printable
from mega_optimizer.repository.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mega_optimizer.engine.plan import ChangeSet, Plan
    from mega_optimizer.publish.clone import Clone
    from mega_optimizer.publish.identity import Identity
    from mega_optimizer.rules import Rule

WIDTH = 72
# A message that lists more places than this is read by nobody.
PLACES_SHOWN = 30
_SEAL = re.compile(r"\nMega-Optimize-Seal: ([0-9a-f]{32})\s*\Z")


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit of one rule."""

    rule: str
    id: str


def commit_rules(
    clone: Clone, plan: Plan, rules: Iterable[Rule], identity: Identity, signoff: bool
) -> tuple[Commit, ...]:
    """Write the change sets of ``plan`` into ``clone`` and commit each rule; return the commits.

    The same plan on the same commit gives the same ids: dates are those of the commit below.
    Raises :class:`~mega_optimizer.errors.UserError` where a file cannot be written.
    """
    known = {rule.id: rule for rule in rules}
    date = clone.run("show", "--no-patch", "--format=%cI", clone.commit)
    parent, made = clone.commit, []
    with clone.git.custom_environment(**_signature(identity, date)):
        for rule, changes in groupby(plan.changes, key=lambda change: change.rule):
            paths = _write(clone, list(changes))
            clone.run("add", "--force", "--", *paths)
            tree = clone.run("write-tree")
            text = _message(known[rule], plan, identity if signoff else None)
            message = f"{text}\nMega-Optimize-Seal: {_seal(tree, [parent], text)}"
            parent = clone.run("commit-tree", tree, "-p", parent, "-m", message)
            made.append(Commit(rule, parent))
    return tuple(made)


def is_sealed(message: str, tree: str, parents: Sequence[str]) -> bool:
    """Whether a commit is as this program made it: its tree, its parents and its message."""
    seal = _SEAL.search(message)
    return seal is not None and seal[1] == _seal(tree, parents, message[: seal.start()])


def _seal(tree: str, parents: Sequence[str], text: str) -> str:
    sealed = "\n".join((tree, *parents, text.strip()))
    return hashlib.sha256(sealed.encode()).hexdigest()[:32]


def _signature(identity: Identity, date: str) -> dict[str, str]:
    return {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", identity.name), ("EMAIL", identity.email), ("DATE", date))
    }


def _write(clone: Clone, changes: Sequence[ChangeSet]) -> list[str]:
    """Write what one rule does to all services, which may change the same file in turn.

    Returns the paths of the files, from the top of the clone.
    """
    pairs: dict[str, tuple[bytes | None, bytes]] = {}
    for change in changes:
        for path in change.paths:
            before = pairs[path][0] if path in pairs else change.before[path]
            pairs[path] = (before, change.after[path])
    apply_changes(Guard(clone.root), pairs)
    return [os.path.relpath(clone.root / path, clone.top) for path in sorted(pairs)]


def _message(rule: Rule, plan: Plan, signer: Identity | None) -> str:
    places = [
        f"- {printable(str(finding.place))}"
        for finding in plan.findings
        if finding.rule == rule.id and finding.status == "would-apply"
    ]
    places = list(dict.fromkeys(places))
    if len(places) > PLACES_SHOWN:
        places[PLACES_SHOWN:] = [f"- and {len(places) - PLACES_SHOWN} more"]
    trailers = [f"Mega-Optimize-Rule: {rule.id}"]
    if signer is not None:
        trailers.append(f"Signed-off-by: {signer}")
    paragraphs = [
        rule.title,
        textwrap.fill(" ".join(rule.why.split()), WIDTH),
        "\n".join(["Where:", *places]),
        "\n".join(trailers),
    ]
    return "\n\n".join(paragraphs)
