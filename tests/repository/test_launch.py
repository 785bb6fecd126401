"""Launch sites: what is started, and where that is written."""

from __future__ import annotations

import pytest

from mega_optimizer.repository.dockerfile import parse_dockerfile, shipping_stage
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.launch import (
    dockerfile_launch,
    parse_command,
    procfile_launch,
    python_launch,
    shell_launch,
    supervisor_launch,
    words_launch,
)
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.service import LaunchSite, Word


def words(text: str) -> tuple[Word, ...]:
    return tuple(Word(part, -1, -1) for part in text.split())


@pytest.mark.parametrize(
    ("text", "server", "application"),
    [
        ("uvicorn app.main:app --host 0.0.0.0", "uvicorn", "app.main:app"),
        ("uvicorn --port 8000 --reload main:app", "uvicorn", "main:app"),
        ("uvicorn --host localhost app", "uvicorn", "app"),
        ("gunicorn -b :5000 -w 4 --preload config.wsgi", "gunicorn", "config.wsgi"),
        ("gunicorn -k uvicorn_worker.UvicornWorker a.b:create()", "gunicorn", "a.b:create()"),
        ("hypercorn --bind 0.0.0.0:8000 a:app", "hypercorn", "a:app"),
        ("granian --interface asgi a:app", "granian", "a:app"),
        ("daphne -p 8000 a.asgi:application", "daphne", "a.asgi:application"),
        ("fastapi run app/main.py --port 80", "fastapi", "app/main.py"),
        ("fastapi dev", "fastapi", None),
        ("flask --app hello run", "flask", "hello"),
        ("flask run", "flask", None),
        ("celery -A proj worker", "celery", "proj"),
        ("celery --app=proj.celery:app beat", "celery", "proj.celery:app"),
        ("python -m uvicorn a:app", "uvicorn", "a:app"),
        ("python3.11 -u -m app.serve --x", "python", "app.serve"),
        ("/opt/venv/bin/python -W ignore x.py y", "python", "x.py"),
        ("python -c code", "python", None),
        ("python -m debugpy --listen 0.0.0.0:5678 -m uvicorn a:app", "uvicorn", "a:app"),
        ("/opt/venv/bin/gunicorn a:app", "gunicorn", "a:app"),
        ("uv run uvicorn a:app", "uvicorn", "a:app"),
        ("poetry run python x.py", "python", "x.py"),
        ("pipenv run flask run", "flask", None),
        ("tini -- exec ddtrace-run gunicorn a:app", "gunicorn", "a:app"),
        ("opentelemetry-instrument --traces_exporter otlp uvicorn a:app", "uvicorn", "a:app"),
        ("env A=b uvicorn a:app", "uvicorn", "a:app"),
        ("node server.js", "node", None),
    ],
)
def test_server_and_application_are_found(text: str, server: str, application: str | None) -> None:
    launch = parse_command(words(text))
    assert launch is not None
    assert (launch.server, launch.application) == (server, application)
    assert launch.words[0].text.rsplit("/", 1)[-1].startswith(server)


@pytest.mark.parametrize("text", ["", "exec", "sh -c x"])
def test_nothing_that_can_be_named(text: str) -> None:
    assert parse_command(words(text)) is None


def launch(
    dockerfile: str, others: dict[str, str] | None = None, path: str = "Dockerfile"
) -> list[tuple[str, str | None, str | None]]:
    return [
        (str(site.place), site.server, site.application) for site in sites(dockerfile, others, path)
    ]


