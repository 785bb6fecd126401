"""Write ``docs/pull-request.md``: what ``--pr`` opens for the sample repository.

Run: python -m tests.publish.render [OPTIONS]. It is the real scenario: a clone, commits, a push to
a git server, and a pull request on a GitHub on loopback that keeps to GitHub's own description.
With --sizes build the images are built, on the stand-ins of tests/bases.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bases.available import volumes_for_pip
from tests.publish.contract import contract
from tests.publish.github_api import Account, Pull
from tests.publish.github_server import GitHubServer
from tests.publish.target import TOKEN

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PAGE = CHECKOUT / "docs" / "pull-request.md"
HEAD = """\
# What a pull request looks like

    GITHUB_TOKEN=… mega-optimize fixtures/sample_repo --pr{options}

analyses the commit that is checked out in a clone of its own, and opens or updates one pull
request: a commit for each rule, on a branch that the next run comes back to. The token needs
`contents: write` and `pull-requests: write`; without push permission a fork is used. Closed by a
person, it stays closed until it would change something else; a branch with commits by people is
left alone. `--draft`, `--signoff`, `--base BRANCH`, `--remote NAME` and `--group NAME` do what
they say; `GIT_AUTHOR_NAME` and `GIT_AUTHOR_EMAIL` say who the commits are by.

Below is its body for the sample repository, as `python -m tests.publish.render{options}` writes
it: real commits, a real push, and a GitHub on loopback that keeps to GitHub's published API
description.{bases}

Title: **{title}**. Branch: `{branch}`.

---

"""
BASES = """ The images stand on Debian packages under the names of the Python images
(`tests/bases/stand_in.py`), whose sizes are not those of the real ones."""
DATE = "2026-11-23T10:00:00Z"


def main() -> None:
    """Open the pull request and write its body to the page."""
    with tempfile.TemporaryDirectory() as folder:
        pull = opened(Path(folder), sys.argv[1:])
    head = HEAD.format(
        title=pull.title,
        branch=pull.head.partition(":")[2],
        bases=BASES if "build" in sys.argv[1:] else "",
        options="".join(f" {option}" for option in sys.argv[1:]),
    )
    PAGE.write_text(f"{head}{pull.body}\n", "utf-8")


def opened(folder: Path, options: list[str]) -> Pull:
    """Return the pull request that ``--pr`` opens for the sample repository below ``folder``."""
    (folder / "github").mkdir()
    root = folder / "sample_repo"
    shutil.copytree(CHECKOUT / "fixtures" / "sample_repo", root)
    with GitHubServer(folder / "github", contract()) as github:
        bare = github.add_repository("acme/sample_repo")
        github.accounts[TOKEN] = Account("robot", pushes={"acme/sample_repo"})
        environment = {key: value for key, value in os.environ.items() if key[:4] != "GIT_"} | {
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_SERVER_URL": github.url,
            "MEGA_OPTIMIZE_BUILD_VOLUMES": volumes_for_pip() if "build" in options else "",
            "GIT_AUTHOR_DATE": DATE,
            "GIT_COMMITTER_DATE": DATE,
        }
        git = ["git", "-C", str(root), "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        for command in (
            [*git, "init", "-q", "-b", "main"],
            [*git, "add", "--all"],
            [*git, "commit", "-q", "--no-verify", "--no-gpg-sign", "-m", "Sample repository"],
            [*git, "remote", "add", "origin", f"{github.url}/acme/sample_repo.git"],
            [*git, "push", "-q", str(bare.path), "main"],
            [sys.executable, "-m", "mega_optimizer", str(root), "--pr", *options],
        ):
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        assert github.violations == []
        return github.pulls[0]


if __name__ == "__main__":
    main()
