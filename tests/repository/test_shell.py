"""Shell text as commands, and what commands install."""

from __future__ import annotations

import pytest

from mega_optimizer.repository.dockerfile import parse_dockerfile
from mega_optimizer.repository.installers import (
    installs_apt,
    is_pip_install,
    is_uv_pip_install,
    keeps_pip_cache,
    removes_pip_cache,
)
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.service import Word
from mega_optimizer.repository.shell import (
    Command,
    commands,
    parse_argument,
    parse_shell,
    shell_argument,
)
from mega_optimizer.repository.source import contiguous, unescaped_json
from mega_optimizer.repository.wrappers import unwrapped


def shell(text: str) -> tuple[Command, ...]:
    return parse_shell(contiguous(text.encode()))


def only(text: str) -> Command:
    (command,) = shell(text)
    return command


def run(text: str) -> tuple[bytes, tuple[Command, ...]]:
    content = b"FROM x\n" + text.encode()
    dockerfile = parse_dockerfile("Dockerfile", content)
    assert not isinstance(dockerfile, Problem)
    return content, commands(dockerfile.stages[0].instructions[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 'b c' \"d e\" f\\ g", ("a", "b c", "d e", "f g")),
        ("a pre\"fix\"'q' $'b'", ("a", "prefixq", "b")),
        ('a "$X" ${Y:-1} *.whl ~/x', ("a", "$X", "${Y:-1}", "*.whl", "~/x")),
        ('a "say \\"hi\\"" "\\$x"', ("a", 'say "hi"', "$x")),
        ("a > log 2>&1 b", ("a", "b")),
        ("A=1 B='2 3' a b", ("a", "b")),
        ("export A=1 B", ("export", "A=1", "B")),
        ("a b # c", ("a", "b")),
        ("a b <<E\nx\nE", ("a", "b")),
    ],
)
def test_words_are_what_the_shell_passes_on(text: str, words: tuple[str, ...]) -> None:
    assert only(text).texts == words


def test_assignments_in_front_are_known() -> None:
    assert dict(only("A=1 B='2 3' a").assignments) == {"A": "1", "B": "2 3"}


def test_operators_join() -> None:
    found = shell("a && b || c; d | e & f\ng")
    assert [(each.program, each.joined) for each in found] == [
        ("a", ""),
        ("b", "&&"),
        ("c", "||"),
        ("d", ";"),
        ("e", "|"),
        ("f", "&"),
        ("g", ";"),
    ]


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("p", ""),
        ("! p", ""),
        ("a && p", ""),
        ("(cd a && p)", "group"),
        ("{ p; }", "group"),
        ("if a; then p; fi", "condition"),
        ("case a in b) p;; esac", "condition"),
        ("for i in a b; do p; done", "loop"),
        ("while a; do (p); done", "loop"),
        ("f() { p; }", "function"),
        ("echo $(p)", "substitution"),
        ('echo "`p`"', "substitution"),
        ("f() { for i in a; do p; done; }", "function"),
    ],
)
def test_what_decides_about_a_command_is_named(text: str, inside: str) -> None:
    assert [each.inside for each in shell(text) if each.program == "p"] == [inside]


def test_deep_nesting_ends_without_an_error() -> None:
    shell("(" * 3000 + "a" + ")" * 3000)
    shell("$(" * 500 + "a" + ")" * 500)


