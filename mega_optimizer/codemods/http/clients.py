"""HTTP clients that keep connections: how they are made, and what is fixed when they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.repository.python import Call


@dataclass(frozen=True, slots=True)
class Client:
    """A class of clients. ``cookies`` is the argument that says what becomes of cookies."""

    package: str
    name: str
    is_async: bool
    cookies: str
    names: tuple[str, ...]
    follows_redirects: bool = False


HTTPX_ASYNC = Client("httpx", "AsyncClient", True, "cookies", ("httpx.AsyncClient",))
HTTPX = Client("httpx", "Client", False, "cookies", ("httpx.Client",))
AIOHTTP = Client(
    "aiohttp",
    "ClientSession",
    True,
    "cookie_jar",
    ("aiohttp.ClientSession", "aiohttp.client.ClientSession"),
    follows_redirects=True,  # https://docs.aiohttp.org/en/stable/client_reference.html
)
CLIENTS = (HTTPX_ASYNC, HTTPX, AIOHTTP)
# What makes values for the arguments of clients, the same each time.
PURE = frozenset(
    {
        "httpx.Timeout", "httpx.Limits", "httpx.BasicAuth", "httpx.Headers", "httpx.URL",
        "httpx.AsyncHTTPTransport", "httpx.HTTPTransport", "aiohttp.ClientTimeout",
        "aiohttp.TCPConnector", "aiohttp.BasicAuth", "ssl.create_default_context",
        "httpx.create_ssl_context",
    }
)  # fmt: skip
# Methods that send a request, or say something about the client, and leave it as it is.
REQUESTS = frozenset(
    {"get", "post", "put", "patch", "delete", "head", "options", "request", "send", "stream"}
)
HARMLESS = REQUESTS | {"build_request", "ws_connect", "is_closed", "closed"}


def client_of(call: Call) -> Client | None:
    """Return the class of clients of which ``call`` makes one."""
    return next((each for each in CLIENTS if call.name in each.names), None)
