"""Dockerfiles: what the grammar and BuildKit agree on, with exact ranges."""

from __future__ import annotations

import pytest

from mega_optimizer.repository.dockerfile import (
    Dockerfile,
    copies,
    environment_at,
    is_python_stage,
    lineage,
    parse_dockerfile,
    root_image,
    shell_at,
    shipping_stage,
    stage_ships,
    workdir_at,
)
from mega_optimizer.repository.dockerfile.expand import expand
from mega_optimizer.repository.place import Problem


def parsed(text: str | bytes) -> Dockerfile:
    content = text.encode() if isinstance(text, str) else text
    dockerfile = parse_dockerfile("Dockerfile", content)
    assert isinstance(dockerfile, Dockerfile), dockerfile
    return dockerfile


def problem(text: str | bytes) -> Problem:
    content = text.encode() if isinstance(text, str) else text
    found = parse_dockerfile("Dockerfile", content)
    assert isinstance(found, Problem)
    return found


@pytest.mark.parametrize(
    ("content", "shell"),
    [
        (b"RUN a\n", b"a"),
        (b"run a", b"a"),
        (b"RUN a \\\n", b"a "),
        (b"RUN a \\", b"a "),
        (b"RUN a && \\\n\n  # c\n\n  b\n", b"a &&     b"),
        (b"RUN a \\  \n b\n", b"a  b"),
        (b"RUN in\\\nstall\n", b"install"),
        (b"RUN [ -f a ] && b\n", b"[ -f a ] && b"),
        (b"RUN echo ${X/a/b}\n", b"echo ${X/a/b}"),
        (b"RUN echo \xe9\n", b"echo \xe9"),
        (b'RUN echo "a \\\n# no part of it\n b"\n', b'echo "a  b"'),
        (b"RUN --mount=type=cache,target=/x \\\n # c\n a\n", b"a"),
        (b"RUN a\\\\\n", b"a\\\\"),
    ],
)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_run_text_is_what_the_shell_gets_and_leads_back_to_the_file(
    content: bytes, shell: bytes, newline: bytes
) -> None:
    content = (b"FROM x\n" + content).replace(b"\n", newline)
    (run,) = parsed(content).stages[0].instructions
    assert run.shell is not None
    assert run.shell.text == shell
    assert run.shell.offsets is not None
    assert bytes(content[offset] for offset in run.shell.offsets) == shell
    assert content[run.start : run.end].upper().startswith(b"RUN")


def test_escape_directive_changes_the_continuation() -> None:
    dockerfile = parsed("# escape=`\nFROM x\nRUN a `\n  b\\\nUSER c\n")
    assert dockerfile.escape == "`"
    assert [each.keyword for each in dockerfile.instructions] == ["FROM", "RUN", "USER"]
    assert dockerfile.instructions[1].shell is not None
    assert dockerfile.instructions[1].shell.text == b"a   b\\"


def test_byte_order_mark_and_line_endings_are_known() -> None:
    content = b'\xef\xbb\xbfFROM x\r\nCMD ["a", \\\r\n "b"]\r\n'
    dockerfile = parsed(content)
    assert dockerfile.newline == "\r\n"
    words = dockerfile.instructions[1].exec_form
    assert words is not None
    assert [word.text for word in words] == ["a", "b"]
    assert [content[word.start : word.end] for word in words] == [b'"a"', b'"b"']


def test_heredoc_bodies_are_no_instructions() -> None:
    content = b"FROM x\nRUN <<-A cat <<B\n\tUSER hi\n\tA\nyo\nB\nCOPY <<EOF /a\nhi\nEOF\nUSER me\n"
    dockerfile = parsed(content)
    assert [each.keyword for each in dockerfile.instructions] == ["FROM", "RUN", "COPY", "USER"]
    heredocs = dockerfile.instructions[1].heredocs
    assert [(each.name, each.body.text) for each in heredocs] == [
        ("A", b"USER hi\n"),
        ("B", b"yo\n"),
    ]
    assert dockerfile.instructions[3].line == 10


