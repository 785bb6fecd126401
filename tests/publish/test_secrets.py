"""The token reaches the forge and ``git push``, and nothing else: searched plain and as base64."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mega_optimizer.errors import PublishError
from mega_optimizer.publish.token import Token, take_token
from tests.publish.target import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.publish.github_api import Answer
    from tests.publish.github_server import GitHubServer
    from tests.publish.target import Target

RULES = ["--select", "containers/pip-cache", "--sizes", "off", "--offline"]


def forms(token: str) -> Iterator[bytes]:
    """Yield the token as it is, and as base64 whatever stands before it."""
    yield token.encode()
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + token.encode())
        # Without the characters at both ends, which depend on what stands beside the token.
        yield encoded[4:-4]


def assert_without_token(content: bytes, where: object) -> None:
    for form in forms(TOKEN):
        assert form not in content, where


class CommandLine:
    """``mega-optimize --pr`` in a process of its own, below a folder that can be searched.

    The first git on its PATH writes down its arguments, and whether it could see the token.
    """

    def __init__(self, folder: Path, target: Target) -> None:
        self.target = target
        self.searched = folder / "searched"
        self.log = folder / "calls"
        programs = folder / "programs"
        for each in (self.searched / "home", self.searched / "tmp", programs):
            each.mkdir(parents=True)
        real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True)
        (programs / "git").write_text(
            f'#!/bin/sh\nif env | grep -q "{TOKEN}"; then echo SEES-TOKEN; fi >> {self.log}\n'
            f'if env | grep -q "Authorization"; then echo HAS-HEADER; fi >> {self.log}\n'
            f'echo "$@" >> {self.log}\nexec {real.stdout.strip()} "$@"\n'
        )
        (programs / "git").chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self.searched / "home"),
            "TMPDIR": str(self.searched / "tmp"),
            "GITHUB_TOKEN": TOKEN,
            "GH_TOKEN": TOKEN,
            "GITHUB_SERVER_URL": target.github.url,
            "GIT_TRACE": str(self.searched / "trace"),
            "GIT_TRACE_CURL": str(self.searched / "trace-curl"),
            "GIT_CURL_VERBOSE": "1",
            "GIT_PYTHON_TRACE": "full",
        }

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mega_optimizer", str(self.target.root), "--pr"]
        return subprocess.Popen(
            [*command, *RULES, *options],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *options: str) -> tuple[int, bytes, bytes]:
        process = self.start(*options)
        output, errors = process.communicate(timeout=60)
        self.search(output, errors)
        return process.returncode, output, errors

    def search(self, *outputs: bytes) -> None:
        for output in outputs:
            assert_without_token(output, "output")
        assert_without_token(self.log.read_bytes() if self.log.exists() else b"", "arguments")
        for root in (self.searched, self.target.root):
            for path in root.rglob("*"):
                if path.is_file():
                    assert_without_token(path.read_bytes(), path)


@pytest.fixture
def command_line(tmp_path: Path, target: Target) -> CommandLine:
    return CommandLine(tmp_path, target)


def test_a_run_that_succeeds(command_line: CommandLine, github: GitHubServer) -> None:
    status, output, errors = command_line.run()
    assert (status, errors) == (0, b"")
    assert b"Pull request created: https://github.example/acme/shop/pull/1 (1 file" in output
    calls = command_line.log.read_text().splitlines()
    assert "SEES-TOKEN" not in calls
    assert [calls[at + 1].split()[0] for at, call in enumerate(calls) if call == "HAS-HEADER"] == [
        "push"
    ]
    assert list((command_line.searched / "tmp").iterdir()) == []
    assert len(github.pulls) == 1


def test_the_result_as_json(command_line: CommandLine) -> None:
    status, output, _ = command_line.run("--format", "json")
    assert status == 0
    document = json.loads(output)
    assert document["pull_request"] == {
        "url": "https://github.example/acme/shop/pull/1",
        "number": 1,
        "operation": "created",
        "reason": None,
    }
    assert document["repository"]["path"] == str(command_line.target.root)


@pytest.mark.parametrize("refusal", ["api", "push", "open"])
def test_a_run_that_is_refused(
    command_line: CommandLine, github: GitHubServer, refusal: str
) -> None:
    if refusal == "api":
        del github.accounts[TOKEN]
    elif refusal == "push":
        github.backend = lambda *_: (403, b"")  # type: ignore[method-assign]
    else:
        github.accounts[TOKEN].may_open = False
    status, output, errors = command_line.run()
    assert (status, output) == (3, b"")
    assert errors.startswith(b"mega-optimize: ")
    assert errors.count(b"\n") == 1


def test_a_forge_that_repeats_the_token(command_line: CommandLine, github: GitHubServer) -> None:
    from collections import deque

    from tests.publish.github_api import refusal

    github.next_answers["GET"] = deque([refusal(403, f"What is {TOKEN}?")])
    status, _, errors = command_line.run()
    assert status == 3
    assert "What is …?" in errors.decode()


def test_a_run_that_is_killed_between_push_and_pull_request(
    command_line: CommandLine, github: GitHubServer
) -> None:
    """What it leaves on the disk holds no token either, and the next run completes it."""
    answer = github.answer
    running: list[subprocess.Popen[bytes]] = []

    def kill_at_the_first_write(method: str, *given: object) -> Answer:
        if method == "POST" and running:
            running.pop().send_signal(signal.SIGKILL)
            time.sleep(0)
            raise ConnectionAbortedError
        return answer(method, *given)  # type: ignore[arg-type]

    github.answer = kill_at_the_first_write  # type: ignore[method-assign,assignment]
    process = command_line.start()
    running.append(process)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert list((command_line.searched / "tmp").glob("mega-optimize-pr-*"))
    command_line.search(output, errors)
    branch = "mega-optimize/containers-pip-cache"
    pushed = command_line.target.bare.git("rev-parse", branch)
    assert pushed
    assert github.pulls == []
    status, _, _ = command_line.run()
    assert status == 0
    assert len(github.pulls) == 1
    assert command_line.target.bare.git("rev-parse", branch) == pushed


def test_options_that_need_each_other(command_line: CommandLine) -> None:
    assert command_line.run("--diff")[0] == 2
    arguments = [sys.executable, "-m", "mega_optimizer", str(command_line.target.root), "--draft"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "need --pr" in done.stderr


def test_exceptions_hold_no_token(target: Target, github: GitHubServer) -> None:
    github.backend = lambda *_: (403, b"")  # type: ignore[method-assign]
    with pytest.raises(PublishError) as caught:
        target.publish()
    error: BaseException | None = caught.value
    while error is not None:
        assert_without_token(f"{error!r} {error.args} {vars(error)}".encode(), error)
        error = error.__cause__


def test_the_environment_loses_the_token() -> None:
    environment = {"GH_TOKEN": TOKEN, "GITHUB_TOKEN": "", "PATH": "/bin"}
    token = take_token(environment)
    assert environment == {"PATH": "/bin"}
    assert token.bearer == f"Bearer {TOKEN}"


def test_a_token_shows_nothing_of_itself() -> None:
    token = Token(TOKEN)
    assert_without_token(f"{token} {token!r}".encode(), "repr")
    assert token.removed_from(f"a {TOKEN} b {token.basic}") == "a … b Basic …"


@pytest.mark.parametrize("value", ["with space", "line\nbreak", "naïve"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(PublishError) as caught:
        take_token({"GITHUB_TOKEN": value})
    assert value not in str(caught.value)
