"""Whatever a target holds and a disk does: one clear line or entry, and the rest is still done."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mega_optimizer.cli.app import run
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
    result_of,
    statuses,
    write,
)

needs_a_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no device that is always full"
)
MAIN = SERVICE["main.py"]
INSTALL_PROJECT = DOCKERFILE.replace("requirements.txt .", "pyproject.toml .").replace(
    "-r requirements.txt", "."
)
CHART = "apiVersion: apps/v1\nkind: Deployment\nspec: {{ .Values.spec }}\n"
ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def service(folder: str, **files: str) -> dict[str, str]:
    """Return a service in ``folder`` in which ``main_py`` (and the like) is replaced."""
    replaced = {name.replace("_", "."): content for name, content in files.items()}
    return below(folder, SERVICE | replaced)


def project(folder: str, toml: str) -> dict[str, str]:
    """Return a service whose only manifest is a pyproject.toml."""
    files = {"Dockerfile": INSTALL_PROJECT, "main.py": MAIN, "pyproject.toml": toml}
    return below(folder, files)


def only_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return a repository with one of everything that is broken, rewritten, and the result."""
    folder = tmp_path_factory.mktemp("zoo")
    write(folder / "outside", SERVICE)
    root = committed(
        folder / "zoo",
        {
            **service("good"),
            **service("unparsable", main_py=f"{MAIN}def (:\n"),
            **service("newer", main_py=f"{MAIN}lazy import json\n"),
            **service("terms", main_py=f"{MAIN}total = {' + '.join(['1'] * 2000)}\n"),
            **service("parentheses", main_py=f"{MAIN}x = {'(' * 1500}1{')' * 1500}\n"),
            **service("nul", main_py=f"{MAIN}\0\n"),
            **service("huge", main_py=f"{MAIN}#{'#' * (2 << 20)}\n"),
            **service("jinja", main_py=f"{MAIN}{{% if x %}}\n{{{{ y }}}}\n{{% endif %}}\n"),
            **service("slug", main_py=f"{MAIN}# {{{{ cookiecutter.slug }}}}\n"),
            **service("base", Dockerfile=f"RUN pip install x\n{DOCKERFILE}"),
            **service("template", Dockerfile=f"{DOCKERFILE}{{% if x %}}\nUSER x\n{{% endif %}}\n"),
            **project("toml", '[project]\nname = \ndependencies = ["fastapi"]\n'),
            **project("toml-bomb", f"[project]\ndependencies = {'[' * 20_000}\n"),
            **service("compose"),
            "compose/compose.yaml": "services: [a: {\n",
            **service("aliases"),
            "aliases/compose.yaml": f"{ALIAS_BOMB}services: {{web: {{build: ., command: *i}}}}\n",
            **service("nesting"),
            "nesting/compose.yaml": "[" * 20_000,
            "chart/templates/deployment.yaml": CHART,
            **service("{{cookiecutter.slug}}"),
        },
    )
    (root / "linked").symlink_to(folder / "outside")
    (root / "linked.py").symlink_to(folder / "outside" / "main.py")
    (root / "same").mkdir()
    (root / "same" / "Dockerfile").symlink_to("../good/Dockerfile")
    (root / "round.py").symlink_to("round.py")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "links")
    return root, result_of(root, status=0)


def test_each_broken_file_is_named_once(zoo: tuple[Path, dict[str, Any]]) -> None:
    _, result = zoo
    assert [(error["path"], error["code"]) for error in result["errors"]] == [
        ("aliases/compose.yaml", "yaml-aliases"),
        ("base/Dockerfile", "syntax-error"),
        ("chart/templates/deployment.yaml", "templated"),
        ("compose/compose.yaml", "yaml-syntax"),
        ("huge/main.py", "too-large"),
        ("linked", "outside-root"),
        ("linked.py", "outside-root"),
        ("nesting/compose.yaml", "yaml-nesting"),
        ("round.py", "symlink"),
        ("same/Dockerfile", "symlink"),
        ("template/Dockerfile", "templated"),
        ("toml-bomb/pyproject.toml", "too-deep"),
        ("toml/pyproject.toml", "toml-error"),
        ("{{cookiecutter.slug}}", "templated"),
    ]
    assert all(error["message"] and "\n" not in error["message"] for error in result["errors"])


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("unparsable", "syntax-error"),
        pytest.param(
            "newer",
            "syntax-error",
            marks=pytest.mark.skipif(sys.version_info >= (3, 15), reason="it reads lazy imports"),
        ),
        ("parentheses", "too-deep"),
        ("terms", "too-deep"),
        ("nul", "control-character"),
        ("jinja", "templated"),
        ("slug", "templated"),
    ],
)
def test_python_that_cannot_be_read_is_a_skip_with_its_code(
    zoo: tuple[Path, dict[str, Any]], folder: str, code: str
) -> None:
    root, result = zoo
    expected = {("database/engine-per-request", "skipped", code)}
    found = statuses(result, f"{folder}/main.py")
    assert {each for each in found if each[1] == "skipped"} >= expected
    assert f"{folder}/main.py" not in changed(root)


