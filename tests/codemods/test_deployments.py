"""Additions to compose files and Kubernetes manifests: in place, written as their neighbours."""

from __future__ import annotations

import pytest

from mega_optimizer.codemods.deployments import (
    compose_dependency,
    compose_service,
    compose_variable,
    container_variable,
    environment_line,
)
from mega_optimizer.codemods.finding import Edit, Skip, apply_edits
from mega_optimizer.repository.compose import ComposeService, compose_services
from mega_optimizer.repository.kubernetes import kubernetes_workloads
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.yaml import documents

PATH = "docker-compose.yml"


def service(text: str, name: str = "web") -> ComposeService:
    found = compose_services(PATH, text.encode())
    assert not isinstance(found, Problem)
    return next(each for each in found if each.name == name)


def applied(text: str, edit: Edit | Skip | None) -> str:
    assert isinstance(edit, Edit), edit
    return apply_edits(text.encode(), [edit]).decode()


def with_variable(text: str) -> str:
    return applied(text, compose_variable(text.encode(), service(text), "A", "1"))


def with_dependency(text: str) -> str:
    return applied(text, compose_dependency(text.encode(), service(text), "redis"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    environment:\n      B: '2' #\n", "    environment:\n      B: '2' #\n      A: 1\n"),
        ("    environment:\n      - B=2\n", "    environment:\n      - B=2\n      - A=1\n"),
        ("    environment:\n    -   B=2\n", "    environment:\n    -   B=2\n    -   A=1\n"),
        ('    environment:\n      - "B=2"\n', '    environment:\n      - "B=2"\n      - "A=1"\n'),
        ("    environment: {B: 2}\n", "    environment: {B: 2, A: 1}\n"),
        ("    environment: [B=2]\n", "    environment: [B=2, A=1]\n"),
        (
            "    # first the database\n    depends_on: [db]\n",
            "    environment:\n      A: 1\n    # first the database\n    depends_on: [db]\n",
        ),
        ("    environment:\r\n      B: 2\r\n", "    environment:\r\n      B: 2\r\n      A: 1\r\n"),
        ("    environment:\n      B: 2", "    environment:\n      B: 2\n      A: 1\n"),
        (
            "    environment:\n      B: |\n        two\n        lines\n\n    # end\n",
            "    environment:\n      B: |\n        two\n        lines\n      A: 1\n\n    # end\n",
        ),
    ],
)  # fmt: skip
def test_variable_of_a_compose_service(before: str, after: str) -> None:
    newline = "\r\n" if "\r\n" in before else "\n"
    head = f"services:{newline}  web:{newline}    build: .{newline}"
    assert with_variable(head + before) == head + after


def test_variable_that_is_set_stays() -> None:
    text = "services:\n  web:\n    environment: {A: 7}\n"
    assert compose_variable(text.encode(), service(text), "A", "1") is None


@pytest.mark.parametrize(
    "text",
    [
        "x-e: &e\n  B: 2\nservices:\n  web:\n    environment: *e\n",
        "x-e: &e\n  B: 2\nservices:\n  web:\n    environment:\n      <<: *e\n",
        "x-w: &w\n  environment: {B: 2}\nservices:\n  web:\n    <<: *w\n    image: x\n",
    ],
)
def test_shared_environment_is_left_alone(text: str) -> None:
    edit = compose_variable(text.encode(), service(text), "A", "1")
    assert isinstance(edit, Skip)
    assert edit.code == "manifest-shape"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "    depends_on:\n      - redis\n"),
        ("    depends_on:\n      - db\n", "    depends_on:\n      - db\n      - redis\n"),
        ("    depends_on: [db]\n", "    depends_on: [db, redis]\n"),
        (
            "    depends_on:\n      db:\n        condition: service_healthy\n",
            "    depends_on:\n      db:\n        condition: service_healthy\n"
            "      redis:\n        condition: service_started\n",
        ),
    ],
)
def test_dependency_of_a_compose_service(before: str, after: str) -> None:
    head = "services:\n  web:\n    build: .\n"
    tail = "  db:\n    image: postgres\n"
    assert with_dependency(head + before + tail) == head + after + tail


def test_service_stands_apart_as_the_others_do() -> None:
    text = "services:\n  web:\n    build: .\n\n  db:\n    image: postgres\n\nvolumes:\n  data:\n"
    root = documents(PATH, text.encode())
    assert not isinstance(root, Problem)
    services = root[0].get("services")
    assert services is not None
    edit = compose_service(PATH, text.encode(), services, "redis", ["image: redis:7"])
    assert applied(text, edit) == text.replace(
        "postgres\n", "postgres\n\n  redis:\n    image: redis:7\n"
    )


MANIFEST = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
        - image: acme/web:1
          name: web
{}          resources: {{}}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "          env:\n            - name: A\n              value: redis://r:1/0\n"),
        (
            "          ports:\n          - containerPort: 1\n",
            "          ports:\n          - containerPort: 1\n"
            "          env:\n          - name: A\n            value: redis://r:1/0\n",
        ),
        (
            "          env:\n          # secret\n          - name: B\n            valueFrom:\n"
            "              secretKeyRef: {name: b, key: b}\n",
            "          env:\n          # secret\n          - name: B\n            valueFrom:\n"
            "              secretKeyRef: {name: b, key: b}\n"
            "          - name: A\n            value: redis://r:1/0\n",
        ),
    ],
)
def test_variable_of_a_container(before: str, after: str) -> None:
    text = MANIFEST.format(before)
    workloads = kubernetes_workloads("web.yaml", text.encode())
    assert not isinstance(workloads, Problem)
    edit = container_variable(text.encode(), workloads[0].containers[0], "A", "redis://r:1/0")
    expected = MANIFEST.format(after)
    if not before:
        expected = MANIFEST.format("").replace("acme/web:1\n", f"acme/web:1\n{after}")
    assert applied(text, edit) == expected
    again = kubernetes_workloads("web.yaml", expected.encode())
    assert not isinstance(again, Problem)
    assert again[0].containers[0].environment["A"] == "redis://r:1/0"


@pytest.mark.parametrize(
    ("before", "after"),
    [("B=2\n", "B=2\nA=1\n"), ("B=2", "B=2\nA=1\n"), ("", "A=1\n"), ("B=2\r\n", "B=2\r\nA=1\r\n")],
)
def test_line_of_an_example_of_the_environment(before: str, after: str) -> None:
    assert applied(before, environment_line(".env.example", before.encode(), "A", "1")) == after


@pytest.mark.parametrize("text", ["A=2\n", "# A=\n", "export A=2\n"])
def test_variable_that_the_example_names_stays(text: str) -> None:
    assert environment_line(".env.example", text.encode(), "A", "1") is None
