"""Who the commits are by, and an environment in which git does as we say."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping


@dataclass(frozen=True, slots=True)
class Identity:
    """Author and committer. ``is_a_person`` is false for the name that nobody chose."""

    name: str
    email: str
    is_a_person: bool = True

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"


# The address of the account that Actions itself commits with; ``.invalid`` is nobody's (RFC 2606).
OF_ACTIONS = Identity(
    "github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com"
)
NOBODY = Identity("Mega Optimizer", "noreply@mega-optimizer.invalid", is_a_person=False)


# Which certificates git trusts is for the machine to say, and leads it nowhere else.
KEPT = frozenset({"GIT_SSL_CAINFO", "GIT_SSL_CAPATH"})


def take_git_variables(environment: MutableMapping[str, str]) -> dict[str, str]:
    """Remove the ``GIT_*`` variables but ``KEPT`` from ``environment`` and return them.

    Hooks export the index of the target; others name commands to run or files to trace into.
    """
    names = [name for name in environment if name.startswith("GIT_") and name not in KEPT]
    return {name: environment.pop(name) for name in names}


def find_identity(git_variables: Mapping[str, str], environment: Mapping[str, str]) -> Identity:
    """Return who the commits are by.

    ``GIT_AUTHOR_NAME`` and ``GIT_AUTHOR_EMAIL`` first, then the bot of GitHub Actions where that
    runs us, then the user's own git configuration (never the target's), else a name of ours.
    """
    name, email = git_variables.get("GIT_AUTHOR_NAME"), git_variables.get("GIT_AUTHOR_EMAIL")
    if name and email:
        return Identity(name, email)
    if environment.get("GITHUB_ACTIONS") == "true":
        return OF_ACTIONS
    name, email = _global_setting("user.name"), _global_setting("user.email")
    return Identity(name, email) if name and email else NOBODY


def check_signoff(identity: Identity) -> None:
    """Raise :class:`PublishError` where nobody is there to sign off."""
    if not identity.is_a_person:
        raise PublishError("--signoff needs a name: set GIT_AUTHOR_NAME and GIT_AUTHOR_EMAIL")


def _global_setting(name: str) -> str:
    command = ["git", "config", "--global", "--includes", "--get", name]
    with tempfile.TemporaryDirectory() as elsewhere:
        try:
            done = subprocess.run(
                command, cwd=elsewhere, capture_output=True, text=True, check=False, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
    return done.stdout.strip() if done.returncode == 0 else ""