def test_flags_have_ranges() -> None:
    content = b"FROM x\nRUN --network=none --mount=type=cache,target=/x a\n"
    (run,) = parsed(content).stages[0].instructions
    assert run.flag("mount") == "type=cache,target=/x"
    assert [content[flag.start : flag.end] for flag in run.flags] == [
        b"--network=none",
        b"--mount=type=cache,target=/x",
    ]


def test_onbuild_holds_what_it_triggers() -> None:
    (onbuild,) = parsed("FROM x\nONBUILD RUN pip install y\n").stages[0].instructions
    assert onbuild.onbuild is not None
    assert onbuild.onbuild.keyword == "RUN"
    assert onbuild.onbuild.shell is not None
    assert onbuild.onbuild.shell.text == b"pip install y"


@pytest.mark.parametrize(
    ("head", "image"),
    [
        ("FROM python:3.11", "python:3.11"),
        ("ARG PY\nFROM python:${PY:-3.12}-slim", "python:3.12-slim"),
        ("ARG PY=3.13\nFROM python:${PY:-3.12}", "python:3.13"),
        ("ARG PY=3.13\nARG TAG=${PY}-slim\nFROM python:$TAG", "python:3.13-slim"),
        ('ARG IMAGE="python:3.13"\nFROM ${IMAGE}', "python:3.13"),
        ("ARG IMAGE\nFROM $IMAGE", None),
        ("FROM --platform=$BUILDPLATFORM python:3@sha256:aa AS b", "python:3@sha256:aa"),
        ("ARG REG=\nFROM ${REG:-a/b}/c", "a/b/c"),
        ("ARG A=1\nFROM python${A:+:3.12}", "python:3.12"),
    ],
)
def test_base_image_is_resolved_with_the_defaults(head: str, image: str | None) -> None:
    assert parsed(head + "\nRUN a\n").stages[0].image == image


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "syntax-error"),
        (b"# only a comment\n", "syntax-error"),
        (b"RUN a\n", "syntax-error"),
        (b"FROM\n", "syntax-error"),
        (b"FROM a b\n", "syntax-error"),
        (b"FROM x\nINVALID woops\n", "syntax-error"),
        (b"FROM x\nENV A\n", "syntax-error"),
        (b"FROM x\n\\\n", "syntax-error"),
        (b"FROM x\nRUN <<EOF\nnever ended\n", "syntax-error"),
        (b"FROM x\0y\n", "syntax-error"),
        (b'FROM x\nCMD ["a", 1]\n', "syntax-error"),
        (b"FROM x\nRUN " + b"a" * 70_000, "syntax-error"),
        (b"{{ cookiecutter.base }}\n", "templated"),
        (b"FROM x\n{% if a %}\nRUN a\n{% endif %}\n", "templated"),
        (b"FROM x:{{cookiecutter.version}}\n", "templated"),
        (b"# syntax=example.org/other:1\nFROM x\n", "dockerfile-ambiguous"),
        (b"\xff\xfe\x00F", "syntax-error"),
    ],
)
def test_what_cannot_be_understood_is_a_problem(content: bytes, code: str) -> None:
    assert problem(content).code == code


def test_problem_names_the_line() -> None:
    assert problem("FROM x\n\nINVALID woops\n").line == 3


def test_go_templates_of_other_programs_are_no_templates() -> None:
    parsed("FROM x\nRUN docker inspect -f '{{.State.Status}}' y\n")


def test_error_of_the_grammar_stays_with_its_instruction() -> None:
    dockerfile = parsed("FROM x\nLABEL a=${X/a/b}\nRUN c\n")
    label, run = dockerfile.stages[0].instructions
    assert label.opaque
    assert not run.opaque


STAGES = """
ARG PY=3.12
FROM python:${PY}-slim AS base
ENV A=1 B="x y"
WORKDIR /srv
FROM base AS builder
ARG C=$A-c
ARG PY
ENV A=2 D=$A
WORKDIR app
RUN make
FROM base AS runtime
COPY --from=builder --chown=1:1 /srv/app/dist ./dist/
RUN a
FROM alpine AS tools
"""


