"""``git push`` over smart HTTP: the one child process that gets the token, in its environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mega_optimizer.errors import PublishError
from mega_optimizer.publish.clone import last_line

if TYPE_CHECKING:
    from mega_optimizer.publish.clone import Clone
    from mega_optimizer.publish.token import Token

# A transfer below 1 kB/s for a minute is given up.
_SLOWEST_BYTES, _SLOWEST_SECONDS = 1000, 60

_REASONS = (
    (
        r"could not read Username|Authentication failed|error: 401",
        "the token was not accepted: set GITHUB_TOKEN or GH_TOKEN to one that is valid",
    ),
    (
        r"error: 403|Permission to .* denied|[Ww]rite access",
        "the token may not push: it needs contents: write",
    ),
    (
        r"stale info|fetch first|non-fast-forward",
        "the branch changed meanwhile: run again",
    ),
)


def push(clone: Clone, url: str, token: Token, branch: str, commit: str, expected: str) -> None:
    """Push ``commit`` to ``branch`` of the repository at ``url``.

    The branch must still be at ``expected`` there (``""``: must not exist), else nothing is
    overwritten. Raises :class:`PublishError` with the reason, without the token.
    """
    from git.exc import GitCommandError

    command = [
        "git",
        "push",
        "--porcelain",
        "--no-verify",
        "--recurse-submodules=no",
        f"--force-with-lease=refs/heads/{branch}:{expected}",
        url,
        f"{commit}:refs/heads/{branch}",
    ]
    try:
        with clone.git.custom_environment(**_settings(url, token)):
            clone.git.execute(command)
    except GitCommandError as error:
        told = token.removed_from(f"{error.stdout}\n{error.stderr}")
        raise PublishError(f"{branch} could not be pushed to {url}: {_reason(told)}") from None


def _settings(url: str, token: Token) -> dict[str, str]:
    """Return git's settings as environment variables, which no process list shows."""
    parts = urlsplit(url)
    settings = {
        f"http.{parts.scheme}://{parts.netloc}/.extraHeader": f"Authorization: {token.basic}",
        "http.followRedirects": "false",  # the header would go along
        "http.lowSpeedLimit": str(_SLOWEST_BYTES),
        "http.lowSpeedTime": str(_SLOWEST_SECONDS),
        "push.negotiate": "true",
    }
    environment = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return environment


def _reason(told: str) -> str:
    for pattern, reason in _REASONS:
        if re.search(pattern, told):
            return reason
    return last_line(told)
