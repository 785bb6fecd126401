"""Options and settings: what they choose, and which of them wins."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mega_optimizer.cli.app import run
from mega_optimizer.config import read_settings
from mega_optimizer.samples import Sample
from tests.repositories import (
    CHANGED,
    COMMAND,
    DOCKERFILE,
    FIXED_RUN,
    SERVICE,
    below,
    changed,
    committed,
    git,
    mega_optimize,
    write,
)

PIP, ENGINE, UVLOOP, ORJSON = (
    "containers/pip-cache",
    "database/engine-per-request",
    "serving/uvloop",
    "json/orjson-response",
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of two services that no test changes."""
    root = tmp_path_factory.mktemp("shared") / "target"
    return committed(root, {**below("shop", SERVICE), **below("bank", SERVICE)})


def document(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> dict[str, Any]:
    """Run the command line in this process, writing nothing, and return the JSON result."""
    capsys.readouterr()
    options = ("--diff", "--format", "json", "--offline", "--sizes", "off")
    assert run([str(root), *arguments, *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


def rules_of(result: Mapping[str, Any]) -> set[str]:
    return {change["rule"] for change in result["changes"]}


def paths_of(result: Mapping[str, Any]) -> set[str]:
    return {path for change in result["changes"] for path in change["paths"]}


def test_safe_rules_run_by_default_and_others_are_held_back(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = document(capsys, shared)
    assert rules_of(result) == {PIP, ENGINE, UVLOOP}
    held = {each["rule"]: each for each in result["findings"] if each["status"] == "above-level"}
    assert ORJSON in held
    assert "safe" not in {each["level"] for each in held.values()}
    advice = {rule for rule, each in held.items() if each["level"] == "advice"}
    reviewed = rules_of(document(capsys, shared, "--level", "review"))
    assert reviewed >= {PIP, ENGINE, UVLOOP, ORJSON}
    assert not reviewed & advice


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--select", PIP], {PIP}),
        (["--select", "containers"], {PIP}),
        (["--select", f"{PIP},{UVLOOP}"], {PIP, UVLOOP}),
        (["--select", PIP, "--select", "serving"], {PIP, UVLOOP}),
        (["--select", "json"], set()),  # a category names no rule: its level still holds it back
        (["--select", ORJSON], {ORJSON}),
        (["--ignore", PIP], {ENGINE, UVLOOP}),
        (["--ignore", "containers,serving"], {ENGINE}),
        (["--select", "containers", "--ignore", PIP], set()),
    ],
)
def test_rules_are_chosen_by_id_and_by_category(
    shared: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: set[str]
) -> None:
    assert rules_of(document(capsys, shared, *arguments)) == expected


def test_services_and_files_are_chosen(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = paths_of(document(capsys, shared, "--service", "shop"))
    assert only == {f"shop/{path}" for path in CHANGED}
    both = paths_of(document(capsys, shared, "--service", "shop", "--service", "bank"))
    assert both == paths_of(document(capsys, shared, "--service", "shop,bank"))
    left = paths_of(document(capsys, shared, "--exclude", "bank/", "--exclude", "*.txt"))
    assert left == {"shop/Dockerfile", "shop/main.py"}


def test_an_excluded_file_is_told(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = document(capsys, shared, "--exclude", "Dockerfile")
    excluded = {each["path"] for each in result["findings"] if each["code"] == "excluded"}
    assert excluded == {"shop/Dockerfile", "bank/Dockerfile"}


def test_the_result_goes_to_a_file(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "result"
    arguments = [str(shared), "--offline", "--sizes", "off", "--output", str(output)]
    assert run([*arguments, "--diff", "--format", "json"]) == 0
    assert json.loads(output.read_text())["schema"] == 1
    assert run([*arguments, "--diff"]) == 0
    assert output.read_text().startswith("--- a/bank/Dockerfile\n")
    assert run([*arguments, "--check"]) == 1
    assert "Would change 6 files by 3 rules. Nothing was written." in output.read_text()
    assert capsys.readouterr().out == ""
    assert not changed(shared)


def test_a_diff_can_be_applied_and_checked(tmp_path: Path) -> None:
    root = committed(
        tmp_path / "target",
        {**SERVICE, "requirements.txt": SERVICE["requirements.txt"].rstrip("\n")},
    )
    done = mega_optimize(root, "--diff", "--check", status=1)
    write(tmp_path, {"patch": done.stdout})
    git(root, "apply", "../patch")
    assert changed(root) == CHANGED
    git(root, "commit", "-qam", "optimized")
    done = mega_optimize(root, "--diff", "--check", status=0)
    assert done.stdout == ""
    assert "Nothing to change." in done.stderr


def test_the_command_line_comes_before_yaml_before_pyproject_before_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = committed(tmp_path / "target", SERVICE)
    assert rules_of(document(capsys, root)) == {PIP, ENGINE, UVLOOP}
    write(root, {"pyproject.toml": "[tool.mega-optimize]\nselect = ['containers']\n"})
    assert rules_of(document(capsys, root)) == {PIP}
    write(root, {".mega-optimize.yaml": "level: review\nignore: [containers]\n"})
    reviewed = rules_of(document(capsys, root))
    assert reviewed >= {ENGINE, UVLOOP, ORJSON}
    assert PIP not in reviewed
    assert rules_of(document(capsys, root, "--level", "safe")) == {ENGINE, UVLOOP}
    without = rules_of(document(capsys, root, "--ignore", "serving"))
    assert without >= {PIP, ENGINE, ORJSON}
    assert UVLOOP not in without
    write(root, {".mega-optimize.yaml": ""})
    assert rules_of(document(capsys, root)) == {PIP, ENGINE, UVLOOP}


@pytest.mark.parametrize(
    "toml",
    [
        "tool.mega-optimize.select = ['containers']\n",
        "[tool]\nmega-optimize = {select = ['containers']}\n",
        "[tool.'mega-optimize']\nselect = ['containers']\n",
    ],
)
def test_every_spelling_of_the_table_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], toml: str
) -> None:
    write(tmp_path, {**SERVICE, "pyproject.toml": toml})
    assert rules_of(document(capsys, tmp_path)) == {PIP}


def test_config_check_names_a_service_that_is_not_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".mega-optimize.yaml").write_text("services: [api]\n")
    assert run(["config", "check", str(tmp_path)]) == 2
    assert "no service is called api" in capfd.readouterr().err


def test_config_check_shows_where_settings_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {".mega-optimize.yaml": "select: [serving]\nignore-paths: {docs/: [all]}\n"})
    assert run(["config", "check", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("from .mega-optimize.yaml:\n")
    assert "  select: serving\n" in shown
    assert "docs/" in shown
    listed = shown.partition("rules that run:\n")[2].splitlines()
    assert "  serving/uvloop (safe)" in listed
    assert all(line.startswith("  serving/") for line in listed)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            ".mega-optimize.yaml",
            "samples:\n- {service: target, path: /a, json: {rows: [[1, 2.5]]}}\n",
        ),
        (
            "pyproject.toml",
            "[[tool.mega-optimize.samples]]\n"
            'service = "target"\npath = "/a"\njson = {rows = [[1, 2.5]]}\n',
        ),
    ],
)
def test_samples_are_requests_to_services(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    root = committed(tmp_path / "target", {**SERVICE, name: content})
    assert run(["config", "check", str(root)]) == 0
    assert "  samples: POST /a\n" in capsys.readouterr().out
    (sample,) = read_settings(root).samples
    assert sample == Sample("target", "POST", "/a", '{"rows": [[1, 2.5]]}')


def test_rules_are_ignored_by_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = """\
ignore-paths:
  shop/: [containers, database/engine-per-request]
  bank/**/main.py: [all]
exclude: ["bank/requirements.txt"]
"""
    files = {**below("shop", SERVICE), **below("bank", SERVICE), ".mega-optimize.yaml": settings}
    root = committed(tmp_path / "target", files)
    result = document(capsys, root)
    assert paths_of(result) == {"shop/requirements.txt", "bank/Dockerfile"}
    assert {each["status"] for each in result["findings"] if each["code"] == "excluded"} == {
        "suppressed"
    }


def test_comments_suppress_and_those_that_do_not_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_line = "RUN pip install"
    unused = "# mega-optimize: ignore[serving/uvloop] not here\n"
    files = {
        **SERVICE,
        "Dockerfile": DOCKERFILE.replace(
            run_line, f"# mega-optimize: ignore[containers] the cache is mounted\n{run_line}"
        ),
        "main.py": SERVICE["main.py"].replace(
            'get("/items")', 'get("/items")  # mega-optimize: ignore[database/engine-per-reqest]'
        )
        + unused,
        "requirements.txt": f"# mega-optimize: ignore-file[serving/uvloop]\n"
        f"{SERVICE['requirements.txt']}",
    }
    root = committed(tmp_path / "target", files)
    result = document(capsys, root)
    assert rules_of(result) == {ENGINE}
    suppressed = {each["rule"] for each in result["findings"] if each["code"] == "suppressed"}
    assert suppressed == {PIP, UVLOOP}
    name = "database/engine-per-reqest"
    assert result["warnings"] == [
        f"main.py:7: ignore[{name}] suppresses nothing: no rule is called {name}",
        "main.py:12: ignore[serving/uvloop] suppresses nothing",
    ]
    # Nothing is said of rules that did not run.
    assert document(capsys, root, "--select", PIP)["warnings"] == result["warnings"][:1]
    assert document(capsys, root, "--service", "target")["warnings"] == []
    assert run([str(root), "--check", "--offline"]) == 1
    told = capsys.readouterr().err
    assert "mega-optimize: main.py:12: ignore[serving/uvloop] suppresses nothing\n" in told


def test_why_not_says_what_each_rule_does_with_a_file(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shared / "shop")
    write(shared, {"README": "words\n"})
    assert run(["why-not", "Dockerfile", "--offline"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("shop/Dockerfile belongs to shop\n")
    assert "containers/pip-cache (safe)\n  line 4: would change (safe): " in told
    assert "database/engine-per-request (safe)\n  shop: nothing to do was found" in told
    assert run(["why-not", "../README", "--offline"]) == 0
    assert "README belongs to no service, so no rule looks at it" in capsys.readouterr().out
    (shared / "README").unlink()


def test_why_not_finds_the_checkout_through_a_symlink(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(shared)
    assert run(["why-not", str(tmp_path / "link/shop/main.py"), "--offline"]) == 0
    assert capsys.readouterr().out.startswith("shop/main.py belongs to shop\n")


def test_rules_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert run(["rules", "--format", "json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert [line.split()[:2] for line in listed] == [
        [each["id"], each["level"]] for each in described
    ]
    for each in described:
        assert run(["explain", each["id"]]) == 0
        page = capsys.readouterr().out
        assert each["id"] in page
        assert each["title"] in page


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """Return a repository with a staged Dockerfile, and a staged one that was edited again."""
    root = committed(tmp_path / "target", {"README": "x\n"})
    write(root, {**below("shop", SERVICE), **below("bank", SERVICE)})
    git(root, "add", "-A")
    write(root, {"bank/Dockerfile": f"{DOCKERFILE}# half\n"})
    return root


def test_the_hook_rewrites_what_is_staged_and_says_so(staged: Path) -> None:
    done = mega_optimize("hook", "shop/Dockerfile", cwd=staged, status=1)
    assert done.stdout.startswith("shop/Dockerfile:4: containers/pip-cache: ")
    assert FIXED_RUN in (staged / "shop/Dockerfile").read_text()
    assert (staged / "shop/main.py").read_text() == SERVICE["main.py"]
    git(staged, "add", "shop/Dockerfile")
    done = mega_optimize("hook", "shop/Dockerfile", cwd=staged, status=0)
    assert done.stdout == ""


def test_the_hook_leaves_partly_staged_files_alone(staged: Path) -> None:
    done = mega_optimize("hook", "bank/Dockerfile", cwd=staged, status=0)
    assert (staged / "bank/Dockerfile").read_text() == f"{DOCKERFILE}# half\n"
    assert "bank/Dockerfile:4: containers/pip-cache: " in done.stderr
    assert "partly-staged: stage it first" in done.stderr


def test_the_hook_looks_at_the_index_of_commit_all(staged: Path) -> None:
    git(staged, "commit", "-qm", "All", "--no-verify", "-a")
    (staged / "shop/Dockerfile").write_text(f"{DOCKERFILE}# changed\n")
    hook = staged / ".git/hooks/pre-commit"
    hook.write_text(f"#!/bin/sh\nexec {COMMAND} hook shop/Dockerfile\n")
    hook.chmod(0o755)
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    done = subprocess.run(
        ["git", *identity, "commit", "-qam", "Change"],
        cwd=staged,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "changed shop/Dockerfile\n" in done.stdout + done.stderr
    assert FIXED_RUN in (staged / "shop/Dockerfile").read_text()


def test_the_hook_tells_what_it_cannot_read(staged: Path) -> None:
    write(staged, {"shop/Dockerfile": "RUN pip install x\nFROM python\n"})
    git(staged, "add", "shop/Dockerfile")
    done = mega_optimize("hook", "shop/Dockerfile", cwd=staged, status=0)
    assert done.stderr == "shop/Dockerfile:1: RUN before FROM\n"


def test_the_hook_knows_paths_below_the_current_folder(staged: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(staged)
    mega_optimize("hook", "Dockerfile", cwd=tmp_path / "link/shop", status=1)
    assert FIXED_RUN in (staged / "shop/Dockerfile").read_text()
    write(tmp_path, {"Dockerfile": DOCKERFILE})
    for path, said in (("nothing.py", "does not exist"), ("../../Dockerfile", "does not lie in")):
        assert said in mega_optimize("hook", path, cwd=staged / "shop", status=2).stderr


def test_why_not_asks_for_the_repository_where_git_does_not_show_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, SERVICE)
    assert run(["why-not", str(tmp_path / "main.py"), "--offline"]) == 2
    assert "--repository" in capsys.readouterr().err


def test_explain_lists_the_rules_of_a_category(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "database"]) == 2
    assert "database/engine-per-request" in capsys.readouterr().err
