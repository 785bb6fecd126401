"""Random Dockerfiles made of the shapes that the census met: no crash, ranges that hold."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mega_optimizer.codemods.containers.pip_cache import find
from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.finding import Edit, Fix, apply_edits
from mega_optimizer.repository.dockerfile import Dockerfile, is_python_stage, parse_dockerfile
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.launch import dockerfile_launch
from mega_optimizer.repository.service import Service
from mega_optimizer.repository.shell import commands

LINES = [
    "ARG PY=3.12",
    "FROM python:${PY:-3.12}-slim AS base",
    "from base as b",
    'ENV A=1 B="x y" C=$A',
    "ENV PIP_NO_CACHE_DIR 1",
    "WORKDIR app",
    'COPY ["a b", "/c/"]',
    "COPY --from=base --chown=1:1 /root /root",
    "RUN pip install x",
    "RUN pip install x \\\n  # c\n\n  && rm -rf /root/.cache",
    "RUN pip in\\\nstall x",
    'RUN ["pip", "install", "x"]',
    "RUN [ -f x ] && pip install x || true",
    "RUN <<EOF\npip install y\nEOF",
    "RUN <<-A cat <<B\n\thi\n\tA\nyo\nB",
    "RUN --mount=type=cache,target=/root/.cache pip install x",
    "RUN if a; then pip install b; fi",
    "RUN (cd a && pip install -e .) | tee log > x",
    'RUN sh -c "pip install x"',
    "RUN $(pip install x) `pip install y`",
    "RUN { a; }; f(){ pip install x; }; f",
    "RUN echo 'it",
    'RUN pip install $X ${Y:-z} *.whl ~/a "é"',
    'ENTRYPOINT ["sh", "-c"]',
    'ENTRYPOINT ["./e.sh"]',
    'CMD ["uvicorn a:b --port $PORT"]',
    "CMD exec gunicorn a.b -w ${W:-4}",
    "CMD []",
    "HEALTHCHECK CMD curl x",
    "ONBUILD RUN pip install x",
    'SHELL ["pwsh"]',
    "LABEL a=${X/a/b}",
    "# escape=`",
    "RUN a \\",
    "\\",
]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=10),
    newline=st.sampled_from(["\n", "\r\n"]),
    ending=st.sampled_from(["", "\n"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    noise=st.binary(max_size=4),
    where=st.integers(min_value=0, max_value=200),
)
def test_any_dockerfile_is_read_or_refused(
    lines: list[str], newline: str, ending: str, mark: bytes, noise: bytes, where: int
) -> None:
    text = ("\n".join(["FROM python:3.11", *lines]) + ending).replace("\n", newline)
    content = mark + text.encode()
    content = content[:where] + noise + content[where:]
    files = MemoryFiles({"Dockerfile": content, "e.sh": b'#!/bin/sh\nexec "$@"\n'})
    dockerfile = parse_dockerfile("Dockerfile", content)
    outcomes = list(find(Context(Service("s", "", "Dockerfile"), files)))
    if not isinstance(dockerfile, Dockerfile):
        assert not any(isinstance(outcome, Fix) for outcome in outcomes)
        return
    last = 0
    for instruction in dockerfile.instructions:
        assert last <= instruction.start <= instruction.end <= len(content)
        last = instruction.end
        for command in commands(instruction):
            for word in command.words:
                assert instruction.start <= word.start < word.end <= instruction.end
    for stage in dockerfile.stages:
        is_python_stage(dockerfile, stage)
        dockerfile_launch(dockerfile, stage, files)

    edits: list[Edit] = []
    for outcome in outcomes:
        if isinstance(outcome, Fix):
            assert not callable(outcome.edits)
            edits += outcome.edits
    after = apply_edits(content, edits)
    assert len(after) >= len(content)
    again = parse_dockerfile("Dockerfile", after)
    assert isinstance(again, Dockerfile)
    assert [each.keyword for each in again.instructions] == [
        each.keyword for each in dockerfile.instructions
    ]
    second = find(Context(Service("s", "", "Dockerfile"), MemoryFiles({"Dockerfile": after})))
    assert not any(isinstance(outcome, Fix) for outcome in second)
