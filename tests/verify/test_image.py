"""Deliberately wrong rewrites of a tiny service, on real images: the proof withdraws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mega_optimizer.engine.plan import ChangeSet, Plan
from mega_optimizer.engine.workspace import Workspace
from mega_optimizer.measure.builders.buildah import Buildah
from mega_optimizer.measure.builders.choose import BuildOptions
from mega_optimizer.measure.builders.model import ImageBuilder, Limits, Started
from mega_optimizer.measure.builders.process import BuilderError
from mega_optimizer.repository.index import DiskFiles
from mega_optimizer.repository.scan import open_repository
from mega_optimizer.repository.service import Repository
from mega_optimizer.verify.check import Check
from mega_optimizer.verify.proven import ProvenPlan, prove_plan
from mega_optimizer.verify.samples import NOTHING_ASKED, Asked
from tests.bases.available import buildah, require_base

APP = b"""\
import json
import os
import sqlite3
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == "/health"
        if known:
            open("words.json").close()
            open("state", "a").close()
        self.send_response(200 if known else 404)
        self.end_headers()


def serve():
    HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()


if __name__ == "__main__":
    serve()
"""
DOCKERFILE = """\
FROM python:3.11-slim
ENV PORT=8000
RUN useradd --uid 4321 app
RUN printf '#!/bin/sh\\n' > /usr/local/bin/prepare && chmod +x /usr/local/bin/prepare
RUN cp /usr/lib/python3.11/lib-dynload/_bz2.*.so /usr/local/lib/python3.11/dist-packages/lazy.so
RUN mkdir /usr/local/lib/python3.11/dist-packages/left-1.0.dist-info
WORKDIR /app
COPY --chown=app . .
RUN chown app /app
USER app
EXPOSE 8000
CMD ["sh", "-c", "prepare && exec python serve.py"]
"""
FILES = {
    "Dockerfile": DOCKERFILE.encode(),
    "serve.py": APP,
    "words.json": b"[]\n",
    "requirements.txt": b"",
    "tests/test_serve.py": b"",
}
Edit = tuple[str, bytes]  # a file and its content after the rule


def replaced(old: str, new: str) -> Edit:
    assert old in DOCKERFILE
    return "Dockerfile", DOCKERFILE.replace(old, new).encode()


# What a rewrite breaks, and the check that notices it.
WRONG: dict[str, tuple[Edit, str]] = {
    "runtime library that is imported": (
        replaced("WORKDIR", "RUN rm /usr/lib/x86_64-linux-gnu/libsqlite3.so*\nWORKDIR"),
        "imports",
    ),
    "runtime library that is loaded late": (
        replaced("WORKDIR", "RUN rm /lib/x86_64-linux-gnu/libbz2.so*\nWORKDIR"),
        "libraries",
    ),
    "tool": (replaced("WORKDIR", "RUN rm /usr/local/bin/prepare\nWORKDIR"), "start"),
    "user": (replaced("USER app\n", ""), "user"),
    "owner": (replaced("COPY --chown=app", "COPY"), "files"),
    "data file": (replaced("COPY --chown=app . .", "COPY --chown=app serve.py ."), "files"),
    "build": (replaced("WORKDIR", "RUN exit 3\nWORKDIR"), "build"),
    "ignore file": ((".dockerignore", b"words.json\n"), "health route"),
}
RIGHT: dict[str, Edit] = {
    "comment": ("Dockerfile", f"# comment\n{DOCKERFILE}".encode()),
    "code": ("serve.py", APP.replace(b"import json\n", b"")),
    "ignore file": (".dockerignore", b"tests\n"),
    "venv": replaced(
        "WORKDIR",
        "RUN python -m venv --system-site-packages /opt/venv\n"
        "ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH\nWORKDIR",
    ),
}


@pytest.fixture(scope="module")
def builder() -> Iterator[ImageBuilder]:
    with buildah() as made:
        yield made


def target(folder: Path, files: Mapping[str, bytes]) -> tuple[DiskFiles, Repository]:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return open_repository(folder)


def planned(
    files: DiskFiles,
    repository: Repository,
    edits: Mapping[str, tuple[str, Edit]],
    withdrawn: Mapping[tuple[str, str], tuple[str, str]],
) -> Plan:
    """Plan ``edits`` (rule → service and edit), apart from those that are withdrawn."""
    snapshot = Workspace(files)
    changes = []
    for rule, (service, (path, content)) in edits.items():
        if (rule, service) not in withdrawn:
            before = snapshot.read(path) if path in snapshot else None
            changes.append(ChangeSet(rule, "safe", service, {path: before}, {path: content}))
            snapshot = snapshot.with_changes({path: content})
    return Plan(repository, (), tuple(changes), (), snapshot, {})


def proven(
    builder: ImageBuilder,
    folder: Path,
    edits: Mapping[str, tuple[str, Edit]],
    sources: Mapping[str, bytes] = FILES,
    asked: Asked = NOTHING_ASKED,
) -> tuple[ProvenPlan, dict[tuple[str, str], tuple[str, str]]]:
    """Prove a plan; return what is left of it, and what was withdrawn last."""
    (folder / "target").mkdir()
    files, repository = target(folder / "target", sources)
    last: dict[tuple[str, str], tuple[str, str]] = {}

    def replan(withdrawn: Mapping[tuple[str, str], tuple[str, str]]) -> Plan:
        last.clear()
        last.update(withdrawn)
        return planned(files, repository, edits, withdrawn)

    plan = planned(files, repository, edits, {})
    return prove_plan(plan, replan, files, builder, BuildOptions(), folder, asked=asked), last


def verdicts(checks: Sequence[Check]) -> dict[str, str]:
    return {check.name: check.verdict for check in checks}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rewrite_is_withdrawn(builder: ImageBuilder, tmp_path: Path, name: str) -> None:
    edit, check = WRONG[name]

    result, withdrawn = proven(builder, tmp_path, {"containers/wrong": ("target", edit)})

    ((_, (code, reason)),) = withdrawn.items()
    assert code == "proof-failed"
    assert reason.startswith(f"the image does not pass: {check}: ")
    assert result.plan.changes == ()
    assert result.images == ()


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_rewrite_is_proven(builder: ImageBuilder, tmp_path: Path, name: str) -> None:
    result, withdrawn = proven(builder, tmp_path, {"containers/right": ("target", RIGHT[name])})

    assert not withdrawn
    (pair,) = result.images
    assert {check.verdict for check in pair.checks} == {"passed"}, pair.checks
    assert result.verified == {"target": True}
    assert pair.before.kind == pair.after.kind == "measured"
    assert pair.after.bytes_on_disk
    assert pair.after.bytes_compressed
    by_name = {check.name: check for check in pair.checks}
    assert by_name["start"].detail == "answers on port 8000"
    assert by_name["health route"].detail == "/health 200"


@pytest.mark.parametrize("rule", ["containers/exec-form", "containers/other"])
def test_only_a_rule_about_commands_may_change_one(
    builder: ImageBuilder, tmp_path: Path, rule: str
) -> None:
    edit = replaced('["sh", "-c", "prepare && exec python serve.py"]', '["python", "serve.py"]')

    _, withdrawn = proven(builder, tmp_path, {rule: ("target", edit)})

    assert bool(withdrawn) == (rule == "containers/other")


class Overloaded(Buildah):
    """buildah on a machine that does so much else that the second start fails."""

    starts = 0

    @contextmanager
    def started(self, image: str, environment: Mapping[str, str]) -> Iterator[Started]:
        """Start ``image`` unless it is the second one that is started."""
        self.starts += 1
        if self.starts == 2:
            raise BuilderError("no resources are left")
        with super().started(image, environment) as started:
            yield started


def test_an_image_that_starts_at_the_second_try_is_proven(tmp_path: Path) -> None:
    require_base()
    with Overloaded(Limits()) as builder:
        edits = {"containers/right": ("target", RIGHT["comment"])}
        result, withdrawn = proven(builder, tmp_path, edits)

    assert not withdrawn
    assert result.verified == {"target": True}
    # Before and after, and both once more.
    assert builder.starts == 4


def test_only_the_guilty_rule_is_withdrawn(builder: ImageBuilder, tmp_path: Path) -> None:
    edits = {
        "containers/multi-stage": ("target", RIGHT["ignore file"]),
        "containers/other": ("target", RIGHT["comment"]),
        "serving/code": ("target", ("serve.py", b"raise SystemExit('broken')\n")),
    }

    result, withdrawn = proven(builder, tmp_path, edits)

    assert [change.rule for change in result.plan.changes] == [
        "containers/multi-stage",
        "containers/other",
    ]
    assert list(withdrawn) == [("serving/code", "target")]
    assert result.verified == {"target": True}


def test_another_service_keeps_its_change(builder: ImageBuilder, tmp_path: Path) -> None:
    sources = {f"{name}/{path}": each for name in ("bad", "good") for path, each in FILES.items()}
    wrong, right = WRONG["user"][0], RIGHT["comment"]
    edits = {
        "containers/one": ("bad", (f"bad/{wrong[0]}", wrong[1])),
        "containers/two": ("good", (f"good/{right[0]}", right[1])),
    }

    result, withdrawn = proven(builder, tmp_path, edits, sources)

    assert list(withdrawn) == [("containers/one", "bad")]
    assert [change.rule for change in result.plan.changes] == ["containers/two"]
    assert result.verified == {"good": True}


def test_a_service_that_cannot_start_must_fail_as_before(
    builder: ImageBuilder, tmp_path: Path
) -> None:
    broken = b"raise SystemExit('no database at 10.0.0.7')\n"
    sources = {**FILES, "serve.py": broken}

    alike, _ = proven(builder, tmp_path, {"containers/a": ("target", RIGHT["comment"])}, sources)

    (pair,) = alike.images
    checks = {check.name: check for check in pair.checks}
    assert checks["start"].verdict == "not-verified"
    assert "before and after alike: exits with 1: no database" in checks["start"].detail
    assert alike.verified == {"target": None}


def test_a_service_that_fails_in_another_way_is_withdrawn(
    builder: ImageBuilder, tmp_path: Path
) -> None:
    sources = {**FILES, "serve.py": b"import sys\nsys.exit('no database')\n"}
    edit = WRONG["tool"][0]

    result, withdrawn = proven(builder, tmp_path, {"containers/a": ("target", edit)}, sources)

    assert list(withdrawn) == [("containers/a", "target")]
    assert not result.plan.changes


def test_without_an_image_before_nothing_is_claimed(builder: ImageBuilder, tmp_path: Path) -> None:
    dockerfile = DOCKERFILE.replace("python:3.11-slim", "localhost:1/python:3.11-slim").encode()
    sources = {**FILES, "Dockerfile": dockerfile}
    edit = "Dockerfile", b"# comment\n" + dockerfile

    result, withdrawn = proven(builder, tmp_path, {"containers/a": ("target", edit)}, sources)

    assert not withdrawn
    (pair,) = result.images
    assert pair.before.unknown == ("not built: base unreachable",)
    assert pair.after.bytes_on_disk is None
    assert verdicts(pair.checks) == {"build": "not-verified"}
    assert result.verified == {"target": None}


def test_services_of_one_dockerfile_are_built_once(builder: ImageBuilder, tmp_path: Path) -> None:
    compose = (
        b"services:\n  web:\n    build: .\n    environment: {PORT: 9000}\n"
        b"  worker:\n    build: .\n    command: python serve.py\n"
    )
    sources = {**FILES, "docker-compose.yml": compose}

    result, _ = proven(builder, tmp_path, {"containers/a": ("web", RIGHT["comment"])}, sources)

    (pair,) = result.images
    assert result.verified == {"web": True}
    # With the environment that compose gives it.
    assert {check.name: check.detail for check in pair.checks}["start"] == "answers on port 9000"
