from __future__ import annotations

import pytest

from mega_optimizer.repository.compose import (
    ComposeService,
    compose_rank,
    compose_services,
    is_compose_file,
)
from mega_optimizer.repository.place import Problem


def services(content: str, path: str = "docker-compose.yml") -> dict[str, ComposeService]:
    found = compose_services(path, content.encode())
    assert isinstance(found, tuple), found
    return {service.name: service for service in found}


def built(build: str, path: str = "docker-compose.yml") -> tuple[str | None, str | None]:
    service = services(f"services:\n  web:\n    build: {build}\n", path)["web"]
    return service.context, service.dockerfile


@pytest.mark.parametrize(
    ("build", "path", "expected"),
    [
        ("./api", "docker-compose.yml", ("api", "api/Dockerfile")),
        (".", "docker-compose.yml", ("", "Dockerfile")),
        (".", "deploy/compose.yaml", ("deploy", "deploy/Dockerfile")),
        ("{context: ..}", "deploy/compose.yaml", ("", "Dockerfile")),
        ("{context: ., dockerfile: d/x.Dockerfile}", "c/compose.yaml", ("c", "c/d/x.Dockerfile")),
        ("{context: app, dockerfile: ../Dockerfile}", "docker-compose.yml", ("app", "Dockerfile")),
        ("{dockerfile: Dockerfile.prod}", "docker-compose.yml", ("", "Dockerfile.prod")),
        ('"${DIR:-api}"', "docker-compose.yml", ("api", "api/Dockerfile")),
        ('"${DIR}"', "docker-compose.yml", (None, None)),
        ("https://example.org/a.git", "docker-compose.yml", (None, None)),
        ("../elsewhere", "docker-compose.yml", (None, None)),
        ("/srv/api", "docker-compose.yml", (None, None)),
        ("{dockerfile_inline: FROM scratch}", "docker-compose.yml", (None, None)),
    ],
)
def test_builds_are_relative_to_the_root_of_the_repository(
    build: str, path: str, expected: tuple[str | None, str | None]
) -> None:
    assert built(build, path) == expected


def test_a_service_says_how_it_is_run() -> None:
    web = services(
        """\
services:
  web:
    build:
      context: .
      target: prod
      args: {PY: "3.12"}
    image: me/web:1
    command: uvicorn app:app
    entrypoint: ["/entry.sh"]
    environment:
      - A=1
      - B=x=y
      - C
    ports: ["80:80"]
    deploy:
      replicas: 3
"""
    )["web"]
    assert (web.place.line, web.target, web.image, web.replicas) == (2, "prod", "me/web:1", 3)
    assert web.arguments == {"PY": "3.12"}
    assert web.command is not None
    assert web.command.text == "uvicorn app:app"
    assert web.entrypoint is not None
    assert [word.text for word in web.entrypoint.elements] == ["/entry.sh"]
    assert web.environment == {"A": "1", "B": "x=y", "C": ""}
    assert web.ports == ("80:80",)


def test_anchors_and_extends_are_inherited() -> None:
    found = services(
        """\
x-app: &app
  build: ./app
  environment: {A: "1", B: "2"}
services:
  web:
    <<: *app
  worker:
    extends: {service: web}
    command: celery worker
    environment: {B: "3"}
  far:
    extends: {file: other.yml, service: web}
  circle:
    extends: circle
"""
    )
    assert found["web"].dockerfile == "app/Dockerfile"
    assert found["worker"].dockerfile == "app/Dockerfile"
    assert found["worker"].environment == {"A": "1", "B": "3"}
    assert found["far"].dockerfile is None
    assert found["circle"].dockerfile is None


@pytest.mark.parametrize(
    "section",
    [
        "deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1}]}}}",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
        "gpus: all",
        "runtime: nvidia",
    ],
)
def test_a_gpu_is_seen_however_it_is_asked_for(section: str) -> None:
    gpu = services(f"services:\n  web:\n    image: a\n    {section}\n")["web"].gpu
    assert gpu is not None
    assert gpu.line == 4


def test_other_runtimes_are_no_gpu() -> None:
    assert services("services: {web: {image: a, runtime: runc}}")["web"].gpu is None


@pytest.mark.parametrize(
    "content",
    ["", "version: '3'\n", "services:\n", "services: []\n", "- a\n", "services: {a: 1}\n"],
)
def test_files_without_services_have_none(content: str) -> None:
    assert services(content) == {}


def test_a_broken_file_is_a_problem() -> None:
    found = compose_services("compose.yaml", b"services: [\n")
    assert isinstance(found, Problem)
    assert found.code == "yaml-syntax"


def test_compose_files_are_known_by_name() -> None:
    names = ("compose.yaml", "docker-compose.yml", "a/docker-compose.prod.yml", "x.compose.yml")
    assert all(is_compose_file(name) for name in names)
    names = ("decompose.yaml", "compose.md", "composer.yaml", "compose.py")
    assert not any(is_compose_file(name) for name in names)


def test_files_for_developers_rank_behind_those_for_production() -> None:
    ranked = ("docker-compose.prod.yml", "docker-compose.yml", "docker-compose.dev.yml")
    assert [compose_rank(path) for path in ranked] == [0, 1, 2]
    assert compose_rank("tests/compose.yml") == 2
    assert compose_rank("devices/compose.yml") == 1
