"""Five hundred Dockerfiles made of the shapes of the census, through every container rule.

The shapes are those of 266 Dockerfiles of 61 public repositories: here-documents, arguments before
FROM, continuations with comments and blank lines, the escape directive, both forms of commands,
ONBUILD, SHELL, flags, a byte order mark, Windows line endings.
"""

from __future__ import annotations

import dockerfile as buildkit
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from mega_optimizer.engine.plan import Options, Plan
from mega_optimizer.engine.planner import make_plan
from mega_optimizer.repository.dockerfile import Dockerfile, parse_dockerfile
from mega_optimizer.repository.files import Files, MemoryFiles
from mega_optimizer.repository.scan import scan
from mega_optimizer.rules import load_rules

RULES = [rule for rule in load_rules() if rule.id.startswith("containers/")]
FILES = {
    "requirements.txt": b"fastapi==0.115.6\nopencv-python==4.10.0.84\ntorch==2.4.1\n",
    "main.py": b"from fastapi import FastAPI\n\napp = FastAPI()\n",
    "start.sh": b"#!/bin/sh\nexec uvicorn main:app\n",
    "compose.yaml": b"services:\n  web:\n    build: .\n",
}
BASES = [
    "python:3.12", "python:3.12-slim", "python:3.9", "python:3.11-slim-bookworm", "python:${PY}",
    "python:${PY:-3.12}-slim", "python", "python:3.10-alpine", "debian:12-slim", "ubuntu:22.04",
    "nvidia/cuda:12.4.1-devel-ubuntu22.04", "nvidia/cuda:12.1.1-cudnn8-runtime-ubuntu22.04",
    "tiangolo/uvicorn-gunicorn-fastapi:python3.9", "registry.example.com:5000/team/python:3.12",
    "python:3.12-slim@sha256:" + "ab" * 32, "continuumio/miniconda3", "--platform=$P python:3.12",
]  # fmt: skip
SETTINGS = [
    "ENV PYTHONUNBUFFERED=1 \\\n    PIP_NO_CACHE_DIR=off",
    "ENV PATH /opt/venv/bin:$PATH",
    "ENV A=\"x y\" B='$z' C=a\\ b",
    "ARG DEBIAN_FRONTEND=noninteractive",
    "ARG PY",
    "WORKDIR /app",
    "workdir app",
    "# a comment",
    "",
    'SHELL ["/bin/bash", "-o", "pipefail", "-c"]',
    "USER root",
    "USER 1000",
    "VOLUME /data",
    "EXPOSE 8000",
    'LABEL a="b" \\\n      c=${X/a/b}',
    "STOPSIGNAL SIGTERM",
    "HEALTHCHECK --interval=5s CMD curl -f http://localhost:8000/ || exit 1",
    "HEALTHCHECK NONE",
    "ONBUILD RUN apt-get install -y x",
    "ONBUILD COPY . .",
]
COPIES = [
    "COPY . .",
    "COPY . /app",
    "COPY requirements.txt .",
    "COPY requirements.txt start.sh /app/",
    'COPY ["main.py", "start.sh", "/srv/my app/"]',
    "COPY --chown=1000:1000 main.py ./",
    "copy --link main.py .",
    "ADD main.py /app/",
    "ADD https://example.com/a.tar.gz /opt/",
    "COPY <<EOF /etc/motd\nRUN apt-get update\n\nEOF",
    "COPY --from=builder /opt/venv /opt/venv",
    "COPY --from=0 / /",
]
INSTALLS = [
    "RUN apt-get update",
    "RUN apt-get install -y git",
    "RUN apt-get update && apt-get install -y gcc libpq-dev curl",
    "RUN apt-get update -qq \\\n  && apt-get install -y \\\n    # c\n\n    gcc \\\n    make",
    "RUN apt-get update && \\\n    apt-get install \\\n    git \\\n    && rm -r /var/lib/apt",
    "RUN apt update; apt install -yq curl;",
    'RUN ["apt-get", "install", "-y", "git"]',
    "RUN --mount=type=cache,target=/var/lib/apt apt-get update && apt-get install -y vim",
    "RUN <<EOF\napt-get update\napt-get install -y curl\nEOF",
    "RUN <<-'A' bash -e\n\tapt-get update && apt-get install -y curl\n\tA",
    "RUN if [ -n \"$X\" ]; then apt-get update && apt-get install -y gdb; fi",
    "RUN apt-get update && apt-get install -y git | tee log > /dev/null",
    "RUN apk add --no-cache gcc musl-dev",
    "RUN pip install -r requirements.txt",
    "RUN pip3 install --no-cache-dir -r requirements.txt \\\n\n    && echo \"done\"",
    "RUN python -m pip install --upgrade pip && pip install torch 'uvicorn[standard]>=0.3'",
    "RUN --mount=type=cache,target=/root/.cache/pip pip install -r requirements.txt",
    "RUN pip in\\\nstall x",
    "RUN pip install -e . ; pip install .",
    "RUN pip install uv && uv pip install --system -r requirements.txt",
    "RUN poetry install --no-root && uv sync --frozen",
    "RUN python -m venv /opt/venv && /opt/venv/bin/pip install -r requirements.txt",
    "RUN conda env create -f environment.yml",
    "RUN useradd -m app && chown -R app:app /app",
    "RUN groupadd -r app && useradd -r -g app app",
    "RUN mkdir -p /app/logs \"$DATA\" && chown -R app /app /logs",
    "RUN chown -R 1000:1000 .",
    "RUN chmod +x start.sh && ./start.sh || true",
    "RUN echo 'it",
    "RUN echo \"é\" > /x && cat <<X\nhi\nX",
    "RUN $(pip install x) `pip install y`",
    "RUN [ -f x ] && pip install x",
    "RUN f(){ apt-get update; }; f",
    "run set -eux; apt-get update; apt-get install -y tini; rm -rf /root/.cache",
]  # fmt: skip
STARTS = [
    'CMD ["uvicorn", "main:app"]',
    "CMD uvicorn main:app --host 0.0.0.0 --port 8000",
    "CMD uvicorn main:app --port ${PORT:-80}",
    "cmd exec gunicorn main:app -w $W",
    "CMD gunicorn main:app \\\n    --bind 0.0.0.0:80 \\\n    # workers\n    --workers 4",
    'CMD gunicorn --name "a b" --env K=\\"v\\" main:app',
    "CMD ./start.sh",
    "CMD python main.py && echo done",
    "CMD A=1 python main.py > log 2>&1",
    'CMD ["sh", "-c", "uvicorn main:app --port $PORT"]',
    'CMD ["sh", "-c", "a && b"]',
    'CMD [ "bash" , "-lc" , "echo \\"hi\\"" ]',
    "CMD []",
    "CMD [ 'uvicorn', 'main:app' ]",
    'ENTRYPOINT ["/bin/sh", "-c"]\nCMD ["uvicorn main:app"]',
    'ENTRYPOINT ["tini", "--"]\nCMD python main.py',
    'ENTRYPOINT ["./start.sh"]\nCMD gunicorn main:app',
    "ENTRYPOINT python main.py",
    "ENTRYPOINT python main.py\nCMD --debug",
    "",
]