@pytest.mark.parametrize(
    ("text", "word", "raw"),
    [
        ('RUN pip install \\\n # c\n\n "a[b]"\n', "a[b]", b'"a[b]"'),
        ("RUN pip in\\\nstall x\n", "install", b"in\\\nstall"),
        ("RUN pip install é x\n", "x", b"x"),
        ('RUN ["pip", "install", "x"]\n', "install", b'"install"'),
        ("RUN <<EOF\npip install x\nEOF\n", "install", b"install"),
        ("RUN --mount=type=cache,target=/a pip install x\n", "pip", b"pip"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_words_of_run_lead_back_to_the_file(text: str, word: str, raw: bytes, newline: str) -> None:
    content, found = run(text.replace("\n", newline))
    (match,) = [each for command in found for each in command.words if each.text == word]
    assert content[match.start : match.end].replace(b"\r\n", b"\n") == raw


def test_heredoc_bodies_are_marked_and_other_languages_left_out() -> None:
    assert [each.inside for each in run("RUN <<E\na\nb\nE\n")[1]] == ["heredoc", "heredoc"]
    assert run("RUN <<E\n#!/usr/bin/env python3\nimport os\nE\n")[1] == ()


def test_broken_text_is_an_error_as_a_whole() -> None:
    assert {each.inside for each in run("RUN a && ) b\n")[1]} <= {"error"}


def test_other_shells_are_not_read() -> None:
    content = b"FROM x\nRUN pip install a\n"
    dockerfile = parse_dockerfile("Dockerfile", content)
    assert not isinstance(dockerfile, Problem)
    assert commands(dockerfile.stages[0].instructions[0], ("powershell", "-Command")) == ()


def test_script_in_a_json_string_leads_back_through_its_escapes() -> None:
    content = rb'["sh", "-c", "echo \"a\u00e9\" && uvicorn a:b"]'
    start = content.index(b'"echo')
    text = unescaped_json(content, start, len(content) - 1).text.decode()
    word = Word(text, start, len(content) - 1)
    echo, uvicorn = parse_argument(word, content, json=True)
    assert echo.texts == ("echo", "aé")
    assert content[uvicorn.words[1].start : uvicorn.words[1].end] == b"a:b"


def test_shell_argument_is_the_script() -> None:
    assert shell_argument(only("/bin/bash -lc 'a b'").words) == Word("a b", 14, 19)
    assert shell_argument(only("sh -e -c a").words) == Word("a", 9, 10)
    assert shell_argument(only("sh script.sh -c").words) is None
    assert shell_argument(only("python -c a").words) is None


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("exec a b", ("a", "b")),
        ("env A=b a", ("a",)),
        ("sudo -H -u me a", ("a",)),
        ("/usr/bin/tini -g -- a", ("a",)),
        ("dumb-init a --x", ("a", "--x")),
        ("uv run --no-dev --extra x a", ("a",)),
        ("poetry run exec a", ("a",)),
        ("gosu app a", ("a",)),
        ("newrelic-admin run-program a", ("a",)),
        ("xargs -n 1 a", ("a",)),
        ("uv sync", ("uv", "sync")),
        ("exec", ()),
    ],
)
def test_wrappers_are_looked_through(text: str, inner: tuple[str, ...]) -> None:
    assert tuple(word.text for word in unwrapped(only(text).words)[0]) == inner


@pytest.mark.parametrize(
    "text",
    [
        "pip install a",
        "pip3.11 install a",
        "/opt/venv/bin/pip --quiet --proxy x install a",
        "python -m pip install a",
        "python3 -Im pip install a",
        "sudo -H pip install a",
        "poetry run pip install a",
        "xargs -n 1 pip install",
        "conda run -n env pip install a",
    ],
)
def test_pip_install_is_recognised(text: str) -> None:
    assert is_pip_install(only(text))


@pytest.mark.parametrize(
    "text",
    [
        "uv pip install a",
        "pip download install",
        "pip --proxy install wheel a",
        "pipx install a",
        "pipenv install",
        "python -m venv install",
        "python pip install",
        "echo pip install a",
        "pip $X a",
        "pip",
    ],
)
def test_what_is_not_pip_install(text: str) -> None:
    assert not is_pip_install(only(text))


def test_other_installers() -> None:
    assert is_uv_pip_install(only("uv pip install a"))
    assert is_uv_pip_install(only("uv --quiet sync"))
    assert not is_uv_pip_install(only("uv lock"))
    assert installs_apt(only("apt-get -y install a"))
    assert not installs_apt(only("apt-get update"))


@pytest.mark.parametrize(
    ("text", "environment", "keeps"),
    [
        ("pip install a", {}, True),
        ("pip install a", {"PIP_NO_CACHE_DIR": ""}, True),
        ("pip install a", {"PIP_NO_CACHE_DIR": "1"}, False),
        ("pip install a", {"PIP_NO_CACHE_DIR": "off"}, False),
        ("pip install a", {"PIP_NO_CACHE_DIR": None}, False),
        ("PIP_NO_CACHE_DIR=1 pip install a", {}, False),
        ("env PIP_NO_CACHE_DIR=1 pip install a", {}, False),
        ("PIP_NO_CACHE_DIR= pip install a", {"PIP_NO_CACHE_DIR": "1"}, True),
        ("pip --no-cache-dir install a", {}, False),
        ("pip install a --no-cache", {}, False),
        ("pip wheel a", {}, False),
    ],
)
def test_cache_is_kept_unless_something_disables_it(
    text: str, environment: dict[str, str | None], keeps: bool
) -> None:
    assert keeps_pip_cache(only(text), environment) is keeps


@pytest.mark.parametrize(
    ("text", "removes"),
    [
        ("rm -rf /root/.cache", True),
        ("rm -rf ~/.cache/pip", True),
        ("rm -fr /home/app/.cache /tmp/*", True),
        ("rm -rf /root/.[a-z]*", True),
        ("pip cache purge", True),
        ("python -m pip cache remove '*'", True),
        ("find /root/.cache -delete", True),
        ("rm -rf /var/lib/apt/lists/*", False),
        ("rm -rf build", False),
        ("pip cache dir", False),
        ("ls /root/.cache", False),
    ],
)
def test_removing_the_cache_is_recognised(text: str, removes: bool) -> None:
    assert removes_pip_cache(only(text)) is removes
