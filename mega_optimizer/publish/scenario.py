"""Open the pull request for a plan, or bring the one there is up to date, and only then write.

What a former run left half done (a branch without a pull request) is completed; what a person
closed stays closed; a branch with commits by people is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from mega_optimizer.errors import PublishError
from mega_optimizer.publish.body import render, title_of
from mega_optimizer.publish.commits import commit_rules, is_sealed
from mega_optimizer.publish.marker import LEFT_ALONE, Marker, patch_hash, read_marker
from mega_optimizer.publish.outcome import Published
from mega_optimizer.publish.push import push
from mega_optimizer.publish.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mega_optimizer.config import Settings
    from mega_optimizer.pipeline import Result
    from mega_optimizer.publish.clone import Clone
    from mega_optimizer.publish.forge import BranchCommit, Forge, ForgeRepository, PullRequest
    from mega_optimizer.publish.identity import Identity
    from mega_optimizer.publish.token import Token
    from mega_optimizer.publish.wishes import Wishes

LONGEST_GROUP = 60


def publish(
    result: Result,
    clone: Clone,
    forge: Forge,
    token: Token,
    identity: Identity,
    wishes: Wishes,
) -> Published | None:
    """Show the plan of ``result``, made in ``clone``, as a pull request; None: it is empty.

    Raises :class:`PublishError`; what was written until then is found by the next run.
    """
    if not result.plan.changes:
        return None
    upstream = forge.repository()
    if upstream.archived:
        raise PublishError(f"{upstream} is archived: nothing can be pushed to it")
    base = wishes.base or upstream.default_branch
    if forge.head(upstream, base) is None:
        raise PublishError(f"{upstream} has no branch {base}: name another with --base")
    if not forge.holds(base, clone.commit):
        raise PublishError(
            f"commit {clone.commit[:10]} is not on {base} of {upstream}: "
            "push it there first, or name the branch that has it with --base"
        )
    folder = clone.root.relative_to(clone.top).as_posix()
    branch = branch_name(result.settings, wishes, base, upstream.default_branch, folder)
    return _Publication(result, clone, forge, token, identity, wishes, upstream, base, branch).run()


def branch_name(
    settings: Settings, wishes: Wishes, base: str, default_base: str, folder: str
) -> str:
    """Return the branch that every run with these settings comes back to."""
    parts = list(settings.select) or [settings.level]
    parts += [*settings.services, *([folder] if folder != "." else [])]
    group = wishes.group or "-".join(parts)
    if base != default_base:
        group += f"-to-{base}"
    slug = re.sub(r"[^A-Za-z0-9]+", "-", group).strip("-")
    if len(slug) > LONGEST_GROUP:
        slug = f"{slug[:LONGEST_GROUP].rstrip('-')}-{sha256(group.encode()).hexdigest()[:8]}"
    return f"mega-optimize/{slug or 'changes'}"


@dataclass(frozen=True, slots=True)
class _Publication:
    """One plan on its way to one branch."""

    result: Result
    clone: Clone
    forge: Forge
    token: Token
    identity: Identity
    wishes: Wishes
    upstream: ForgeRepository
    base: str
    branch: str

    def run(self) -> Published:
        home = self._home()
        owner = home.owner if home else self.forge.login()
        known = self.forge.pull_requests(owner, self.branch, self.base)
        patch = patch_hash(self.result.plan.changed())
        shown = next((each for each in known if each.state == "open"), None)
        if shown is None:
            closed = [each for each in known if each.state == "closed" and _shows(each, patch)]
            if closed:
                reason = "it was closed with the same changes, and stays closed"
                return Published("blocked", closed[0].number, closed[0].url, reason)
        elif _shows(shown, patch) and not self.forge.conflicts(shown.number):
            return Published("unchanged", shown.number, shown.url)
        there = self.forge.head(home, self.branch) if home else None
        if there is not None:
            people = self._people_on_the_branch(owner)
            if people is not None:
                return self._left_alone(shown, owner, people)
        return self._write(home, owner, there, shown, patch)

    def _home(self) -> ForgeRepository | None:
        """Return the repository that holds the branch; None: a fork that is not made yet."""
        if self.upstream.may_push:
            return self.upstream
        if self.forge.login().lower() == self.upstream.owner.lower():
            raise PublishError(
                f"the token may not push to {self.upstream}: it needs contents: write"
            )
        return self.forge.own_fork(self.upstream)

    def _people_on_the_branch(self, owner: str) -> tuple[str, ...] | None:
        """Return who else committed to the branch; None: all of it is as this program made it."""
        commits = self.forge.commits_beyond(self.base, owner, self.branch)
        if commits is None:
            return ("someone",)
        return _authors(each for each in commits if not _is_ours(each)) or None

    def _left_alone(
        self, shown: PullRequest | None, owner: str, people: tuple[str, ...]
    ) -> Published:
        reason = f"{owner}:{self.branch} has commits by {', '.join(people)} and was left alone"
        if shown is None:
            return Published("blocked", None, None, reason)
        if not any(LEFT_ALONE in text for text in self.forge.comments(shown.number)):
            self.forge.comment(shown.number, _comment(people, self.branch))
        return Published("blocked", shown.number, shown.url, reason)

    def _write(
        self,
        home: ForgeRepository | None,
        owner: str,
        there: str | None,
        shown: PullRequest | None,
        patch: str,
    ) -> Published:
        result, wishes = self.result, self.wishes
        commits = commit_rules(self.clone, result.plan, result.rules, self.identity, wishes.signoff)
        title = title_of(result)
        marker = Marker(patch, tuple(commit.rule for commit in commits), title)
        body = render(result, commits, marker)
        if home is None:
            home = self.forge.make_fork(self.upstream)
            there = self.forge.head(home, self.branch)
        if there != commits[-1].id:
            push(self.clone, home.git_url, self.token, self.branch, commits[-1].id, there or "")
        if shown is None:
            made = self.forge.create(owner, self.branch, self.base, title, body, wishes.draft)
            return Published("created", made.number, made.url)
        former = read_marker(shown.body)
        retitle = former is not None and shown.title == former.title != title
        self.forge.update(shown.number, body, title if retitle else None)
        return Published("updated", shown.number, shown.url)


def _shows(pull_request: PullRequest, patch: str) -> bool:
    marker = read_marker(pull_request.body)
    return marker is not None and marker.patch == patch


def _is_ours(commit: BranchCommit) -> bool:
    return is_sealed(commit.message, commit.tree, commit.parents)


def _authors(commits: Iterable[BranchCommit]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(plain(commit.author) for commit in commits))


def _comment(people: tuple[str, ...], branch: str) -> str:
    return (
        f"There is a newer version of this change, but {', '.join(people)} committed to "
        f"`{branch}`, so the branch is left as it is. To get the newer version, remove those "
        f"commits from the branch, or delete it, and run mega-optimize again.\n\n{LEFT_ALONE}"
    )
