"""GitHub and GitHub Enterprise Server through their REST API (docs.github.com/rest)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from mega_optimizer.errors import PublishError
from mega_optimizer.publish.api import Api, Refusal
from mega_optimizer.publish.forge import BranchCommit, ForgeRepository, PullRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from mega_optimizer.publish.api import Json
    from mega_optimizer.publish.clock import Clock
    from mega_optimizer.publish.remote import Remote
    from mega_optimizer.publish.token import Token

# A fork is made in the background, "which may take up to 5 minutes".
FORK_WAITS_S = (2, 4, 8, 16, 30, 60, 60, 60, 60)
NEEDED = "it needs contents: write and pull-requests: write"


class GitHub:
    """The repository ``remote`` names, on GitHub."""

    def __init__(
        self, remote: Remote, token: Token, clock: Clock, tell: Callable[[str], None]
    ) -> None:
        self._remote = remote
        self._token = token
        self._clock = clock
        self._api = Api(remote.api, token, clock, tell)
        self._path = f"/repos/{remote.owner}/{remote.name}"

    def repository(self) -> ForgeRepository:
        """Return the repository, under the name that it has now."""
        found = self._api.get(self._path)
        if found is None:
            raise PublishError(
                f"{self._remote} is not at {self._remote.server}, or the token may not see it"
            )
        repository = self._repository(found)
        self._path = f"/repos/{repository}"
        return repository

    def login(self) -> str:
        """Return the login of the token's user."""
        try:
            user = self._api.get("/user")
        except Refusal as refusal:
            if refusal.status != 403:
                raise
            user = None
        if user is None:
            raise PublishError(f"the token may not push to {self._remote}: {NEEDED}")
        return str(user["login"])

    def own_fork(self, of: ForgeRepository) -> ForgeRepository | None:
        """Return the user's fork of the same name, if that is what it is."""
        found = self._api.get(f"/repos/{self.login()}/{of.name}")
        if found is None or (found.get("parent") or {}).get("full_name") != str(of):
            return None
        return self._repository(found)

    def make_fork(self, of: ForgeRepository) -> ForgeRepository:
        """Ask for a fork, or for the one there is, and wait until it can be pushed to."""
        try:
            fork = self._repository(self._api.write("POST", f"{self._path}/forks", {}))
        except Refusal as refusal:
            if refusal.status == 401:
                raise
            raise PublishError(
                f"the token may not push to {of}, nor fork it ({refusal.said}): {NEEDED}"
            ) from None
        for wait in FORK_WAITS_S:
            if self.head(fork, fork.default_branch):
                return fork
            self._clock.sleep(wait)
        raise PublishError(f"the fork {fork} is not ready yet: run again")

    def head(self, repository: ForgeRepository, branch: str) -> str | None:
        """Return the commit of ``refs/heads/BRANCH``."""
        reference = quote(f"heads/{branch}", safe="")
        try:
            found = self._api.get(f"/repos/{repository}/git/ref/{reference}")
        except Refusal as refusal:
            if refusal.status != 409:  # a repository without any commit
                raise
            return None
        return str(found["object"]["sha"]) if found else None

    def holds(self, base: str, commit: str) -> bool:
        """Compare ``base`` with ``commit``: it is there if nothing is ahead."""
        found = self._api.get(self._compare(base, commit), per_page="1")
        return found is not None and found["status"] in ("behind", "identical")

    def commits_beyond(self, base: str, owner: str, branch: str) -> tuple[BranchCommit, ...] | None:
        """Return the commits; None where one page does not hold them all."""
        found = self._api.get(self._compare(base, f"{owner}:{branch}"), per_page="100")
        if found is None:
            raise PublishError(f"{owner}:{branch} cannot be compared with {base}")
        commits = tuple(_commit(each) for each in found["commits"])
        return commits if len(commits) == found["total_commits"] else None

    def pull_requests(self, owner: str, branch: str, base: str) -> tuple[PullRequest, ...]:
        """Return the pull requests in every state."""
        pages = self._api.pages(
            f"{self._path}/pulls",
            head=f"{owner}:{branch}",
            base=base,
            state="all",
            sort="created",
            direction="desc",
            per_page="100",
        )
        return tuple(_pull_request(each) for each in pages)

    def conflicts(self, number: int) -> bool:
        """Whether GitHub says so; it may not know yet."""
        found = self._api.get(f"{self._path}/pulls/{number}")
        return found is not None and found["mergeable"] is False

    def create(
        self, owner: str, branch: str, base: str, title: str, body: str, draft: bool
    ) -> PullRequest:
        """Open a pull request."""
        content = {
            "title": title,
            "head": f"{owner}:{branch}",
            "base": base,
            "body": body,
            "draft": draft,
        }
        return _pull_request(self._write("POST", f"{self._path}/pulls", content))

    def update(self, number: int, body: str, title: str | None) -> None:
        """Replace the body, and the title where one is given."""
        content = {"body": body} if title is None else {"body": body, "title": title}
        self._write("PATCH", f"{self._path}/pulls/{number}", content)

    def comments(self, number: int) -> tuple[str, ...]:
        """Return the texts of the comments below the pull request (not of its reviews)."""
        pages = self._api.pages(f"{self._path}/issues/{number}/comments", per_page="100")
        return tuple(str(each.get("body", "")) for each in pages)

    def comment(self, number: int, text: str) -> None:
        """Add a comment."""
        self._write("POST", f"{self._path}/issues/{number}/comments", {"body": text})

    def _write(self, method: str, path: str, content: Json) -> Json:
        try:
            return self._api.write(method, path, content)
        except Refusal as refusal:
            if refusal.status not in (403, 404):
                raise
            raise PublishError(
                f"the token may not open pull requests in {self._remote} ({refusal.said}): {NEEDED}"
            ) from None

    def _compare(self, base: str, head: str) -> str:
        return f"{self._path}/compare/{quote(f'{base}...{head}', safe=':')}"

    def _repository(self, found: Json) -> ForgeRepository:
        owner, _, name = str(found["full_name"]).partition("/")
        permissions = found.get("permissions") or {}
        return ForgeRepository(
            owner=owner,
            name=name,
            git_url=f"{self._remote.server}/{owner}/{name}.git",
            default_branch=str(found["default_branch"]),
            archived=bool(found["archived"]),
            may_push=bool(permissions.get("push")) or self._token.is_of_an_installation,
        )


def _pull_request(found: Json) -> PullRequest:
    state = "merged" if found.get("merged_at") else str(found["state"])
    return PullRequest(
        number=int(found["number"]),
        url=str(found["html_url"]),
        state=state,
        title=str(found["title"]),
        body=str(found["body"] or ""),
    )


def _commit(found: Json) -> BranchCommit:
    commit = found["commit"]
    account = (found.get("author") or {}).get("login")
    return BranchCommit(
        id=str(found["sha"]),
        message=str(commit["message"]),
        tree=str(commit["tree"]["sha"]),
        parents=tuple(str(parent["sha"]) for parent in found["parents"]),
        author=str(account or (commit.get("author") or {}).get("name") or "someone"),
    )