def sites(
    dockerfile: str, others: dict[str, str] | None = None, path: str = "Dockerfile"
) -> tuple[LaunchSite, ...]:
    files = MemoryFiles(
        {name: text.encode() for name, text in {path: dockerfile, **(others or {})}.items()}
    )
    parsed = parse_dockerfile(path, dockerfile.encode())
    assert not isinstance(parsed, Problem)
    stage = shipping_stage(parsed)
    assert stage is not None
    return dockerfile_launch(parsed, stage, files)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ('CMD ["uvicorn", "a:b"]', [("Dockerfile:2", "uvicorn", "a:b")]),
        ("CMD uvicorn a:b --port $PORT", [("Dockerfile:2", "uvicorn", "a:b")]),
        ("CMD x && exec uvicorn a:b", [("Dockerfile:2", "uvicorn", "a:b")]),
        ("CMD python m.py migrate && gunicorn a:b", [("Dockerfile:2", "gunicorn", "a:b")]),
        ("CMD if x; then uvicorn a:b; fi", [("Dockerfile:2", None, None)]),
        ("CMD nginx -g 'daemon off;'", [("Dockerfile:2", "nginx", None)]),
        ('ENTRYPOINT ["uvicorn"]\nCMD ["a:b"]', [("Dockerfile:2", "uvicorn", "a:b")]),
        ('ENTRYPOINT ["tini", "--"]\nCMD uvicorn a:b', [("Dockerfile:3", "uvicorn", "a:b")]),
        ('ENTRYPOINT ["tini", "--"]\nCMD ["uvicorn", "a:b"]', [("Dockerfile:3", "uvicorn", "a:b")]),
        (
            'ENTRYPOINT ["/bin/sh", "-c"]\nCMD ["uvicorn a:b --host \\"x\\""]',
            [("Dockerfile:3", "uvicorn", "a:b")],
        ),
        ('ENTRYPOINT uvicorn a:b\nCMD ["c"]', [("Dockerfile:2", "uvicorn", "a:b")]),
        ('CMD ["uvicorn", "a:b"]\nCMD ["uvicorn", "c:d"]', [("Dockerfile:3", "uvicorn", "c:d")]),
        ("CMD []", []),
        ("RUN a", []),
    ],
)
def test_entrypoint_and_cmd_are_combined_as_docker_does(
    tail: str, expected: list[tuple[str, str | None, str | None]]
) -> None:
    assert launch("FROM python\n" + tail + "\n") == expected


def test_inherited_command_is_dropped_by_a_new_entrypoint() -> None:
    base = 'FROM python AS base\nENTRYPOINT ["gunicorn"]\nCMD ["a:b"]\nFROM base\n'
    assert launch(base) == [("Dockerfile:2", "gunicorn", "a:b")]
    assert launch(base + 'ENTRYPOINT ["uvicorn"]\n') == [("Dockerfile:5", "uvicorn", None)]
    assert launch(base + 'CMD ["c:d"]\n') == [("Dockerfile:2", "gunicorn", "c:d")]


SCRIPT = "#!/bin/sh\nset -e\npython manage.py migrate\nexport W=2\nA=1 exec gunicorn a:b -w $W\n"
HANDOVER = '#!/usr/bin/env bash\nset -e\nexec "$@"\n'


@pytest.mark.parametrize(
    ("dockerfile", "path"),
    [
        ('WORKDIR /app\nCOPY . .\nENTRYPOINT ["./start.sh"]', "start.sh"),
        ("WORKDIR /app\nCOPY . .\nCMD ./start.sh", "start.sh"),
        ('COPY . .\nCMD ["./start.sh"]', "start.sh"),
        ('COPY docker/start.sh /start.sh\nCMD ["/start.sh"]', "docker/start.sh"),
        ('COPY docker/*.sh /srv/\nCMD ["bash", "/srv/start.sh"]', "docker/start.sh"),
        ('COPY docker/start.sh /usr/local/bin/\nENTRYPOINT ["start.sh"]', "docker/start.sh"),
        ('COPY docker /srv/docker\nCMD ["tini", "--", "/srv/docker/start.sh"]', "docker/start.sh"),
        ('ENV D=/srv\nWORKDIR $D\nCOPY --chown=a docker/start .\nCMD ["./start"]', "docker/start"),
    ],
)
def test_scripts_of_the_repository_are_read(dockerfile: str, path: str) -> None:
    assert launch(f"FROM python\n{dockerfile}\n", {path: SCRIPT}) == [
        (f"{path}:5", "gunicorn", "a:b")
    ]


def test_script_copied_between_stages_and_context_above_the_dockerfile() -> None:
    dockerfile = (
        "FROM python AS build\nWORKDIR /src\nCOPY docker/start.sh .\n"
        'FROM python\nCOPY --from=build /src /app\nWORKDIR /app\nCMD ["./start.sh"]\n'
    )
    found = launch(dockerfile, {"docker/start.sh": SCRIPT}, "docker/images/Dockerfile")
    assert found == [("docker/start.sh:5", "gunicorn", "a:b")]


def test_script_that_hands_over_starts_the_command() -> None:
    dockerfile = (
        'FROM python\nENV E=1\nCOPY . /\nENTRYPOINT ["/entry.sh"]\n'
        'CMD ["uvicorn", "a:b", "--port", "80"]\n'
    )
    (site,) = sites(dockerfile, {"entry.sh": HANDOVER})
    assert (str(site.place), site.server, site.application) == ("Dockerfile:5", "uvicorn", "a:b")
    assert site.option("--port") == "80"
    assert dict(site.environment) == {"E": "1"}
    port = site.words[-1]
    assert dockerfile[port.start : port.end] == '"80"'


def test_script_without_a_server_is_a_site_without_one() -> None:
    dockerfile = 'FROM python\nCOPY . /\nENTRYPOINT ["/entry.sh"]\n'
    assert launch(dockerfile, {"entry.sh": "#!/bin/sh\n./magic\n"}) == [("entry.sh:1", None, None)]


