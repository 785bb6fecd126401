"""Requests to a forge's API: its limits are honoured, and no message holds the token.

GitHub asks for a second between writes; for ``Retry-After`` and ``x-ratelimit-reset`` to be waited
for; and else for a minute or more, growing, after a 403 or 429 that is a limit ("Best practices
for using the REST API", docs.github.com).
"""

from __future__ import annotations

import email.utils
from typing import TYPE_CHECKING, Any

import httpx

from mega_optimizer import __version__
from mega_optimizer.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mega_optimizer.publish.clock import Clock
    from mega_optimizer.publish.token import Token

Json = dict[str, Any]

SECONDS_BETWEEN_WRITES = 1.0
FIRST_WAIT_WITHOUT_ADVICE_S = 60.0
# A primary limit is over within an hour; longer than that nobody waits in one run.
LONGEST_WAIT_S = 3660.0
TRIES = 6
TIMEOUT_S = 30.0
UNAVAILABLE = frozenset({500, 502, 503, 504})


class Refusal(PublishError):
    """The forge answered with an error. ``status`` is that of HTTP, ``said`` its own words."""

    def __init__(self, status: int, said: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.said = said


class Api:
    """A connection to the API at ``base``. Requests go out one after another."""

    def __init__(self, base: str, token: Token, clock: Clock, tell: Callable[[str], None]) -> None:
        self._token = token
        self._clock = clock
        self._tell = tell
        self._last_write = float("-inf")
        self._client = httpx.Client(
            base_url=base,
            timeout=TIMEOUT_S,
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": token.bearer,
                "User-Agent": f"mega-optimize/{__version__}",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )

    def get(self, path: str, **parameters: str) -> Json | None:
        """Return the answer to a GET; None for 404. Raises :class:`Refusal`, ``PublishError``."""
        response = self._answer("GET", path, parameters=parameters)
        return None if response.status_code == 404 else _object(self._content(response), response)

    def pages(self, path: str, **parameters: str) -> Iterator[Json]:
        """Yield the items of a list that comes in pages."""
        url: str | None = path
        while url:
            response = self._answer("GET", url, parameters=parameters)
            items = self._content(response)
            for item in items if isinstance(items, list) else [items]:
                yield _object(item, response)
            url, parameters = response.links.get("next", {}).get("url"), {}
            if url and httpx.URL(url).host != self._client.base_url.host:
                raise PublishError("the forge names another host for the next page")

    def write(self, method: str, path: str, content: Json) -> Json:
        """Return the answer to a POST or PATCH, sent at least a second after the one before."""
        pause = self._last_write + SECONDS_BETWEEN_WRITES - self._clock.now()
        if pause > 0:
            self._clock.sleep(pause)
        try:
            response = self._answer(method, path, content=content)
        finally:
            self._last_write = self._clock.now()
        return _object(self._content(response), response)

    def _answer(
        self,
        method: str,
        path: str,
        parameters: dict[str, str] | None = None,
        content: Json | None = None,
    ) -> httpx.Response:
        request = self._client.build_request(method, path, params=parameters or None, json=content)
        waited = 0.0
        for attempt in range(TRIES):
            response = self._sent(request, is_last=attempt == TRIES - 1)
            wait = 2.0**attempt if response is None else self._wait(response, method, attempt)
            if response is not None and wait is None:
                return response
            wait = wait or 0.0
            waited += wait
            if waited > LONGEST_WAIT_S or attempt == TRIES - 1:
                break
            if wait >= FIRST_WAIT_WITHOUT_ADVICE_S:
                self._tell(f"the forge limits requests: waiting {wait:.0f} s")
            self._clock.sleep(wait)
        raise PublishError("the forge limits requests or is unavailable: try again later")

    def _sent(self, request: httpx.Request, is_last: bool) -> httpx.Response | None:
        """Send a request; return None if it did not get through, but may be sent again."""
        try:
            # httpx leaves the token out where a redirect leads to another host.
            return self._client.send(request, follow_redirects=request.method == "GET")
        except httpx.TransportError as error:
            if is_last or request.method == "POST":
                why = self._token.removed_from(str(error) or type(error).__name__)
                raise PublishError(f"{request.url.host} cannot be reached: {why}") from None
            return None

    def _wait(self, response: httpx.Response, method: str, attempt: int) -> float | None:
        """Return the seconds after which to ask again; None: this is the answer."""
        if response.status_code in UNAVAILABLE and method != "POST":
            return 2.0**attempt
        if not _is_a_limit(response):
            return None
        advice = response.headers.get("retry-after", "")
        if advice.isdigit():
            return float(advice)
        if advice and (date := email.utils.parsedate_tz(advice)):
            return max(1.0, email.utils.mktime_tz(date) - self._clock.now())
        reset = response.headers.get("x-ratelimit-reset", "")
        if response.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
            return max(1.0, float(reset) - self._clock.now() + 1)
        return float(FIRST_WAIT_WITHOUT_ADVICE_S * 2**attempt)

    def _content(self, response: httpx.Response) -> object:
        content = _json(response)
        if response.is_success:
            return content
        said = self._token.removed_from(_said(content))
        if response.status_code == 401:
            message = (
                "the token was not accepted: set GITHUB_TOKEN or GH_TOKEN to one that is valid"
            )
        else:
            message = f"{response.url.host} answers {response.status_code}: {said}"
        raise Refusal(response.status_code, said, message)


def _is_a_limit(response: httpx.Response) -> bool:
    """Whether a refusal passes with time: 403 also means a permission that is missing."""
    if response.status_code == 429:
        return True
    if response.status_code != 403:
        return False
    headers = response.headers
    return (
        "retry-after" in headers
        or headers.get("x-ratelimit-remaining") == "0"
        or any(word in _said(_json(response)).lower() for word in ("rate limit", "abuse"))
    )


def _json(response: httpx.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return None


def _object(content: object, response: httpx.Response) -> Json:
    if not isinstance(content, dict):
        raise PublishError(f"{response.url.host} does not answer as a forge does")
    return content


def _said(content: object) -> str:
    """Return GitHub's words on what is wrong, on one line."""
    if not isinstance(content, dict):
        return "no reason was given"
    told = [content.get("message", "no reason was given")]
    told += [
        each.get("message", each.get("code")) if isinstance(each, dict) else each
        for each in content.get("errors") or ()
    ]
    return " ".join("; ".join(str(each) for each in told).split())[:300]
