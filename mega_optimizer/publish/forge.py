"""What publishing asks of a forge. GitHub is one; others fit behind the same protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ForgeRepository:
    """A repository as the forge knows it. ``git_url`` holds no secret."""

    owner: str
    name: str
    git_url: str
    default_branch: str
    archived: bool = False
    may_push: bool = False

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request. ``state`` is ``open``, ``closed`` (not merged) or ``merged``."""

    number: int
    url: str
    state: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class BranchCommit:
    """A commit on a branch: what it takes to tell whether it is as this program made it."""

    id: str
    message: str
    tree: str
    parents: tuple[str, ...]
    author: str


class Forge(Protocol):
    """A forge, seen from one repository. Every method may raise ``PublishError``."""

    def repository(self) -> ForgeRepository:
        """Return the repository."""

    def login(self) -> str:
        """Return the name of the account that the token belongs to."""

    def own_fork(self, of: ForgeRepository) -> ForgeRepository | None:
        """Return the account's fork under the same name; None where there is none."""

    def make_fork(self, of: ForgeRepository) -> ForgeRepository:
        """Make a fork, or find the one there is, and wait until it can be pushed to."""

    def head(self, repository: ForgeRepository, branch: str) -> str | None:
        """Return the commit that ``branch`` is at; None where there is no such branch."""

    def holds(self, base: str, commit: str) -> bool:
        """Whether ``commit`` is on the branch ``base`` of the repository."""

    def commits_beyond(self, base: str, owner: str, branch: str) -> tuple[BranchCommit, ...] | None:
        """Return the commits of ``owner``'s ``branch`` that ``base`` lacks; None: too many."""

    def pull_requests(self, owner: str, branch: str, base: str) -> tuple[PullRequest, ...]:
        """Return all pull requests from that branch into ``base``, the newest first."""

    def conflicts(self, number: int) -> bool:
        """Whether the pull request can surely not be merged as it is."""

    def create(
        self, owner: str, branch: str, base: str, title: str, body: str, draft: bool
    ) -> PullRequest:
        """Open a pull request."""

    def update(self, number: int, body: str, title: str | None) -> None:
        """Replace the body, and the title where one is given."""

    def comments(self, number: int) -> tuple[str, ...]:
        """Return the texts of all comments."""

    def comment(self, number: int, text: str) -> None:
        """Add a comment."""
