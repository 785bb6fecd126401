"""What a comparison of two images as data, and of two trials, calls a failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mega_optimizer.measure.builders.inventory import Entry, Inventory
from mega_optimizer.measure.builders.model import Configuration
from mega_optimizer.verify.check import Check
from mega_optimizer.verify.image import Appearance, Proof, data_checks, trial_checks
from mega_optimizer.verify.image_files import ExpectedFiles
from mega_optimizer.verify.trial import StartUp, Trial

CONFIGURATION = Configuration(
    user="app",
    workdir="/app",
    command=("python", "app.py"),
    environment={"PATH": "/usr/local/bin:/usr/bin", "PORT": "80", "PYTHON_VERSION": "3.11.1"},
    labels={"a": "b"},
    ports=frozenset({"80/tcp"}),
)
SITE = "usr/lib/python3.11/site-packages"
STATUS = b"Package: libc6\nStatus: install ok installed\nVersion: 2.36\n"


def file(
    digest: str = "", owner: int = 0, mode: int = 0o644, needed: tuple[str, ...] = ()
) -> Entry:
    return Entry("file", mode, owner, 1, digest, needed)


FILES = {
    "app": Entry("folder", 0o755, 0, 0),
    "app/app.py": file("code"),
    "app/model.bin": file("made by the build"),
    "app/tests/test_app.py": file("test"),
    "app/__pycache__/app.pyc": file("bytecode"),
    "app/link": Entry("link", 0o777, 0, 0, "-> app.py"),
    f"{SITE}/flask-3.1.dist-info/METADATA": file(),
    f"{SITE}/pip-23.0.dist-info/METADATA": file(),
    f"{SITE}/fast.so": file(needed=("libgomp.so.1",)),
    "usr/lib/libgomp.so.1": file(),
}
CONTEXT = {"app.py": "code", "tests/test_app.py": "test"}
UNCHANGED = ExpectedFiles(CONTEXT, CONTEXT, frozenset())


def failures(
    changed: Mapping[str, Any] | None = None,
    files: Mapping[str, Entry | None] | None = None,
    expected: ExpectedFiles = UNCHANGED,
    command_may_change: bool = False,
) -> list[str]:
    """Return the checks that fail when these things (None: gone) are otherwise afterwards."""
    present = {path: entry for path, entry in {**FILES, **(files or {})}.items() if entry}
    before = Appearance(CONFIGURATION, Inventory(FILES, STATUS))
    after = Appearance(replace(CONFIGURATION, **(changed or {})), Inventory(present, STATUS))
    checks = data_checks(before, after, expected, command_may_change)
    return [check.name for check in checks if check.verdict == "failed"]


def environment(**changed: str | None) -> dict[str, Any]:
    merged = {**CONFIGURATION.environment, **changed}
    return {"environment": {name: value for name, value in merged.items() if value is not None}}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"user": ""}, "user"),
        ({"user": "1000"}, "user"),
        ({"workdir": "/"}, "workdir"),
        ({"command": ("python", "-O", "app.py")}, "command"),
        ({"entrypoint": ("tini",)}, "command"),
        ({"ports": frozenset()}, "ports"),
        ({"volumes": frozenset({"/data"})}, "volumes"),
        ({"labels": {}}, "labels"),
        ({"healthcheck": ("CMD", "true")}, "health check"),
        ({"stop_signal": "SIGINT"}, "stop signal"),
        (environment(PORT=None), "environment"),
        (environment(PORT="81"), "environment"),
        (environment(MODE="fast"), "environment"),
        (environment(PATH="/usr/bin"), "environment"),
        (environment(PATH="/usr/bin:/usr/local/bin"), "environment"),
    ],
)
def test_another_configuration_fails(changed: dict[str, Any], name: str) -> None:
    assert failures(changed) == [name]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        environment(PATH="/opt/venv/bin:/usr/local/bin:/usr/bin", VIRTUAL_ENV="/opt/venv"),
        environment(PYTHON_VERSION="3.11.2", PIP_NO_CACHE_DIR="1"),
        environment(PYTHON_VERSION=None),
    ],
)
def test_what_a_base_or_a_builder_sets_may_differ(changed: dict[str, Any]) -> None:
    assert failures(changed) == []


def test_a_rule_about_serving_may_change_the_command() -> None:
    assert failures({"command": ("gunicorn",)}, command_may_change=True) == []


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"app/app.py": None}, "files"),
        ({"app/app.py": file("other code")}, "files"),
        ({"app/app.py": file("code", owner=1000)}, "files"),
        ({"app/app.py": file("code", mode=0o600)}, "files"),
        ({"app/model.bin": None}, "files"),
        ({"app/tests/test_app.py": None}, "files"),
        ({"app/link": Entry("link", 0o777, 0, 0, "-> other.py")}, "files"),
        ({"app/new.py": file("new")}, "files"),
        ({f"{SITE}/flask-3.1.dist-info/METADATA": None}, "packages"),
        (
            {
                f"{SITE}/flask-3.1.dist-info/METADATA": None,
                f"{SITE}/flask-3.2.dist-info/METADATA": file(),
            },
            "packages",
        ),
        ({"usr/lib/libgomp.so.1": None}, "libraries"),
    ],
)
def test_other_files_fail(files: dict[str, Entry | None], name: str) -> None:
    assert failures(files=files) == [name]


@pytest.mark.parametrize(
    "files",
    [
        {"app/__pycache__/app.pyc": None},
        {"app/model.bin": file("made by another build")},
        {f"{SITE}/pip-23.0.dist-info/METADATA": None},
        {f"{SITE}/uvloop-0.22.dist-info/METADATA": file()},
        {"app/.venv/pyvenv.cfg": file("x"), "app/.venv/bin/python": file("y")},
        {"opt/other": file()},
        {"app/lib/lib.egg-info/PKG-INFO": file("x"), "app/lib/build/lib/lib.py": file("y")},
    ],
)
def test_what_a_rebuild_may_change_passes(files: dict[str, Entry | None]) -> None:
    assert failures(files=files) == []


def test_what_the_plan_changed_passes_and_nothing_beside_it() -> None:
    expected = ExpectedFiles(CONTEXT, {**CONTEXT, "app.py": "better code"}, frozenset())

    assert failures(files={"app/app.py": file("better code")}, expected=expected) == []
    assert failures(files={"app/app.py": file("other code")}, expected=expected) == ["files"]
    assert failures(files={"app/tests/test_app.py": file("better code")}, expected=expected) == [
        "files"
    ]


def test_what_the_ignore_file_keeps_out_may_be_missing() -> None:
    expected = ExpectedFiles(CONTEXT, CONTEXT, frozenset({"tests/test_app.py"}))

    assert failures(files={"app/tests/test_app.py": None}, expected=expected) == []
    assert failures(files={"app/app.py": None}, expected=expected) == ["files"]


def test_an_empty_file_of_the_same_name_elsewhere_is_still_missed() -> None:
    contents = {"app.py": "code", "pkg/__init__.py": "empty", "tests/__init__.py": "empty"}
    expected = ExpectedFiles(contents, contents, frozenset({"tests/__init__.py"}))

    assert expected.leaves_out("tests/__init__.py", "empty")
    assert not expected.leaves_out("pkg/__init__.py", "empty")


def test_a_working_directory_that_is_the_root_is_not_compared() -> None:
    root = Appearance(replace(CONFIGURATION, workdir="/"), Inventory(FILES))

    verdicts = {each.name: each.verdict for each in data_checks(root, root, UNCHANGED)}

    assert verdicts["files"] == "not-verified"


ANSWERS = StartUp("answers", {"/": 404, "/health": 200}, "", "answers on port 80")
EXITS = StartUp("exits", {}, "no database at #", "exits with 1: no database at 1")
SILENT = StartUp("silent", {}, "", "runs for 75 s without listening on a port")


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (ANSWERS, ANSWERS, {"start": "passed", "health route": "passed"}),
        (ANSWERS, EXITS, {"start": "failed"}),
        (ANSWERS, SILENT, {"start": "failed"}),
        (
            ANSWERS,
            replace(ANSWERS, answers={"/": 404, "/health": 500}),
            {"start": "passed", "health route": "failed"},
        ),
        (
            ANSWERS,
            replace(ANSWERS, answers={"/": 404}),
            {"start": "passed", "health route": "failed"},
        ),
        (
            replace(ANSWERS, answers={"/": 503}),
            replace(ANSWERS, answers={"/": 200}),
            {"start": "passed", "health route": "not-verified"},
        ),
        (EXITS, EXITS, {"start": "not-verified"}),
        (EXITS, replace(EXITS, failure="sh: not found"), {"start": "failed"}),
        (EXITS, SILENT, {"start": "failed"}),
        (EXITS, ANSWERS, {"start": "not-verified"}),
        (SILENT, SILENT, {"start": "not-verified"}),
    ],
)
def test_a_start_is_compared_with_the_one_before(
    before: StartUp, after: StartUp, verdict: dict[str, str]
) -> None:
    checks = trial_checks(Trial({"app": ""}, before), Trial({"app": ""}, after))

    assert {each.name: each.verdict for each in checks} == {"imports": "passed", **verdict}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ({"app": ""}, {"app": ""}, "passed"),
        ({"app": ""}, {"app": "ImportError: no"}, "failed"),
        ({"app": ""}, {}, "failed"),
        ({"app": "", "app.old": "KeyError: X"}, {"app": "", "app.old": "KeyError: Y"}, "passed"),
        ({"app": "KeyError: X"}, {"app": "KeyError: X"}, "not-verified"),
        ({}, {}, "not-verified"),
    ],
)
def test_a_module_that_was_imported_must_be_imported_again(
    before: dict[str, str], after: dict[str, str], verdict: str
) -> None:
    first, *_ = trial_checks(Trial(before, ANSWERS), Trial(after, ANSWERS))

    assert first.verdict == verdict


@pytest.mark.parametrize(
    ("verdicts", "holds"),
    [
        (["passed", "passed"], True),
        (["passed", "not-verified"], None),
        (["not-verified", "failed"], False),
        ([], None),
    ],
)
def test_a_proof_holds_only_where_everything_passed(
    verdicts: list[Any], holds: bool | None
) -> None:
    proof = Proof(tuple(Check("name", verdict) for verdict in verdicts))

    assert proof.holds is holds