@st.composite
def dockerfiles(draw: st.DrawFn) -> bytes:
    """Return the bytes of a Dockerfile, which may be valid or not."""
    escape = draw(st.sampled_from(["\\", "\\", "\\", "`"]))
    lines = [f"# escape={escape}"] if escape != "\\" else []
    lines += draw(st.sampled_from([[], ["# syntax=docker/dockerfile:1"], ["ARG PY=3.12"], [""]]))
    names = draw(st.sampled_from([[""], [""], [" AS builder", ""], [" as builder", " AS app"]]))
    for name in names:
        lines.append(f"FROM {draw(st.sampled_from(BASES))}{name}")
        body = st.one_of(*map(st.sampled_from, (SETTINGS, COPIES, INSTALLS, INSTALLS)))
        lines += draw(st.lists(body, max_size=7))
    lines.append(draw(st.sampled_from(STARTS)))
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))
    if escape != "\\":
        text = text.replace("\\\n", f"{escape}\n")
    newline = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    mark = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"]))
    return mark + text.replace("\n", newline).encode()


def plan(files: Files) -> Plan:
    options = Options(level="review", propagate_errors=True)
    return make_plan(files, scan(files, "random"), RULES, options)


def instructions(content: bytes) -> list[tuple[str, int, bool, tuple[str, ...]]]:
    """Return what BuildKit's parser reads."""
    return [
        (command.cmd.upper(), command.start_line, command.json, tuple(command.value))
        for command in buildkit.parse_string(content.decode())
    ]


@settings(
    max_examples=500,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(content=dockerfiles())
def test_any_dockerfile_survives_every_rule(content: bytes) -> None:
    before = parse_dockerfile("Dockerfile", content)
    first = plan(MemoryFiles({**FILES, "Dockerfile": content}))

    after = first.result.read("Dockerfile")
    touched = "Dockerfile" in first.changed()
    for finding in first.findings:
        for path, _, advised in finding.advised:
            assert isinstance(parse_dockerfile(path, advised), Dockerfile)
    event("rewritten" if touched else "left alone")
    if not touched:
        assert after == content
        return
    assert isinstance(before, Dockerfile)
    model = parse_dockerfile("Dockerfile", after)
    assert isinstance(model, Dockerfile)
    assert all(each.values[0].strip() for each in model.instructions if each.keyword == "RUN")
    assert instructions(after) == [
        (each.keyword, each.line, each.exec_form is not None, each.values)
        for each in model.instructions
    ]
    for each in model.instructions:
        if each.exec_form is not None and not each.opaque:
            assert tuple(word.text for word in each.exec_form) == each.values
    assert sum(each.opaque for each in model.instructions) <= sum(
        each.opaque for each in before.instructions
    )
    assert not plan(first.result).changed()
