from __future__ import annotations

import pytest

from mega_optimizer.repository.kubernetes import (
    Workload,
    is_kubernetes_manifest,
    kubernetes_workloads,
)
from mega_optimizer.repository.place import Problem

DEPLOYMENT = b"""\
# the api
apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
spec:
  replicas: 2
  template:
    spec:
      containers:
        - name: server
          image: registry.example.org/team/api:1.2
          command: ["gunicorn"]
          args:
            - app:app
          env:
            - name: A
              value: "1"
            - name: B
              valueFrom: {secretKeyRef: {name: s, key: k}}
          resources:
            limits: {nvidia.com/gpu: 1}
          readinessProbe: {httpGet: {path: /ready, port: 80}}
"""


def workloads(content: bytes) -> tuple[Workload, ...]:
    found = kubernetes_workloads("k8s/a.yaml", content)
    assert isinstance(found, tuple), found
    return found


def test_a_deployment_says_what_it_runs_and_where() -> None:
    (found,) = workloads(DEPLOYMENT)
    assert (found.kind, found.name, found.replicas, found.place.line) == ("Deployment", "api", 2, 2)
    (container,) = found.containers
    assert (container.name, container.image) == ("server", "registry.example.org/team/api:1.2")
    assert container.place.line == 11
    assert container.command is not None
    assert [word.text for word in container.command.elements] == ["gunicorn"]
    assert container.args is not None
    word = container.args.elements[0]
    assert DEPLOYMENT[word.start : word.end] == b"app:app"
    assert container.environment == {"A": "1"}
    assert container.readiness is not None
    assert container.liveness is None
    assert container.gpu is not None
    assert container.gpu.line == 22


def test_ranges_hold_behind_documents_that_run_nothing() -> None:
    content = "kind: ConfigMap\ndata: {x: größe, broken: [}\n---\n".encode() + DEPLOYMENT
    (found,) = workloads(content)
    image = found.containers[0].node.get("image")
    assert image is not None
    assert content[image.start : image.end] == b"registry.example.org/team/api:1.2"
    assert found.place.line == 5


def test_a_template_in_a_document_that_runs_nothing_does_not_matter() -> None:
    content = b"kind: ConfigMap\ndata:\n  x: {{ .Values.x }}\n--- # next\n" + DEPLOYMENT
    assert len(workloads(content)) == 1


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("StatefulSet", "{template: {spec: {containers: [{name: c, image: i}]}}}"),
        ("DaemonSet", "{template: {spec: {containers: [{name: c, image: i}]}}}"),
        ("Job", "{template: {spec: {containers: [{name: c, image: i}]}}}"),
        ("CronJob", "{jobTemplate: {spec: {template: {spec: {containers: [{image: i}]}}}}}"),
        ("Pod", "{containers: [{name: c, image: i}]}"),
    ],
)
def test_every_kind_of_workload_has_containers(kind: str, spec: str) -> None:
    content = f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: n}}\nspec: {spec}\n".encode()
    (found,) = workloads(content)
    assert [container.image for container in found.containers] == ["i"]
    assert found.replicas is None


def test_a_patch_without_containers_is_a_workload_without_any() -> None:
    (found,) = workloads(b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n")
    assert found.containers == ()


def test_a_templated_workload_is_a_problem() -> None:
    found = kubernetes_workloads("a.yaml", DEPLOYMENT.replace(b"2\n", b"{{ .n }}\n", 1))
    assert isinstance(found, Problem)
    assert found.code == "templated"


def test_manifests_are_known_by_their_content() -> None:
    assert is_kubernetes_manifest("a.yml", DEPLOYMENT)
    assert not is_kubernetes_manifest("a.md", DEPLOYMENT)
    assert not is_kubernetes_manifest("a.yaml", b"apiVersion: v1\nkind: Service\n")
    assert not is_kubernetes_manifest("a.yaml", b"kind: Deployment\n")
    nested = b"apiVersion: v1\nkind: List\nspec:\n  kind: Deployment\n"
    assert not is_kubernetes_manifest("a.yaml", nested)
