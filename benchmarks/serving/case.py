"""What a measurement needs to know: one rule, one service, the requests that are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; ``body`` is sent as JSON."""

    path: str
    method: str = "GET"
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Service:
    """A service that can be started.

    ``source`` is a folder of the sample repository, or an example of a rule
    (``rules/…/examples/….txtar``), whose ``command`` and ``packages`` it then needs. Values of
    ``environment`` may name ``{port}``, ``{postgres}``, ``{redis_port}`` and ``{upstream}``.
    ``prepare`` are commands before the first start; SQL is run before them (``schema``, a file of
    the sample) and after them (``rows``). With ``rows`` each side has a database of its own, in
    which it makes the tables that its models describe.
    """

    source: str
    health: str
    port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    packages: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    schema: str = ""
    rows: str = ""

    @property
    def name(self) -> str:
        """The service's name; an example is called by its rule and its own name."""
        if not self.source.endswith(".txtar"):
            return self.source
        category, rule, _, example = self.source.split("/")[1:]
        return f"example {example.removesuffix('.txtar')} of {category}/{rule},"


@dataclass(frozen=True, slots=True)
class Case:
    """One rule on one service under one kind of request.

    ``given`` names rules that are applied on both sides, so that what they win does not hide what
    is measured. ``seed`` is sent to the service before, each request ``seeds`` times. ``varies``
    names keys of the answer that differ from call to call. ``delay`` is the time in milliseconds
    that the upstream takes for an answer, ``seconds`` the length of one run: longer where an answer
    is slow. ``beside`` is what runs beside the service afterwards, a worker; its CPU and memory are
    not counted.
    """

    rule: str
    service: Service
    load: Request
    what: str
    given: tuple[str, ...] = ()
    seed: tuple[Request, ...] = ()
    seeds: int = 1
    connections: int = 16
    seconds: float = 2
    delay: int = 0
    varies: tuple[str, ...] = ()
    beside: str = ""
