"""The state of a GitHub, and its REST API over real bare repositories, as far as it is used.

Every request and every answer is judged by GitHub's own description.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.publish.contract import Contract, Json

API = "/api/v3"


@dataclass
class Account:
    """Who a token belongs to, and what it may do. ``pushes`` names repositories.

    Without a user it is an app's: GitHub says that such a token may not push, whatever it may.
    """

    login: str
    pushes: set[str] = field(default_factory=set)
    may_open: bool = True
    may_fork: bool = True
    has_user: bool = True


@dataclass
class Repository:
    """A repository; its content is the bare repository at ``path``."""

    owner: str
    name: str
    path: Path
    archived: bool = False
    parent: str | None = None
    default_branch: str = "main"

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""


@dataclass
class Pull:
    """A pull request of the fake."""

    number: int
    title: str
    body: str
    head: str
    base: str
    draft: bool
    state: str = "open"
    merged_at: str | None = None
    mergeable: bool | None = True
    comments: list[str] = field(default_factory=list)


@dataclass
class Answer:
    """What the API answers: status, content, headers."""

    status: int
    content: Any
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, message: str, **headers: str) -> Answer:
    """Return an error as GitHub words it."""
    content = {"message": message, "documentation_url": "https://docs.github.com/rest"}
    return Answer(status, content, {key.replace("_", "-"): value for key, value in headers.items()})


class GitHubApi:
    """Accounts, repositories, pull requests, and the answers that follow from them."""

    def __init__(self, folder: Path, contract: Contract) -> None:
        self.folder = folder
        self.url = ""
        self.contract = contract
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[str, Repository] = {}
        self.pulls: list[Pull] = []
        self.violations: list[str] = []
        self.requests: list[tuple[str, str]] = []
        # Answers that come before the state is asked, one for each request of that method.
        self.next_answers: dict[str, deque[Answer]] = {}
        self.fork_answers_missing = 0
        self._lock = threading.Lock()

    def add_repository(self, full_name: str) -> Repository:
        owner, _, name = full_name.partition("/")
        path = self.folder / f"{full_name}.git"
        path.mkdir(parents=True)
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
        repository = Repository(owner, name, path)
        repository.git("config", "http.receivepack", "true")
        self.repositories[full_name] = repository
        return repository

    @property
    def writes(self) -> list[tuple[str, str]]:
        """The requests to the API that could change something."""
        return [each for each in self.requests if each[0] != "GET"]

    def pull(self, number: int) -> Pull:
        return next(each for each in self.pulls if each.number == number)

    def answer(self, method: str, target: str, token: str | None, sent: bytes) -> Answer:
        with self._lock:
            parts = urlsplit(target)
            path = parts.path.removeprefix(API)
            self.requests.append((method, path))
            answer = self._answer(method, path, dict(parse_qsl(parts.query)), token, sent)
            self.violations += self.contract.violations(
                method,
                path,
                dict(parse_qsl(parts.query)),
                sent,
                answer.status,
                json.dumps(answer.content).encode(),
            )
            return answer

    def _answer(
        self, method: str, path: str, query: dict[str, str], token: str | None, sent: bytes
    ) -> Answer:
        if waiting := self.next_answers.get(method):
            return waiting.popleft()
        account = self.accounts.get(token or "")
        if account is None:
            return refusal(401, "Bad credentials")
        if path == "/user":
            return self._user(account)
        routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("GET", "", self._get_repository),
            ("POST", "/forks", self._fork),
            ("GET", "/git/ref/(?P<ref>[^/]+)", self._reference),
            ("GET", "/compare/(?P<range>[^/]+)", self._compare),
            ("GET", "/pulls", self._list_pulls),
            ("POST", "/pulls", self._open),
            ("GET", "/pulls/(?P<number>[0-9]+)", self._get_pull),
            ("PATCH", "/pulls/(?P<number>[0-9]+)", self._change),
            ("GET", "/issues/(?P<number>[0-9]+)/comments", self._list_comments),
            ("POST", "/issues/(?P<number>[0-9]+)/comments", self._comment),
        ]
        for wanted, pattern, action in routes:
            found = re.fullmatch(f"/repos/(?P<name>[^/]+/[^/]+){pattern}", path)
            if wanted == method and found:
                repository = self.repositories.get(found["name"])
                if repository is None:
                    return refusal(404, "Not Found")
                named = {k: unquote(v) for k, v in found.groupdict().items() if k != "name"}
                given = json.loads(sent) if sent else query
                return action(repository, account, given, **named)
        return refusal(404, "Not Found")

    def _user(self, account: Account) -> Answer:
        if not account.has_user:
            return refusal(403, "Resource not accessible by integration")
        shown = self.contract.example("private-user")
        return Answer(200, {**shown, "login": account.login, "user_view_type": "private"})

    def _get_repository(self, repository: Repository, account: Account, _: Json) -> Answer:
        return Answer(200, self._shown(repository, account))

    def _shown(self, repository: Repository, account: Account) -> Json:
        push = account.has_user and repository.full_name in account.pushes
        shown = {
            **self.contract.example("full-repository"),
            "full_name": repository.full_name,
            "name": repository.name,
            "archived": repository.archived,
            "default_branch": repository.default_branch,
            "fork": repository.parent is not None,
            "permissions": {"admin": False, "push": push, "pull": True},
        }
        if repository.parent:
            parent = {**self.contract.example("repository"), "full_name": repository.parent}
            shown["parent"] = parent
        return shown

    def _fork(self, repository: Repository, account: Account, _: Json) -> Answer:
        if not account.may_fork:
            return refusal(403, "Resource not accessible by personal access token")
        name = f"{account.login}/{repository.name}"
        if name not in self.repositories:
            fork = self.add_repository(name)
            fork.parent = repository.full_name
            fork.git("fetch", "-q", str(repository.path), "+refs/heads/*:refs/heads/*")
            account.pushes.add(name)
        return Answer(202, self._shown(self.repositories[name], account))

    def _reference(self, repository: Repository, _: Account, __: Json, ref: str) -> Answer:
        if repository.parent and self.fork_answers_missing:
            self.fork_answers_missing -= 1
            return refusal(404, "Not Found")
        commit = repository.git("rev-parse", "--verify", "-q", f"refs/{ref}")
        if not commit:
            return refusal(404, "Not Found")
        held = {"type": "commit", "sha": commit, "url": "https://example.invalid/x"}
        shown = {**self.contract.example("git-ref"), "ref": f"refs/{ref}", "object": held}
        return Answer(200, shown)

    def _compare(self, repository: Repository, _: Account, query: Json, range: str) -> Answer:
        base, _dots, head = range.partition("...")
        owner, _colon, branch = head.rpartition(":")
        home = self.repositories.get(f"{owner}/{repository.name}") if owner else repository
        if home is None:
            return refusal(404, "Not Found")
        # GitHub keeps the objects of forks together; here they are fetched over.
        tip = home.git("rev-parse", "-q", "--verify", f"{branch}^{{commit}}")
        if home is not repository and tip:
            repository.git("fetch", "-q", str(home.path), branch)
        ahead = repository.git("rev-list", "--reverse", f"refs/heads/{base}..{tip}").split()
        behind = repository.git("rev-list", f"{tip}..refs/heads/{base}").split()
        start = repository.git("rev-parse", f"refs/heads/{base}")
        if not tip or not start:
            return refusal(404, "Not Found")
        status = ["identical", "ahead", "behind", "diverged"][bool(ahead) + 2 * bool(behind)]
        shown = {
            **self.contract.example("commit-comparison"),
            "status": status,
            "base_commit": self._commit(repository, start),
            "merge_base_commit": self._commit(repository, start),
            "ahead_by": len(ahead),
            "behind_by": len(behind),
            "total_commits": len(ahead),
            "commits": [self._commit(repository, each) for each in ahead][
                : int(query.get("per_page", "250"))
            ],
        }
        return Answer(200, shown)

    def _commit(self, repository: Repository, commit: str) -> Json:
        told = repository.git("show", "-s", "--format=%T%n%P%n%an%n%ae%n%B", commit)
        tree, parents, name, email, message = told.split("\n", 4)
        shown = self.contract.example("commit")
        who = {"name": name, "email": email, "date": "2026-11-23T10:00:00Z"}
        shown["commit"] |= {
            "author": who,
            "message": message.strip(),
            "tree": {"sha": tree, "url": "https://example.invalid/x"},
        }
        links = [{"sha": each, "url": "https://example.invalid/x"} for each in parents.split()]
        return {**shown, "sha": commit, "parents": links, "author": {}, "committer": {}}

    def _shown_pull(self, pull: Pull, schema: str) -> Json:
        shown = {
            **self.contract.example(schema),
            "number": pull.number,
            "html_url": f"https://github.example/acme/shop/pull/{pull.number}",
            "state": pull.state,
            "title": pull.title,
            "body": pull.body,
            "merged_at": pull.merged_at,
            "draft": pull.draft,
        }
        if schema == "pull-request":
            shown["mergeable"] = pull.mergeable
        return shown

    def _list_pulls(self, _: Repository, __: Account, query: Json) -> Answer:
        found = [
            self._shown_pull(pull, "pull-request-simple")
            for pull in reversed(self.pulls)
            if pull.head == query.get("head")
            and pull.base == query.get("base")
            and query.get("state") in (pull.state, "all")
        ]
        return Answer(200, found)

    def _open(self, repository: Repository, account: Account, content: Json) -> Answer:
        if not account.may_open:
            return refusal(403, "GitHub Actions is not permitted to create pull requests")
        owner, _, branch = content["head"].partition(":")
        home = self.repositories[f"{owner}/{repository.name}"]
        if not home.git("rev-parse", "-q", "--verify", f"refs/heads/{branch}"):
            return refusal(422, "Validation Failed")
        if any(
            each.state == "open" and (each.head, each.base) == (content["head"], content["base"])
            for each in self.pulls
        ):
            return refusal(422, f"A pull request already exists for {content['head']}.")
        pull = Pull(
            number=len(self.pulls) + 1,
            title=content["title"],
            body=content["body"],
            head=content["head"],
            base=content["base"],
            draft=content["draft"],
        )
        self.pulls.append(pull)
        return Answer(201, self._shown_pull(pull, "pull-request"))

    def _get_pull(self, _: Repository, __: Account, ___: Json, number: str) -> Answer:
        return Answer(200, self._shown_pull(self.pull(int(number)), "pull-request"))

    def _change(self, _: Repository, account: Account, content: Json, number: str) -> Answer:
        if not account.may_open:
            return refusal(403, "Resource not accessible by personal access token")
        pull = self.pull(int(number))
        pull.title = content.get("title", pull.title)
        pull.body = content.get("body", pull.body)
        return Answer(200, self._shown_pull(pull, "pull-request"))

    def _list_comments(self, _: Repository, __: Account, query: Json, number: str) -> Answer:
        texts = self.pull(int(number)).comments
        size, page = int(query.get("per_page", "30")), int(query.get("page", "1"))
        held = texts[size * (page - 1) : size * page]
        shown = [{**self.contract.example("issue-comment"), "body": text} for text in held]
        headers = {}
        if len(texts) > size * page:
            path = f"{self.url}{API}/repos/acme/shop/issues/{number}/comments"
            headers["Link"] = f'<{path}?per_page={size}&page={page + 1}>; rel="next"'
        return Answer(200, shown, headers)

    def _comment(self, _: Repository, __: Account, content: Json, number: str) -> Answer:
        self.pull(int(number)).comments.append(content["body"])
        return Answer(201, {**self.contract.example("issue-comment"), "body": content["body"]})