def test_the_rest_is_rewritten(zoo: tuple[Path, dict[str, Any]]) -> None:
    root, _ = zoo
    whole = {f"{folder}/{path}" for folder in ("good", "compose") for path in CHANGED}
    beside = {"base/main.py", "template/main.py", "unparsable/Dockerfile", "huge/Dockerfile"}
    assert whole | beside | {"terms/Dockerfile", "toml/Dockerfile"} <= changed(root)
    assert FIXED_RUN in (root / "good/Dockerfile").read_text()
    broken = {"base/Dockerfile", "template/Dockerfile", "toml/pyproject.toml", "linked.py"}
    assert not broken & changed(root)
    assert (root.parent / "outside/Dockerfile").read_text() == DOCKERFILE


def test_strict_makes_unread_files_a_failure(zoo: tuple[Path, dict[str, Any]]) -> None:
    root, _ = zoo
    mega_optimize(root, "--diff", status=0)
    mega_optimize(root, "--diff", "--strict", status=1)


def test_the_report_names_what_was_not_read(zoo: tuple[Path, dict[str, Any]]) -> None:
    root, _ = zoo
    report = mega_optimize(root, "--check", "--verbose", "--sizes", "off").stdout
    assert "compose/compose.yaml:2  yaml-syntax" in report
    assert report.count("huge/main.py") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing",), "missing does not exist"),
        (("target/main.py",), "target/main.py is not a folder"),
        (("a" * 300,), "File name too long"),
        (("target", "--select", "containers/pip-cash"), "did you mean containers/pip-cache?"),
        (("target", "--ignore", "nothing-like-it"), "no rule is called nothing-like-it"),
        (("target", "--service", "nobody"), "no service is called nobody (there are: target)"),
        (("target", "--exclude", "!"), "not a pattern: !"),
        (("target", "--exclude", "[z-a]"), "not a pattern: [z-a]"),
        (("target", "--output", "target"), "target cannot be written: it is a folder"),
        (("target", "--output", "no/file"), "no/file cannot be written: there is no folder no"),
        pytest.param(
            ("target", "--check", "--output", "/dev/full"),
            "/dev/full cannot be written: No space left",
            marks=needs_a_full_device,
        ),
        (("explain", "uvloop"), "no rule is called uvloop; did you mean serving/uvloop?"),
        (("config", "check", "missing"), "missing does not exist"),
        (("why-not", "target/nothing.py"), "target/nothing.py is not a file"),
        (("why-not", "target/main.py", "--repository", "outside"), "does not lie in"),
        (("hook", "target/Dockerfile"), "a hook runs inside a git checkout"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(shared)
    assert run([*arguments]) == 2
    captured = capsys.readouterr()
    assert said in only_line(captured.err)
    assert captured.err.startswith("mega-optimize: ")
    assert not captured.out
    assert not changed(shared / "target")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--levle", "review"), "No such option: --levle"),
        (("--level", "high"), "'high' is not one of 'safe', 'review'"),
        (("target", "target"), "unexpected extra argument"),
        (("hook",), "Missing argument"),
    ],
)
def test_wrong_options_are_told_with_the_usage(
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(shared)
    assert run([*arguments]) == 2
    usage, *_, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("Usage: mega-optimize")
    assert error.startswith("Error: ")
    assert said in error


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a target that no test changes, and an empty folder."""
    folder = tmp_path_factory.mktemp("shared")
    committed(folder / "target", SERVICE)
    (folder / "outside").mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (".mega-optimize.yaml", "selct: [json]\n", "selct is not a setting; did you mean select?"),
        (".mega-optimize.yaml", "select: json\n", "select must be a list of strings"),
        (".mega-optimize.yaml", "level: high\n", "level must be one of safe, review"),
        (".mega-optimize.yaml", "offline: maybe\n", "offline must be true or false"),
        (".mega-optimize.yaml", "rules: [a]\n", "rules must be a table"),
        (".mega-optimize.yaml", "- a\n", "settings are expected"),
        (".mega-optimize.yaml", "samples: {a: b}\n", "samples must be a list of requests"),
        (".mega-optimize.yaml", "samples: [{path: /}]\n", "service must be the name of a service"),
        (".mega-optimize.yaml", "samples: [{service: a, path: x}]\n", "path must be that of a URL"),
        (".mega-optimize.yaml", "samples: [{service: a, url: /}]\n", "samples[0] may have json, "),
        (
            ".mega-optimize.yaml",
            "samples: [{service: a, path: /, json: {day: 2026-01-01}}]\n",
            "json holds what JSON does not",
        ),
        (
            ".mega-optimize.yaml",
            "samples: [{service: a, path: /, method: DELETE}]\n",
            "method must be one of GET, POST, PUT",
        ),
        (
            ".mega-optimize.yaml",
            "samples: [{service: a, path: /, method: GET, json: 1}]\n",
            "GET takes no json",
        ),
        (
            ".mega-optimize.yaml",
            "samples: [{service: shop, path: /}]\n",
            "no service is called shop",
        ),
        (".mega-optimize.yaml", "level: [\n", ".mega-optimize.yaml:2 is not valid YAML"),
        (".mega-optimize.yaml", "level: safe\nlevel: review\n", "duplicate key"),
        (".mega-optimize.yaml", "level: !!python/name:os.system\n", "is not valid"),
        (".mega-optimize.yaml", "level: 2024-13-45\n", "month must be in 1..12"),
        (".mega-optimize.yaml", ALIAS_BOMB, "it stands for over 50,000 nodes"),
        (".mega-optimize.yaml", "[" * 20_000, "it nests over 64 levels"),
        (".mega-optimize.yaml", "? [a,\n  b]\n: 1\n", "is not"),
        (".mega-optimize.yaml", '"a\\nb": 1\n', "'a\\nb' is not a setting"),
        (".mega-optimize.yaml", b"level: \xff\n", "it is not UTF-8"),
        (".mega-optimize.yaml", "exclude: ['!']\n", "not a pattern: !"),
        (".mega-optimize.yaml", "ignore-paths: {a: [jsn]}\n", "no rule is called jsn"),
        (
            ".mega-optimize.yaml",
            "rules: {containers/pip-cache: {speed: 1}}\n",
            "speed is not a parameter of containers/pip-cache",
        ),
        (
            ".mega-optimize.yaml",
            "rules: {containers/pip-cash: {}}\n",
            "did you mean containers/pip-cache?",
        ),
        ("pyproject.toml", "[tool.mega-optimize]\nlevel = 1\n", "level must be one of"),
        ("pyproject.toml", "[tool.mega-optimize]\nlevel =\n", "pyproject.toml is not valid TOML"),
        ("pyproject.toml", "[tool.mega-optimize]\nx = " + "[" * 20_000, "is not valid TOML"),
        ("pyproject.toml", "[tool.mega-optimize]\nx = " + "1" * 5000, "is not valid TOML"),
    ],
)
def test_invalid_configuration_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | bytes, said: str
) -> None:
    write(tmp_path, {**SERVICE, name: content})
    assert run([str(tmp_path), "--diff", "--offline"]) == 2
    line = only_line(capsys.readouterr().err)
    assert said in line
    assert len(line) < 400


@pytest.mark.parametrize("target", ["../outside.yaml", "missing"])
def test_a_symlink_is_no_configuration(tmp_path: Path, target: str) -> None:
    write(tmp_path, {"outside.yaml": "level: review\n", "target/main.py": MAIN})
    (tmp_path / "target/.mega-optimize.yaml").symlink_to(target)
    done = mega_optimize(tmp_path / "target", "--diff", status=2)
    assert ".mega-optimize.yaml cannot be read" in only_line(done.stderr)


def test_a_linked_pyproject_without_settings_is_only_reported(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", SERVICE)
    write(tmp_path, {"pyproject.toml": "[tool.mega-optimize]\nlevel = 'review'\n"})
    (root / "pyproject.toml").symlink_to("../pyproject.toml")
    git(root, "add", "-A")
    result = result_of(root, "--diff", status=0)
    assert [(error["path"], error["code"]) for error in result["errors"]] == [
        ("pyproject.toml", "outside-root")
    ]


def test_a_folder_without_python_is_nothing_to_do(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", {"README.md": "words\n"})
    done = mega_optimize(root, status=0)
    assert only_line(done.stderr) == "mega-optimize: no Python service was found"
    assert "Nothing to change." in done.stdout
    assert result_of(root)["warnings"] == ["no Python service was found"]


def test_a_folder_that_is_no_repository_is_only_looked_at(tmp_path: Path) -> None:
    write(tmp_path, {**SERVICE, ".gitignore": "!\n\\\n[z-a]\n*.log\n"})
    assert FIXED_RUN in mega_optimize(tmp_path, "--diff", status=0).stdout
    mega_optimize(tmp_path, "--check", status=1)
    done = mega_optimize(tmp_path, status=2)
    assert "is not a git checkout" in only_line(done.stderr)
    assert (tmp_path / "Dockerfile").read_text() == DOCKERFILE
    mega_optimize(tmp_path, "--allow-dirty", status=0)
    assert FIXED_RUN in (tmp_path / "Dockerfile").read_text()


def test_a_damaged_index_is_one_line(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", SERVICE)
    (root / ".git/index").write_bytes(b"DIRC\0\0\0\2nonsense")
    done = mega_optimize(root, status=2)
    assert "git cannot read this checkout" in only_line(done.stderr)


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    script = f'mkdir gone && cd gone && rmdir ../gone && exec "{COMMAND}" --offline'
    done = mega_optimize(cwd=tmp_path, command=("sh", "-c", script), status=2)
    assert "does not exist" in only_line(done.stderr)


def test_modified_files_are_skipped_and_others_rewritten(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", {**service("one"), **service("two"), **service("three")})
    ours = DOCKERFILE + "# mine\n"
    write(root, {"one/Dockerfile": ours, "two/Dockerfile": ours})
    git(root, "add", "two/Dockerfile")
    write(root, {"two/Dockerfile": ours + "# more\n"})
    only = ("--select", "containers/pip-cache")
    result = result_of(root, *only, status=0)
    for path in ("one/Dockerfile", "two/Dockerfile"):
        skipped = ("containers/pip-cache", "skipped", "uncommitted-changes")
        assert statuses(result, path) == {skipped}
    reasons = [finding["reason"] for finding in result["findings"] if finding["code"]]
    assert any("partly-staged" in reason for reason in reasons)
    assert (root / "one/Dockerfile").read_text() == ours
    assert (root / "two/Dockerfile").read_text() == ours + "# more\n"
    assert FIXED_RUN in (root / "three/Dockerfile").read_text()
    mega_optimize(root, *only, "--allow-dirty", status=0)
    assert FIXED_RUN in (root / "one/Dockerfile").read_text()


def test_a_file_that_git_does_not_track_is_not_written_over(tmp_path: Path) -> None:
    files = {path: content for path, content in SERVICE.items() if path != ".dockerignore"}
    root = committed(tmp_path / "target", files)
    write(root, {".dockerignore": "mine\n"})
    result = result_of(root, status=0)
    codes = {finding["code"] for finding in result["findings"]}
    assert "untracked-file" in codes
    assert (root / ".dockerignore").read_text() == "mine\n"
    assert FIXED_RUN in (root / "Dockerfile").read_text()


def test_what_permissions_forbid_is_skipped_and_the_rest_rewritten(tmp_path: Path) -> None:
    names = ("good", "closed", "frozen", "sealed", "unseen")
    files: dict[str, str] = {}
    for name in names:
        files |= service(name)
    del files["sealed/.dockerignore"]
    root = committed(tmp_path / "target", files)
    (root / "closed/main.py").chmod(0)
    (root / "closed/Dockerfile").chmod(0)
    (root / "frozen/Dockerfile").chmod(0o444)
    (root / "sealed").chmod(0o555)
    (root / "unseen").chmod(0)
    try:
        result = result_of(root, limits=True, status=0)
    finally:
        for name in ("sealed", "unseen"):
            (root / name).chmod(0o755)
    unread = {error["path"] for error in result["errors"] if error["code"] == "unreadable"}
    assert {"closed/Dockerfile", "closed/main.py", "unseen/Dockerfile"} <= unread
    skipped = ("containers/pip-cache", "skipped", "read-only-file")
    assert skipped in statuses(result, "frozen/Dockerfile")
    assert "read-only-folder" in {code for _, _, code in statuses(result, "sealed/Dockerfile")}
    assert {path for path in changed(root) if path.split("/")[0] in ("good", "sealed")} == {
        f"good/{path}" for path in CHANGED
    }
    assert {"frozen/main.py", "frozen/requirements.txt"} <= changed(root)


def test_a_repository_that_cannot_be_entered_is_one_line(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", SERVICE)
    root.chmod(0)
    try:
        done = mega_optimize(root, limits=True, status=2)
    finally:
        root.chmod(0o755)
    assert "cannot be read" in only_line(done.stderr)


def test_an_output_that_cannot_be_written_stops_before_the_rewrite(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", SERVICE)
    output = tmp_path / "result.json"
    output.touch(0o444)
    done = mega_optimize(root, "--output", output, limits=True, status=2)
    assert "cannot be written: permission denied" in only_line(done.stderr)
    assert not changed(root)


def sitecustomize(folder: Path, condition: str, action: str) -> dict[str, str]:
    """Return the environment in which ``action`` happens at the moment of an audit event."""
    write(
        folder,
        {
            "sitecustomize.py": f"""
import os, signal, sys
count = 0
def strike(event, arguments):
    global count
    if {condition}:
        count += 1
        if count == 2:
            {action}
sys.addaudithook(strike)
"""
        },
    )
    return {"PYTHONPATH": str(folder)}


INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"
TARGET = f"{os.sep}target{os.sep}"


@pytest.mark.parametrize(
    ("moment", "is_new"),
    [
        # While new contents are written beside their targets, and while these are replaced.
        (f"event == 'tempfile.mkstemp' and {TARGET!r} in str(arguments[0])", False),
        (f"event == 'os.rename' and {TARGET!r} in str(arguments[1])", True),
        # While rules run: libcst is loaded for the first file to be edited.
        ("event == 'import' and arguments[0].startswith('libcst')", False),
        # While git is asked.
        ("event == 'subprocess.Popen'", False),
    ],
    ids=["staging", "replacing", "planning", "scanning"],
)
def test_interrupted_all_files_are_old_or_all_are_new(
    tmp_path: Path, moment: str, is_new: bool
) -> None:
    root = committed(tmp_path / "target", SERVICE)
    environment = sitecustomize(tmp_path / "site", moment, INTERRUPT)
    done = mega_optimize(root, "--sizes", "off", environment=environment, status=130)
    assert only_line(done.stderr) == "mega-optimize: interrupted"
    assert changed(root) == (CHANGED if is_new else set())


def test_interrupted_while_it_starts(tmp_path: Path) -> None:
    environment = sitecustomize(
        tmp_path, "event == 'import' and arguments[0].startswith('typer')", INTERRUPT
    )
    done = mega_optimize(tmp_path, environment=environment, status=130)
    assert only_line(done.stderr) == "mega-optimize: interrupted"


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    files = {**service("small"), **service("large", main_py=MAIN + "# words\n" * 2000)}
    root = committed(tmp_path / "target", files)
    done = mega_optimize(root, "--sizes", "off", command=("sh", "-c", LIMITED, COMMAND), status=2)
    assert "nothing was written: File too large" in only_line(done.stderr)
    assert not changed(root)


# POSIX counts the limit on the size of files in blocks of 512 bytes, dash and bash in 512 or 1024.
LIMITED = 'ulimit -f 8 && exec "$0" "$@"'


def test_a_full_temporary_folder_is_one_line(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", SERVICE)
    environment = sitecustomize(
        tmp_path / "site",
        "event == 'tempfile.mkdtemp'",
        "raise OSError(28, 'No space left on device')",
    )
    done = mega_optimize(root, environment=environment, status=2)
    assert "No space left on device" in only_line(done.stderr)
    assert not changed(root)


@pytest.mark.parametrize("arguments", [("--diff",), ("--check",), ("--check", "--format", "json")])
def test_a_reader_that_goes_away_is_no_error(shared: Path, arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = mega_optimize("target", *arguments, cwd=shared, stdout=writing)
    os.close(writing)
    assert "Broken pipe" not in done.stderr
    assert "Exception ignored" not in done.stderr


@needs_a_full_device
@pytest.mark.parametrize("arguments", [("--diff",), ("--check",), ("--check", "--format", "json")])
def test_a_full_stdout_is_one_line(shared: Path, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = mega_optimize("target", *arguments, cwd=shared, stdout=full, status=2)
    assert only_line(done.stderr) == (
        "mega-optimize: the result cannot be written: No space left on device"
    )


@pytest.mark.parametrize("streams", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_no_error(shared: Path, streams: str) -> None:
    for arguments in ("--check", "--check --format json", "--diff --strict"):
        script = f'"{COMMAND}" target {arguments} --offline {streams}'
        done = mega_optimize(cwd=shared, command=("sh", "-c", script))
        assert done.returncode == (0 if "diff" in arguments else 1)


def test_without_git_a_checkout_is_one_line_and_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    environment = {"PATH": str(tmp_path / "bin")}
    root = committed(tmp_path / "target", SERVICE)
    done = mega_optimize(root, environment=environment, status=2)
    assert "git is not installed; install git" in only_line(done.stderr)
    shutil.rmtree(root / ".git")
    assert FIXED_RUN in mega_optimize(root, "--diff", environment=environment, status=0).stdout


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}],
)
def test_a_poor_terminal_gets_escapes(tmp_path: Path, environment: dict[str, str]) -> None:
    files = {**SERVICE, "Dockerfile": f'{DOCKERFILE}# "größer"\n', "größe.py": MAIN}
    root = committed(tmp_path / "target", files)
    report = mega_optimize(root, "--check", environment=environment, status=1).stdout
    assert "Would change" in report
    diff = mega_optimize(root, "--diff", environment=environment, status=0)
    assert "größer" in diff.stdout  # the bytes of the target, whatever the locale
    names = {finding["path"] for finding in result_of(root, environment=environment)["findings"]}
    assert "größe.py" in names
    assert "FILES" in mega_optimize("hook", "--help", environment=environment, status=0).stdout


def test_no_colour_where_none_is_wanted(shared: Path) -> None:
    for environment in ({"NO_COLOR": "1", "FORCE_COLOR": ""}, {}):
        done = mega_optimize("target", "--check", cwd=shared, environment=environment)
        assert "\x1b" not in done.stdout + done.stderr


def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    root = committed(Path(os.fsdecode(os.fsencode(tmp_path) + b"/tar\xffget")), SERVICE)
    done = subprocess.run(
        [COMMAND, str(root), "--offline", "--check", "--format", "json"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"tar\\udcffget" in done.stdout
    assert "1 service" in mega_optimize(root, "--check", status=1).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owner_and_mode_are_kept(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", SERVICE)
    dockerfile = root / "Dockerfile"
    dockerfile.chmod(0o604)
    os.chown(dockerfile, 12345, 12345)
    mega_optimize(root, status=0)
    found = dockerfile.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (12345, 12345, 0o604)
    assert FIXED_RUN in dockerfile.read_text()


def test_termination_is_left_to_the_system(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", SERVICE)
    environment = sitecustomize(
        tmp_path / "site",
        "event == 'import' and arguments[0].startswith('libcst')",
        "os.kill(os.getpid(), signal.SIGTERM)",
    )
    mega_optimize(root, environment=environment, status=-signal.SIGTERM)
    assert not changed(root)
