"""The target is data: nothing that it holds is run, imported or obeyed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.repositories import (
    CHANGED,
    COMMAND,
    DOCKERFILE,
    FIXED_RUN,
    SERVICE,
    committed,
    mega_optimize,
    result_of,
    write,
)

HOOKS = (
    *("applypatch-msg", "commit-msg", "fsmonitor-watchman", "p4-changelist", "post-applypatch"),
    *("post-checkout", "post-commit", "post-index-change", "post-merge", "post-rewrite"),
    *("pre-applypatch", "pre-auto-gc", "pre-commit", "pre-merge-commit", "pre-push", "pre-rebase"),
    *("prepare-commit-msg", "reference-transaction", "sendemail-validate", "update"),
)
# Names that our own code imports, of the standard library and of packages.
SHADOWS = (
    *("ast", "json", "pathlib", "re", "subprocess", "tempfile", "tomllib", "typing"),
    *("click", "dockerfile", "git", "httpx", "jinja2", "libcst", "packaging", "pathspec"),
    *("platformdirs", "rich", "ruamel", "tomlkit", "tree_sitter", "typer", "uv", "yaml"),
)
PROGRAMS = ("git", "uv", "python", "python3", "docker", "sh")


def git_configuration(mark: str) -> str:
    """Return a configuration in which everything that git can run runs ``mark`` with a name."""
    return f"""
[core]
    repositoryformatversion = 1
    fsmonitor = {mark} fsmonitor
    hooksPath = hooks
    sshCommand = {mark} sshCommand
    gitProxy = {mark} gitProxy
    editor = {mark} editor
    pager = {mark} pager
    askPass = {mark} askPass
    alternateRefsCommand = {mark} alternateRefsCommand
    worktree = ../../elsewhere
[include]
    path = ../included
[includeIf "gitdir:**"]
    path = ../included
[filter "evil"]
    clean = {mark} clean
    smudge = {mark} smudge
    process = {mark} process
    required = true
[diff]
    external = {mark} diff-external
[diff "evil"]
    textconv = {mark} textconv
    command = {mark} diff-command
[merge "evil"]
    driver = {mark} merge-driver
[alias]
    ls-files = "!{mark} alias"
    ls-tree = "!{mark} alias"
[credential]
    helper = "!{mark} credential"
[gpg]
    program = {mark} gpg
[pager]
    ls-files = {mark} pager-of-a-command
[uploadpack]
    packObjectsHook = {mark} packObjectsHook
[url "ext::{mark} insteadOf"]
    insteadOf = https://
[protocol]
    allow = always
[remote "origin"]
    url = "ext::{mark} remote"
    promisor = true
    partialclonefilter = blob:none
[extensions]
    partialClone = origin
"""


@pytest.fixture(scope="module")
def markers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which whatever runs leaves a file."""
    return tmp_path_factory.mktemp("markers")


@pytest.fixture
def target(tmp_path: Path, markers: Path) -> Iterator[Path]:
    """Yield a hostile checkout, and look for what ran when the test is over."""
    mark = tmp_path / "mark"
    write(tmp_path, {"mark": f'#!/bin/sh\n: > "{markers}/$1"\n', "elsewhere/main.py": "x = 1\n"})
    mark.chmod(0o755)
    python = f"open({str(markers)!r} + '/{{}}', 'w')\n"
    program = f'#!/bin/sh\n: > "{markers}/program-{{}}"\nexit 1\n'
    files = {
        **SERVICE,
        ".gitattributes": "* filter=evil diff=evil merge=evil\n",
        "included": f"[core]\n\tfsmonitor = {mark} included\n[alias]\n\tx = y\n",
        "setup.py": python.format("setup"),
        "conftest.py": python.format("conftest"),
        "sitecustomize.py": python.format("sitecustomize"),
        "usercustomize.py": python.format("usercustomize"),
        "evil.pth": f"import os; {python.format('pth')}",
        "backend.py": python.format("backend"),
        "pyproject.toml": (
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "evil"\ndynamic = ["version", "dependencies"]\n'
            '[tool.uv]\nindex-url = "http://127.0.0.1:9/theirs"\nfind-links = ["/theirs"]\n'
        ),
        "uv.toml": 'index-url = "http://127.0.0.1:9/theirs"\n',
        "pip.conf": "[global]\nindex-url = http://127.0.0.1:9/theirs\n",
        ".env": f"PATH=.\nPYTHONPATH=.\nGIT_SSH_COMMAND={mark} env\n",
        "mega_optimizer/__init__.py": python.format("mega_optimizer"),
        "mega_optimizer/__main__.py": python.format("mega_optimizer-main"),
        **{f"{name}.py": python.format(f"import-{name}") for name in SHADOWS},
        **{f"hooks/{name}": program.format(name) for name in HOOKS},
        **{name: program.format(name) for name in PROGRAMS},
    }
    root = committed(tmp_path / "target", files)
    write(root / ".git", {f"hooks/{name}": program.format(name) for name in HOOKS})
    for path in (*(root / "hooks").iterdir(), *(root / ".git/hooks").iterdir()):
        path.chmod(0o755)
    for name in PROGRAMS:
        (root / name).chmod(0o755)
    write(root, {".git/config": git_configuration(str(mark))})
    yield root
    assert [path.name for path in markers.iterdir()] == []
    assert (tmp_path / "elsewhere/main.py").read_text() == "x = 1\n"


# A path on which the current folder comes first, in both of its spellings.
HERE_FIRST = {"PATH": f".{os.pathsep}{os.pathsep}{os.environ['PATH']}"}


def is_fixed(root: Path) -> bool:
    return FIXED_RUN in (root / "Dockerfile").read_text()


