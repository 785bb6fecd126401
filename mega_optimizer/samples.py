"""Sample inputs: requests that the configuration of a target names for its services.

They are data: they are sent to what a run starts in any case, and never start anything.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, cast

from mega_optimizer.errors import ConfigurationError

Method = Literal["GET", "POST", "PUT"]
METHODS = ("GET", "POST", "PUT")
AT_MOST = 20
BODY_BYTES = 64_000  # a body is passed as one argument of a command, which holds 128 KiB
_PATH = re.compile(r"/[!-~]{0,2000}")
_KEYS = frozenset({"service", "method", "path", "json"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One request to a service; ``body`` is its JSON, None for none."""

    service: str
    method: Method
    path: str
    body: str | None = None

    def __str__(self) -> str:
        """Return the request as a few words."""
        return f"{self.method} {self.path}"


def samples_from(given: object, where: str) -> tuple[Sample, ...]:
    """Return the samples that a configuration names; raise :class:`ConfigurationError`."""
    if not isinstance(given, list):
        raise ConfigurationError(f"{where} must be a list of requests")
    samples = tuple(_sample(each, f"{where}[{at}]") for at, each in enumerate(given))
    if len(samples) > AT_MOST:
        raise ConfigurationError(f"{where} may name {AT_MOST} requests at most")
    return samples


def _sample(given: object, where: str) -> Sample:
    if not isinstance(given, dict) or not set(given) <= _KEYS:
        raise ConfigurationError(f"{where} may have {', '.join(sorted(_KEYS))}, and nothing else")
    service, path = given.get("service"), given.get("path")
    if not isinstance(service, str):
        raise ConfigurationError(f"{where}: service must be the name of a service")
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise ConfigurationError(f"{where}: path must be that of a URL, and begin with /")
    method = given.get("method", "POST" if "json" in given else "GET")
    if method not in METHODS:
        raise ConfigurationError(f"{where}: method must be one of {', '.join(METHODS)}")
    if method == "GET" and "json" in given:
        raise ConfigurationError(f"{where}: GET takes no json")
    body = _body(given["json"], where) if "json" in given else None
    return Sample(service, cast("Method", method), path, body)


def _body(given: object, where: str) -> str:
    try:
        body = json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where}: json holds what JSON does not: {error}") from error
    if len(body) > BODY_BYTES:
        raise ConfigurationError(f"{where}: json may have {BODY_BYTES:,} bytes at most")
    return body
