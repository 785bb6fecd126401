"""Words of launch sites change in place: what a site starts afterwards is what was asked for."""

from __future__ import annotations

import pytest

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.finding import Skip, apply_edits
from mega_optimizer.codemods.launch_sites import option_range, with_words
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.scan import scan
from mega_optimizer.repository.service import LaunchSite

IMAGE = "FROM python:3.12-slim\nWORKDIR /srv\nCOPY . .\n"
KUBERNETES = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
spec:
  template:
    spec:
      containers:
        - name: api
          image: example.com/api:1.0
"""
COMPOSE = "services:\n  api:\n    build: .\n"
START = ["uvicorn", "main:app", "--host", "0.0.0.0", "--reload"]

# Where the command stands, and the file as it is; the words are those of START.
PLACES = {
    "exec form": (
        "Dockerfile",
        f'{IMAGE}CMD ["uvicorn", "main:app", "--host", "0.0.0.0", "--reload"]',
    ),
    "exec form in lines": (
        "Dockerfile",
        f'{IMAGE}CMD [ "uvicorn", "main:app", \\\n'
        '      "--host","0.0.0.0", \\\n      "--reload" ]\n',
    ),
    "entrypoint and command": (
        "Dockerfile",
        f'{IMAGE}ENTRYPOINT ["uvicorn"]\nCMD ["main:app", "--host", "0.0.0.0", "--reload"]\n',
    ),
    "shell form": ("Dockerfile", f"{IMAGE}CMD uvicorn main:app --host 0.0.0.0 \\\n    --reload\n"),
    "text of a shell": (
        "Dockerfile",
        f'{IMAGE}CMD ["sh", "-c", "exec uvicorn main:app --host 0.0.0.0 --reload"]\n',
    ),
    "carriage returns": (
        "Dockerfile",
        f"{IMAGE}CMD uvicorn main:app --host 0.0.0.0 --reload\n".replace("\n", "\r\n"),
    ),
    "script": (
        "run.sh",
        "#!/bin/sh\nset -e\nexec uvicorn main:app \\\n  --host '0.0.0.0' --reload\n",
    ),
    "compose text": (
        "compose.yaml",
        f"{COMPOSE}    command: uvicorn main:app --host 0.0.0.0 --reload  # here\n",
    ),
    "compose quoted": (
        "compose.yaml",
        f'{COMPOSE}    command: "uvicorn main:app --host 0.0.0.0 --reload"\n',
    ),
    "compose flow list": (
        "compose.yaml",
        f"{COMPOSE}    command: ['uvicorn', 'main:app', '--host', '0.0.0.0', '--reload']\n",
    ),
    "compose block list": (
        "compose.yaml",
        f'{COMPOSE}    command:\n      - uvicorn\n      - main:app\n      - "--host"\n'
        '      - "0.0.0.0"\n      - --reload\n    ports: []\n',
    ),
    "kubernetes": (
        "k8s.yaml",
        f'{KUBERNETES}          command: ["uvicorn"]\n'
        '          args: ["main:app", "--host", "0.0.0.0", "--reload"]\n',
    ),
    "procfile": ("Procfile", "web: uvicorn main:app --host 0.0.0.0 --reload"),
    "supervisor": (
        "supervisord.conf",
        "[program:web]\ncommand=uvicorn main:app --host 0.0.0.0 --reload ; the web\nuser=www\n",
    ),
}
FOUND = [pytest.param(*place, id=name) for name, place in PLACES.items()]


def context_of(path: str, text: str) -> Context:
    """Return the context of the one service of a repository with the file ``path``."""
    files = {"main.py": b"from fastapi import FastAPI\n\napp = FastAPI()\n"}
    files["requirements.txt"] = b"fastapi\nuvicorn\n"
    if path in ("compose.yaml", "k8s.yaml"):
        files["Dockerfile"] = IMAGE.encode()
    elif path == "run.sh":
        files["Dockerfile"] = f'{IMAGE}ENTRYPOINT ["./run.sh"]\n'.encode()
    files[path] = text.encode()
    memory = MemoryFiles(files)
    repository = scan(memory, "api")
    assert len(repository.services) == 1
    return Context(repository.services[0], memory)


def site_in(context: Context, path: str) -> LaunchSite:
    found = [each for each in context.launch if each.place.path == path and each.words]
    assert len(found) == 1, found
    return found[0]


def changed(path: str, text: str, first: int, last: int, words: list[str]) -> list[str]:
    """Return the words that the site starts after the edit, as they are read anew."""
    context = context_of(path, text)
    site = site_in(context, path)
    assert [word.text for word in site.words] == START
    edits = with_words(context, site, first, last, words)
    assert not isinstance(edits, Skip), edits
    assert {edit.path for edit in edits} == {path}
    after = apply_edits(text.encode(), edits).decode()
    assert after.count("\r\n") in (0, after.count("\n"))
    return [word.text for word in site_in(context_of(path, after), path).words]


@pytest.mark.parametrize(("path", "text"), FOUND)
def test_replaced(path: str, text: str) -> None:
    new = ["other.module:app", "--port", "8080"]
    assert changed(path, text, 1, 2, new) == [START[0], *new, *START[2:]]


@pytest.mark.parametrize(("path", "text"), FOUND)
def test_inserted_at_the_end(path: str, text: str) -> None:
    assert changed(path, text, 5, 5, ["--workers", "2"]) == [*START, "--workers", "2"]


@pytest.mark.parametrize(("path", "text"), FOUND)
def test_inserted_between(path: str, text: str) -> None:
    expected = [*START[:2], "--proxy-headers", *START[2:]]
    assert changed(path, text, 2, 2, ["--proxy-headers"]) == expected


@pytest.mark.parametrize(("path", "text"), FOUND)
def test_removed(path: str, text: str) -> None:
    assert changed(path, text, 4, 5, []) == START[:4]
    assert changed(path, text, 2, 4, []) == [*START[:2], START[4]]


@pytest.mark.parametrize("given", ["--host 0.0.0.0", "--host=0.0.0.0"])
def test_the_range_of_an_option_takes_its_value_along(given: str) -> None:
    text = f"{IMAGE}CMD uvicorn main:app {given} --reload\n"
    site = site_in(context_of("Dockerfile", text), "Dockerfile")
    first, last = option_range(site, "--host") or (0, 0)
    assert " ".join(word.text for word in site.words[first:last]) == given
    assert option_range(site, "--port") is None


def test_what_needs_quotes_is_not_written_where_there_are_some() -> None:
    text = f'{IMAGE}CMD ["sh", "-c", "exec uvicorn main:app"]\n'
    context = context_of("Dockerfile", text)
    answer = with_words(context, site_in(context, "Dockerfile"), 1, 2, ["main:create_app()"])
    assert isinstance(answer, Skip)
    assert answer.code == "site-not-editable"


def test_quotes_are_put_around_what_a_shell_would_read() -> None:
    context = context_of("run.sh", "#!/bin/sh\nexec gunicorn main:app\n")
    edits = with_words(context, site_in(context, "run.sh"), 1, 2, ["main:create_app()"])
    assert not isinstance(edits, Skip)
    after = apply_edits(b"#!/bin/sh\nexec gunicorn main:app\n", edits)
    assert after == b"#!/bin/sh\nexec gunicorn 'main:create_app()'\n"