def test_stages_know_what_they_are_built_on() -> None:
    dockerfile = parsed(STAGES)
    base, builder, runtime, tools = dockerfile.stages
    assert [stage.parent for stage in dockerfile.stages] == [None, 0, 0, None]
    assert shipping_stage(dockerfile) is tools
    assert shipping_stage(dockerfile, "Runtime") is runtime
    assert shipping_stage(dockerfile, "1") is builder
    assert shipping_stage(dockerfile, "unknown") is None
    assert lineage(dockerfile, runtime) == (base, runtime)
    assert root_image(dockerfile, runtime) == "python:3.12-slim"
    assert stage_ships(dockerfile, base, "runtime")
    assert not stage_ships(dockerfile, builder, "runtime")
    assert is_python_stage(dockerfile, builder)
    assert not is_python_stage(dockerfile, tools)


def test_environment_is_what_holds_at_the_instruction() -> None:
    dockerfile = parsed(STAGES)
    builder = dockerfile.stages[1]
    make = builder.instructions[-1]
    assert environment_at(dockerfile, builder, make) == {
        "A": "2",
        "B": "x y",
        "C": "1-c",
        "D": "1",
        "PY": "3.12",
    }
    assert environment_at(dockerfile, builder, builder.instructions[0]) == {"A": "1", "B": "x y"}
    assert "C" not in environment_at(dockerfile, builder, arguments=False)


def test_unknown_values_stay_unknown() -> None:
    dockerfile = parsed("FROM x\nARG A\nENV PATH=/venv/bin:$PATH B='$A'\n")
    environment = environment_at(dockerfile, dockerfile.stages[0])
    assert environment == {"A": None, "PATH": None, "B": None}


def test_working_directory_follows_the_stages() -> None:
    dockerfile = parsed(STAGES)
    assert workdir_at(dockerfile, dockerfile.stages[1]) == "/srv/app"
    assert workdir_at(dockerfile, dockerfile.stages[3]) is None


def test_copy_names_sources_destination_and_stage() -> None:
    dockerfile = parsed(STAGES)
    copy = copies(dockerfile.stages[2].instructions[0])
    assert copy is not None
    assert (copy.sources, copy.destination) == (("/srv/app/dist",), "./dist/")
    assert copy.from_stage == "builder"


def test_shell_instruction_is_seen() -> None:
    dockerfile = parsed('FROM x\nRUN a\nSHELL ["/bin/bash", "-c"]\nRUN b\n')
    stage = dockerfile.stages[0]
    assert shell_at(dockerfile, stage, stage.instructions[0]) == ("/bin/sh", "-c")
    assert shell_at(dockerfile, stage, stage.instructions[2]) == ("/bin/bash", "-c")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a$X", "a1"),
        ("${X}b", "1b"),
        ("${N:-d}", "d"),
        ("${E:-d}", "d"),
        ("${E-d}", ""),
        ("${X:+d}", "d"),
        ("${E:+d}", ""),
        ("${E+d}", "d"),
        ("$N", None),
        ("${X%1}", None),
        ("'$X'", None),
        ("${X", None),
        ('"a b"', "a b"),
        ("a\\ b", "a b"),
    ],
)
def test_expansion_knows_when_it_does_not_know(text: str, value: str | None) -> None:
    assert expand(text, {"X": "1", "E": ""}) == value


def test_a_list_over_several_lines_may_hold_comments() -> None:
    content = b'FROM a\nCMD ["gunicorn", \\\n  # workers\n\n  "app:app"]\nEXPOSE 1\n'
    parsed = parse_dockerfile("Dockerfile", content)
    assert isinstance(parsed, Dockerfile)
    command = parsed.instructions[1]
    assert not command.opaque
    assert command.exec_form is not None
    assert [word.text for word in command.exec_form] == ["gunicorn", "app:app"]
    assert [content[word.start : word.end] for word in command.exec_form] == [
        b'"gunicorn"',
        b'"app:app"',
    ]
    assert content[command.start : command.end].endswith(b'"app:app"]')
