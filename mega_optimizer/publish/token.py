"""The forge token: taken out of the environment once, and shown by nothing."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from mega_optimizer.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

TOKEN_NAMES = ("GITHUB_TOKEN", "GH_TOKEN")


class Token:
    """A secret that no traceback, log line or dump of an object shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Token(…)"

    @property
    def bearer(self) -> str:
        """The value of the Authorization header for the forge's API."""
        return f"Bearer {self._value}"

    @property
    def basic(self) -> str:
        """The value of the Authorization header for git (RFC 7617; any user name will do)."""
        pair = f"x-access-token:{self._value}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    @property
    def is_of_an_installation(self) -> bool:
        """Whether a GitHub App holds it, as ``GITHUB_TOKEN`` in Actions: what a person may do
        says nothing about it.
        """
        return self._value.startswith("ghs_")

    def removed_from(self, text: str) -> str:
        """Return ``text`` without the token, as it is or as git sends it."""
        return text.replace(self.basic.removeprefix("Basic "), "…").replace(self._value, "…")


def take_token(environment: MutableMapping[str, str]) -> Token:
    """Remove the token from ``environment``, so that no child inherits it, and return it.

    Raises :class:`PublishError` where there is none, or it cannot be sent in a header.
    """
    found = [environment.pop(name, "").strip() for name in TOKEN_NAMES]
    value = next((each for each in found if each), None)
    if value is None:
        raise PublishError("--pr needs a token: set GITHUB_TOKEN (or GH_TOKEN) in the environment")
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise PublishError("the token in the environment holds characters that no token has")
    return Token(value)
