from __future__ import annotations

import pytest

from mega_optimizer.repository.dockerignore import (
    Pattern,
    context_files,
    ignore_file,
    ignored,
    parse_dockerignore,
)
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.place import Problem


def parse(text: str) -> tuple[Pattern, ...]:
    patterns = parse_dockerignore(".dockerignore", text.encode())
    assert not isinstance(patterns, Problem), patterns
    return patterns


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        # Rooted at the context: the difference from .gitignore that people fall over.
        ("__pycache__", "app/__pycache__/a.pyc", "__pycache__/a.pyc"),
        ("*.pyc", "app/a.pyc", "a.pyc"),
        ("*/temp*", "temporary.txt", "some/temporary.txt"),
        ("*/*/temp*", "some/temporary.txt", "some/sub/temporary.txt"),
        ("temp?", "temp", "tempa"),
        ("/app/secret", "other/app/secret", "app/secret"),
        # ** matches any number of folders, none too.
        ("**/*.go", "main.py", "main.go"),
        ("**/*.go", "a/b/main.gone", "a/b/main.go"),
        ("**/__pycache__", "app/pycache/x", "app/deep/__pycache__/x.pyc"),
        ("**/.env", "prod.env", "a/.env"),
        ("**.env", "a/.env.local", "prod.env"),
        ("abc/**", "abc", "abc/def/ghi"),
        ("a**/*.txt", "b/file.txt", "a/dir/file.txt"),
        ("**/build/**", "build", "x/build/y"),
        ("node_modules/**/*.map", "node_modules/a.js", "node_modules/a/b/c.map"),
        # A folder takes all that it holds with it, with or without the slash.
        (".git", ".github/workflows/ci.yml", ".git/objects/pack/x"),
        (".git/", ".gitignore", ".git/HEAD"),
        ("./docs/../tests", "docs/a", "tests/unit/test_a.py"),
        # Go's filepath.Match: classes, escapes, and no special meaning for anything else.
        ("a[b-d]e", "aae", "ace"),
        ("a[^b-d]e", "ace", "aze"),
        ("*.py[cod]", "a.py", "a.pyc"),
        ("[x\\-]", "z", "-"),
        ("a\\*b", "ab", "a*b"),
        ("a+(b)|c$", "ab", "a+(b)|c$"),
        ("a?b", "a/b", "a☺b"),
        ("*$py.class", "a.class", "a$py.class"),
        # White space goes, but a # counts as comment only in the first column.
        ("  docs  ", "a", "docs/a"),
        (" # note", "note", "# note"),
        ("docs\r\nsite\r\n", "a", "site/x"),
        # The last match decides.
        ("*\n!app", "app/main.py", "Dockerfile"),
        ("*.md\n!README.md", "README.md", "NOTES.md"),
        ("*.md\n! README.md", "README.md", "NOTES.md"),
        ("docs\n!docs/README.md", "docs/README.md", "docs/x"),
        ("!fileutils.go\n*.go", "a.py", "fileutils.go"),
        ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/b", "util/docker/web/foo"),
        ("*.md\n!README*.md\nREADME-secret.md", "README.md", "README-secret.md"),
    ],
)
def test_a_pattern_keeps_out_what_docker_keeps_out(text: str, inside: str, outside: str) -> None:
    assert not ignored(parse(text), inside)
    assert ignored(parse(text), outside)


@pytest.mark.parametrize("text", ["", "# *\n", "\n \n", ".", "./", "\n!app\n"])
def test_nothing_is_kept_out_without_a_pattern(text: str) -> None:
    assert not ignored(parse(text), "app/main.py")


@pytest.mark.parametrize(
    "text", ["[", "a[", "[]a]", "[-x]", "[x-]", "[a-b-c]", "a\\", "!", "[z-a]"]
)
def test_a_pattern_that_fails_the_build_is_a_problem_with_its_line(text: str) -> None:
    problem = parse_dockerignore(".dockerignore", f"docs\n{text}\n".encode())
    assert isinstance(problem, Problem)
    assert (problem.code, problem.line) == ("bad-pattern", 2)


def test_a_byte_order_mark_is_no_part_of_the_first_pattern() -> None:
    patterns = parse_dockerignore(".dockerignore", b"\xef\xbb\xbf.git\n")
    assert patterns == (Pattern(".git", 1),)


def test_bytes_that_are_no_text_are_a_problem() -> None:
    problem = parse_dockerignore(".dockerignore", b"\xff\xfe.\x00g\x00")
    assert isinstance(problem, Problem)
    assert problem.code == "not-utf-8"


def test_the_ignore_file_of_a_dockerfile_comes_first() -> None:
    files = MemoryFiles({".dockerignore": b"", "docker/api.Dockerfile.dockerignore": b""})
    assert ignore_file(files, "", "docker/api.Dockerfile") == "docker/api.Dockerfile.dockerignore"
    assert ignore_file(files, "", "Dockerfile") == ".dockerignore"
    assert ignore_file(files, "web", "web/Dockerfile") is None


def test_context_files_are_named_from_the_context_on() -> None:
    files = MemoryFiles(dict.fromkeys(["api/app.py", "api/.git", "apis/x", "main.py"], b""))
    assert list(context_files(files, "api", parse(".git"))) == [("app.py", "api/app.py")]
    assert [inner for inner, _ in context_files(files, "")] == sorted(files.paths)
