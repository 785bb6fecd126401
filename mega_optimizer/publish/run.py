"""``mega-optimize --pr``: analyse a clone of the commit, then show the plan on the forge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.errors import PublishError
from mega_optimizer.publish.clock import SystemClock
from mega_optimizer.publish.clone import clone_of
from mega_optimizer.publish.identity import check_signoff, find_identity, take_git_variables
from mega_optimizer.publish.remote import find_remote
from mega_optimizer.publish.token import take_token
from mega_optimizer.repository.git_index import find_checkout

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path

    from mega_optimizer.pipeline import Result
    from mega_optimizer.publish.clock import Clock
    from mega_optimizer.publish.wishes import Wishes


def run_and_publish(
    root: Path,
    analyse: Callable[[Path], Result],
    wishes: Wishes,
    remote_name: str,
    environment: MutableMapping[str, str],
    tell: Callable[[str], None],
    clock: Clock | None = None,
) -> Result:
    """Run ``analyse`` on a clone of the checkout around ``root`` and publish what it plans.

    ``environment`` (that of the process) loses the token and git's variables first, so that no
    child but ``git push`` has them. ``tell`` gets messages for the user. Raises
    :class:`PublishError`, and what ``analyse`` raises.
    """
    token = take_token(environment)
    identity = find_identity(take_git_variables(environment), environment)
    if wishes.signoff:
        check_signoff(identity)
    checkout = find_checkout(root)
    if checkout is None:
        raise PublishError(f"{root} is not a git checkout: --pr needs one")
    remote = find_remote(checkout.common_folder, remote_name, environment)
    with clone_of(checkout, root) as clone:
        result = analyse(clone.root)
        # These load httpx and jinja2, which a plan does not need.
        from mega_optimizer.publish.github import GitHub
        from mega_optimizer.publish.scenario import publish

        forge = GitHub(remote, token, clock or SystemClock(), tell)
        result.pull_request = publish(result, clone, forge, token, identity, wishes)
    return result