def test_script_that_is_not_in_the_repository_is_its_own_program() -> None:
    assert launch('FROM python\nCMD ["/start.sh"]\n') == [("Dockerfile:2", "start.sh", None)]


def test_shell_script_sites_have_words_settings_and_lines() -> None:
    content = SCRIPT.encode()
    (site,) = shell_launch("start.sh", content)
    assert (site.place, site.source) == (Place("start.sh", 5), "shell")
    assert dict(site.environment) == {"W": "2", "A": "1"}
    assert site.option("-w", "--workers") == "$W"
    assert [content[word.start : word.end].decode() for word in site.words] == [
        word.text for word in site.words
    ]


def test_control_flow_hides_the_server_but_not_what_follows() -> None:
    script = b"if a; then\n  exec uvicorn a:b --reload\nfi\nexec uvicorn a:b\n"
    assert [(site.place.line, site.server) for site in shell_launch("s.sh", script)] == [
        (2, None),
        (4, "uvicorn"),
    ]


def test_procfile_processes_without_release() -> None:
    content = (
        b"release: python m.py migrate\nweb: gunicorn a:b -w 2\r\n# c: d\nworker: python -u w.py\n"
    )
    found = procfile_launch("Procfile", content)
    assert [(site.place.line, site.server, site.application) for site in found] == [
        (2, "gunicorn", "a:b"),
        (4, "python", "w.py"),
    ]


def test_supervisor_programs() -> None:
    content = (
        b"[supervisord]\ncommand=uvicorn no:no\n[program:web]\ndirectory=/srv\n"
        b'command=/srv/venv/bin/gunicorn -w 4 a:b ; comment\nenvironment=A="1",B=2\n'
        b"[program:x]\nautostart=true\n"
    )
    (site,) = supervisor_launch("web.conf", content)
    assert (site.place.line, site.server, site.application) == (5, "gunicorn", "a:b")
    assert dict(site.environment) == {"A": "1", "B": "2"}
    assert site.words[-1].text == "a:b"
    assert supervisor_launch("empty.conf", b"") == ()


def test_manifest_commands_as_text_and_as_list() -> None:
    content = b'command: uvicorn a:b --workers 2\nargs: ["uvicorn", "c:d"]\n'
    place = Place("compose.yaml", 1)
    (text,) = words_launch("uvicorn a:b --workers 2", place, "compose", [(9, 32)], content=content)
    assert (text.server, text.option("--workers")) == ("uvicorn", "2")
    assert content[text.words[1].start : text.words[1].end] == b"a:b"
    (listed,) = words_launch(
        ["uvicorn", "c:d"], place, "kubernetes", [(40, 49), (51, 56)], content=content
    )
    assert content[listed.words[1].start : listed.words[1].end] == b'"c:d"'
    (unplaced,) = words_launch(["sh", "-c", "cd x && exec uvicorn a:b"], place, "compose")
    assert (unplaced.server, unplaced.words[0].start) == ("uvicorn", -1)
    assert words_launch("", place, "compose") == ()
    assert words_launch([], place, "compose") == ()


def test_python_calls_that_serve() -> None:
    code = (
        b"\xef\xbb\xbfimport uvicorn as server\nfrom flask import Flask\n\napp = Flask(__name__)\n"
        b'if __name__ == "__main__":\n'
        b'    server.run("\xc3\xa9.main:app", host="0.0.0.0", workers=4, reload=True, '
        b"debug=False)\n"
        b"    app.run(port=PORT)\n    other.run()\n"
    )
    uvicorn, flask = python_launch("main.py", code)
    assert (uvicorn.server, uvicorn.application) == ("uvicorn", "é.main:app")
    assert uvicorn.option("--workers") == "4"
    assert uvicorn.option("--reload") == ""
    assert uvicorn.option("--debug") is None
    assert code[uvicorn.words[3].start : uvicorn.words[3].end] == b"workers=4"
    assert (flask.server, flask.application) == ("flask", "app")
    assert flask.place == Place("main.py", 7, 5, 7)


@pytest.mark.parametrize(
    "code",
    [
        b"import subprocess\nsubprocess.run(['uvicorn'])\n",
        b"uvicorn.run(app)\n",
        b"import uvicorn\nuvicorn.run(\n",
        b"import uvicorn\nuvicorn.run(app)\0\n",
        b"import uvicorn\n" + b"(" * 1500 + b")" * 1500,
        b"",
    ],
)
def test_python_without_a_server_or_unreadable(code: bytes) -> None:
    assert python_launch("main.py", code) == ()
