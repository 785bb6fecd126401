"""Requests to the sample services: recorded ones, and ones made from their own OpenAPI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import schemathesis.openapi
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.core.result import Ok

EXAMPLES = 12  # a route


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: what httpx needs to send it to whichever server, as ``path`` on it."""

    method: str
    path: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {dict(self.options)}"


def _request(method: str, path: str, json: object = None) -> Sent:
    return Sent(method, path, {} if json is None else {"json": json})


_TRANSACTION = {"amount": 120.5, "currency": "EUR", "country": "DE", "merchant": "books"}
_EMAIL = {"to": "ada@acme.com", "template": "welcome", "values": {"name": "Ada"}}
_SERIES = {
    "symbol": "btc",
    "prices": [100.0 + (7 * n) % 11 for n in range(40)],
    "volumes": [10.0 + (3 * n) % 7 for n in range(40)],
}
_CONVERSION = {"amount": 250, "source": "USD", "target": "chf"}
_EVENT = {"actor": "ada", "action": "rename", "subject": "task/7"}
# In this order: what one request makes, a later one reads.
RECORDED = (
    ("api-gateway", _request("GET", "/health")),
    ("api-gateway", _request("GET", "/status")),
    ("api-gateway", _request("GET", "/api/v1/items")),
    ("api-gateway", _request("GET", "/api/v1/items/search?category=spot&limit=3")),
    ("api-gateway", _request("GET", "/api/v1/items/search?exchange=kraken")),
    ("api-gateway", _request("GET", "/api/v1/items/export")),
    ("api-gateway", _request("GET", "/api/v1/items/download")),
    ("api-gateway", _request("GET", "/api/v1/items/1")),
    ("api-gateway", _request("GET", "/api/v1/items/999999")),
    ("api-gateway", _request("POST", "/api/v1/predict", _SERIES)),
    ("api-gateway", _request("GET", "/api/v1/predictions")),
    ("api-gateway", _request("POST", "/api/v1/tasks", {"name": "retrain", "priority": 3})),
    ("api-gateway", _request("GET", "/api/v1/tasks")),
    ("api-gateway", _request("GET", "/api/v1/tasks/1")),
    ("crypto-prediction", _request("GET", "/health")),
    ("crypto-prediction", _request("POST", "/predict", _SERIES)),
    ("crypto-prediction", _request("POST", "/predict/batch", {"series": [_SERIES, _SERIES]})),
    ("crypto-prediction", _request("POST", "/backtests", _SERIES)),
    ("crypto-prediction", _request("POST", "/backtests", {**_SERIES, "volumes": [1.0] * 9})),
    ("crypto-prediction", _request("GET", "/backtests/0")),
    ("crypto-prediction", _request("GET", "/predictions?symbol=btc&limit=5")),
    ("crypto-prediction", _request("GET", "/predictions/summary")),
    ("crypto-prediction", _request("GET", "/predictions/1")),
    ("orchestrator", _request("GET", "/health")),
    ("orchestrator", _request("POST", "/tasks", {"name": "train", "priority": 1})),
    ("orchestrator", _request("PATCH", "/tasks/1", {"status": "running"})),
    ("orchestrator", _request("GET", "/tasks")),
    ("orchestrator", _request("GET", "/tasks/stats")),
    ("orchestrator", _request("DELETE", "/tasks/1")),
    ("orchestrator", _request("GET", "/tasks/1")),
    ("fraud-detection", _request("GET", "/health")),
    ("fraud-detection", _request("GET", "/ready")),
    ("fraud-detection", _request("POST", "/score", {"account_id": "a1", **_TRANSACTION})),
    ("fraud-detection", _request("POST", "/score", {"account_id": "a1"})),
    (
        "fraud-detection",
        _request("POST", "/score/batch", [{"account_id": f"a{n}", **_TRANSACTION} for n in "123"]),
    ),
    ("fraud-detection", _request("GET", "/transactions?account_id=a1")),
    ("auto-scaler", _request("GET", "/health")),
    ("auto-scaler", _request("PUT", "/policies/gateway", {"max_replicas": 6, "target_cpu": 0.5})),
    ("auto-scaler", _request("GET", "/policies")),
    ("auto-scaler", _request("GET", "/policies/gateway")),
    ("auto-scaler", _request("GET", "/nodes")),
    ("auto-scaler", _request("GET", "/services/gateway/usage")),
    ("auto-scaler", _request("POST", "/services/gateway/scale", {"replicas": 3})),
    ("auto-scaler", _request("POST", "/services/flaky/scale", {"replicas": 3})),
    ("auto-scaler", _request("POST", "/decisions/run")),
    ("auto-scaler", _request("GET", "/decisions")),
    ("notification", _request("GET", "/health")),
    ("notification", _request("GET", "/templates")),
    ("notification", _request("POST", "/notifications/email", _EMAIL)),
    ("notification", _request("POST", "/notifications/email", {**_EMAIL, "template": "none"})),
    ("notification", _request("POST", "/notifications/broadcast", {**_EMAIL, "to": ["a@b.co"]})),
    ("notification", _request("GET", "/notifications/stats")),
    ("notification", _request("GET", "/notifications/0")),
    ("exchange-rates", _request("GET", "/health")),
    ("exchange-rates", _request("HEAD", "/rates")),
    ("exchange-rates", _request("GET", "/rates")),
    ("exchange-rates", _request("GET", "/rates?only=usd,chf&only=nok")),
    ("exchange-rates", _request("GET", "/rates/usd")),
    ("exchange-rates", _request("POST", "/convert", _CONVERSION)),
    ("exchange-rates", _request("POST", "/convert", {**_CONVERSION, "amount": "1"})),
    ("exchange-rates", _request("POST", "/convert", {"amount": 1})),
    ("audit-log", _request("GET", "/health")),
    ("audit-log", _request("POST", "/events", _EVENT)),
    ("audit-log", _request("POST", "/events", {**_EVENT, "actor": ""})),
    ("audit-log", _request("GET", "/events?subject=task/7")),
    ("audit-log", _request("GET", "/events/1")),
    ("audit-log", _request("GET", "/events/999")),
    ("volume-forecast", _request("GET", "/health")),
    ("volume-forecast", _request("GET", "/forecast/btc")),
    ("volume-forecast", _request("GET", "/forecast/btc?hours=x")),
    ("volume-forecast", _request("GET", "/forecast/none")),
)


def generated(document: Mapping[str, Any]) -> Iterator[Sent]:
    """Yield requests to every operation of an OpenAPI document, the same ones every time."""
    schema = schemathesis.openapi.from_dict(dict(document))
    found: list[Sent] = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)

        @given(result.ok().as_strategy())
        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def collect(case: Case[Any]) -> None:
            found.append(_sent(case))

        collect()
    yield from found


def _sent(case: Case[Any]) -> Sent:
    """Return a generated case as a request; what only identifies the generator is left out."""
    base = "http://service"
    given = case.as_transport_kwargs(base_url=base)
    own = ("User-Agent", "Connection", "X-Schemathesis-TestCaseId")
    headers = {name: text for name, text in given["headers"].items() if name not in own}
    options: dict[str, Any] = {"params": given.get("params")}
    if "json" in given:
        options["json"] = given["json"]
    if "data" in given:
        options["content" if isinstance(given["data"], bytes) else "data"] = given["data"]
    return Sent(given["method"], given["url"].removeprefix(base), {**options, "headers": headers})