def test_the_traps_work(target: Path, markers: Path) -> None:
    (target / "mega_optimizer" / "probe").touch()
    config = target / ".git/config"
    config.write_text(config.read_text().replace("worktree = ../../elsewhere", ""))
    subprocess.run(["git", "status"], cwd=target, capture_output=True, check=False)
    subprocess.run([sys.executable, "-m", "libcst"], cwd=target, capture_output=True, check=False)
    sprung = {path.name for path in markers.iterdir()}
    for path in markers.iterdir():
        path.unlink()
    assert sprung & {"fsmonitor", "included"}
    assert "import-libcst" in sprung


@pytest.mark.parametrize("environment", [{}, HERE_FIRST], ids=["path", "here-first"])
def test_looking_runs_nothing_of_the_target(target: Path, environment: dict[str, str]) -> None:
    diff = mega_optimize("--diff", cwd=target, environment=environment, status=0)
    assert {line[6:] for line in diff.stdout.splitlines() if line.startswith("+++")} == CHANGED
    mega_optimize(".", "--check", cwd=target, environment=environment, status=1)
    told = mega_optimize("why-not", "Dockerfile", cwd=target, environment=environment, status=0)
    assert "containers/pip-cache (safe)\n  line 4: would change" in told.stdout
    mega_optimize("config", "check", cwd=target, environment=environment, status=0)
    assert not is_fixed(target)


@pytest.mark.parametrize("environment", [{}, HERE_FIRST], ids=["path", "here-first"])
def test_rewriting_runs_nothing_of_the_target(target: Path, environment: dict[str, str]) -> None:
    hook = mega_optimize("hook", "Dockerfile", cwd=target, environment=environment, status=1)
    assert hook.stdout.startswith("Dockerfile:4: containers/pip-cache: ")
    assert is_fixed(target)
    (target / "Dockerfile").write_text(DOCKERFILE)
    mega_optimize(cwd=target, environment=environment, status=0)
    assert is_fixed(target)
    assert "_engine" in (target / "main.py").read_text()


def test_inherited_git_variables_lead_nowhere(target: Path, tmp_path: Path) -> None:
    other = committed(tmp_path / "other", {"main.py": "x = 1\n"})
    environment = {
        "GIT_DIR": str(other / ".git"),
        "GIT_INDEX_FILE": str(other / ".git/index"),
        "GIT_WORK_TREE": str(other),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": f"{tmp_path}/mark variable",
        "GIT_EXTERNAL_DIFF": f"{tmp_path}/mark variable",
        "GIT_TRACE": f"{tmp_path}/trace",
    }
    result = result_of(target, "--diff", environment=environment, status=0)
    assert {path for change in result["changes"] for path in change["paths"]} == CHANGED
    assert not (tmp_path / "trace").exists()


def test_no_index_of_the_target_is_asked(target: Path) -> None:
    asked: list[str] = []

    class Index(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for path in ("pyproject.toml", "uv.toml", "pip.conf"):
            theirs = (target / path).read_text().replace("http://127.0.0.1:9", url)
            (target / path).write_text(theirs)
        (target / "requirements.txt").write_text("fastapi\nuvicorn\nsqlalchemy\n")
        environment = {"UV_DEFAULT_INDEX": f"{url}/ours", "NO_PROXY": "*", **HERE_FIRST}
        arguments = ("--diff", "--level", "review", "--no-cache")
        mega_optimize(*arguments, cwd=target, environment=environment, offline=False, status=0)
        server.shutdown()
    assert asked
    assert all(path.startswith("/ours/") for path in asked)


def test_as_a_module_only_packages_of_the_target_that_have_our_own_name_are_run(
    target: Path, markers: Path
) -> None:
    safe = (sys.executable, "-P", "-m", "mega_optimizer")
    mega_optimize("--diff", cwd=target, command=safe, status=0)
    for path in (target / "mega_optimizer").iterdir():
        path.unlink()
    (target / "mega_optimizer").rmdir()
    for name in SHADOWS:
        if name in sys.stdlib_module_names:  # what Python itself loads before us cannot be helped
            (target / f"{name}.py").unlink()
    plain = (sys.executable, "-m", "mega_optimizer")
    mega_optimize("--diff", cwd=target, command=plain, status=0)


def test_special_files_are_neither_opened_nor_followed(tmp_path: Path) -> None:
    root = committed(tmp_path / "target", {**SERVICE, "pipe.py": "x = 1\n", "dir.py": "x = 1\n"})
    (root / "pipe.py").unlink()
    os.mkfifo(root / "pipe.py")
    (root / "dir.py").unlink()
    (root / "dir.py").mkdir()
    result = result_of(root, "--diff", status=0)
    assert ("pipe.py", "not-a-file") in {
        (error["path"], error["code"]) for error in result["errors"]
    }
    assert stat.S_ISFIFO((root / "pipe.py").stat().st_mode)
    assert (root / "Dockerfile").read_text() == DOCKERFILE


def test_words_of_the_target_do_not_command_the_terminal(tmp_path: Path) -> None:
    root = committed(
        tmp_path / "target",
        {
            **SERVICE,
            "Dockerfile": DOCKERFILE.replace("0.0.0.0", "\\u001b]0;owned\\u0007[red]"),
            "a\x1b[31mb/main.py": SERVICE["main.py"],
            "c\nd.py": "x = 1\n",
        },
    )
    report = mega_optimize(root, "--check", "--verbose", status=1)
    assert "\x1b" not in report.stdout + report.stderr
    assert "[red]" in report.stdout


def test_the_console_script_does_not_look_here_for_modules(target: Path) -> None:
    assert (
        "mega-optimize "
        in mega_optimize(
            "--version", cwd=target, command=(COMMAND,), offline=False, status=0
        ).stdout
    )
    assert "serving/uvloop" in mega_optimize("rules", cwd=target, status=0).stdout
