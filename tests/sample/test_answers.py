"""Every route of every sample service answers the same before and after the rewrite.

All services run twice, as their images start them and wired as their compose file wires them: the
checkout as it is, and rewritten at level review. Both get the same requests in the same order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from mega_optimizer.rules import load_rules
from tests.sample.requests import RECORDED, Sent, generated
from tests.sample.stack import Running, fill_database, running
from tests.sample.upstream import upstream
from tests.services.postgres import postgresql
from tests.services.programs import free_port
from tests.services.redis import redis_server
from tests.test_sample_repository import copy_of_the_sample, optimize

# They answer what was true a while ago, or later; their own tests show what they answer.
LEFT_OUT = [rule.id for rule in load_rules() if rule.category in ("cache", "queue")]
# Differs from one answer to the next of the same server.
VOLATILE_KEYS = frozenset({"latency_ms"})
VOLATILE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?|\b[0-9a-f]{32}\b")
HEADERS = ("content-type", "location", "allow", "cache-control", "content-encoding", "vary")

Stacks = tuple[dict[str, Running], dict[str, Running]]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    """Run all services before and after, each with a database of its own."""
    before = copy_of_the_sample(tmp_path_factory.mktemp("before"))
    after = copy_of_the_sample(tmp_path_factory.mktemp("after"))
    optimize(after, "review", *(f"--ignore={rule}" for rule in LEFT_OUT))
    with ExitStack() as stack:
        elsewhere = stack.enter_context(upstream())
        started = []
        for name, checkout in (("before", before), ("after", after)):
            server = stack.enter_context(postgresql(max_connections=200))
            fill_database(server, before)
            hosts = {
                "postgres": server.port,
                "redis": stack.enter_context(redis_server()).port,
                "mailhog": free_port(),  # nobody listens there
                "prometheus": elsewhere,
                "cluster-api": elsewhere,
            }
            logs = tmp_path_factory.mktemp(f"logs-{name}")
            settings = {"MARKET_URL": f"http://127.0.0.1:{elsewhere}"}
            started.append(stack.enter_context(running(checkout, hosts, settings, logs)))
        yield started[0], started[1]


def ask(client: httpx.Client, service: Running, request: Sent) -> Answer:
    try:
        response = client.request(request.method, f"{service.url}{request.path}", **request.options)
    except httpx.TransportError as error:
        return Answer(0, {}, type(error).__name__)
    headers = {name: response.headers[name] for name in HEADERS if name in response.headers}
    text = response.text.replace(service.url, "http://service")
    is_json = headers.get("content-type", "").startswith("application/json")
    if is_json and text:  # as text: 1, 1.0 and True are equal, but not for who reads the JSON
        text = json.dumps(_without_volatile(json.loads(text)))
    return Answer(response.status_code, headers, VOLATILE.sub("volatile", text))


def _without_volatile(value: object) -> object:
    """Return a JSON value without times and random ids; the zone of a time stays."""
    if isinstance(value, dict):
        return {
            key: "volatile" if key in VOLATILE_KEYS else _without_volatile(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_without_volatile(each) for each in value]
    return VOLATILE.sub("volatile", value) if isinstance(value, str) else value


def differences(stacks: Stacks, requests: list[tuple[str, Sent]]) -> list[str]:
    """Send all ``requests`` to both sides; half of their kinds must have had a good answer."""
    found = []
    kinds, answered = set(), set()
    before, after = stacks
    # A connection that is kept may be closed by an idle server just as it is used again.
    with httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        for name, request in requests:
            old, new = ask(client, before[name], request), ask(client, after[name], request)
            kind = (name, request.method, request.path.count("/"))
            kinds.add(kind)
            if 200 <= old.status < 300:
                answered.add(kind)
            if old != new:
                found.append(f"{name}: {request}\n  before: {old}\n  after:  {new}")
    assert len(answered) >= len(kinds) / 2, kinds - answered
    return found


def test_recorded_requests_are_answered_the_same(stacks: Stacks) -> None:
    requests = list(RECORDED)
    assert {name for name, _ in requests} == set(stacks[0])
    assert not differences(stacks, requests)


def test_generated_requests_are_answered_the_same(stacks: Stacks) -> None:
    requests = []
    for name, service in stacks[0].items():
        document = httpx.get(f"{service.url}/openapi.json", timeout=30)
        if document.status_code == 200:
            requests += [(name, request) for request in generated(document.json())]
    assert len({name for name, _ in requests}) > 1
    assert not differences(stacks, requests)


def test_the_services_describe_themselves_the_same(stacks: Stacks) -> None:
    """The OpenAPI documents differ in nothing but response schemas that were missing."""
    for name, service in stacks[0].items():
        old = httpx.get(f"{service.url}/openapi.json", timeout=30)
        new = httpx.get(f"{stacks[1][name].url}/openapi.json", timeout=30)
        assert new.status_code == old.status_code
        if old.status_code == 200:
            assert _operations(new.json()) == _operations(old.json())


def _operations(document: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{method} {path}": {key: about.get(key) for key in ("parameters", "requestBody", "tags")}
        for path, methods in document["paths"].items()
        for method, about in methods.items()
    }
