"""A repository of our own at the commit that is analysed, made without asking the target's git.

It borrows the target's objects (as ``git clone --shared`` does), so that nothing is copied, no
configuration of the target is read, and a shallow checkout serves as well. Uncommitted changes of
the working tree are not in it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mega_optimizer.errors import PublishError
from mega_optimizer.repository.git_index import git_program, git_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git import Git

    from mega_optimizer.repository.git_index import Checkout

# Nothing outside the clone tells git what to do: no hook, no filter, no helper, no signing.
CONFIGURATION = f"""\
[core]
	hooksPath = {os.devnull}
	fsmonitor = false
	attributesFile = {os.devnull}
	excludesFile = {os.devnull}
	quotePath = false
[gc]
	auto = 0
[maintenance]
	auto = false
"""


@dataclass(frozen=True, slots=True)
class Clone:
    """Our repository: its working tree ``top``, the analysed folder ``root``, commit and git."""

    top: Path
    root: Path
    commit: str
    git: Git

    def run(self, *arguments: str) -> str:
        """Return what ``git ARGUMENTS`` prints; raise :class:`PublishError` if it fails."""
        from git.exc import GitCommandError

        try:
            return str(self.git.execute(["git", *arguments], strip_newline_in_stdout=True))
        except GitCommandError as error:
            raise PublishError(f"git {arguments[0]} failed: {last_line(error.stderr)}") from None


@contextmanager
def clone_of(checkout: Checkout, root: Path) -> Iterator[Clone]:
    """Give a clone of the commit that ``checkout`` is at, with ``root`` in it, then remove it.

    ``os.environ`` must hold no ``GIT_*`` variable that leads git astray: GitPython hands it on.
    Raises :class:`PublishError` where there is no commit, or its files cannot be had.
    """
    state = git_state(checkout.top)
    if state is None or state.commit is None:
        raise PublishError(f"{checkout.top} has no commit that a pull request could build upon")
    folder = tempfile.mkdtemp(prefix="mega-optimize-pr-")
    try:
        yield _cloned(checkout, root, state.commit, Path(os.path.realpath(folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _cloned(checkout: Checkout, root: Path, commit: str, folder: Path) -> Clone:
    from git import Git

    program = git_program(checkout.top)
    if program is None:
        raise PublishError("git is not installed; install git")
    top = folder / "tree" / (checkout.top.name or "repository")
    home = folder / "home"
    top.mkdir(parents=True)
    home.mkdir()
    git = Git(top)
    git.update_environment(**_environment(home, program))
    clone = Clone(top, top / root.relative_to(checkout.top), commit, git)
    hash_name = "sha256" if len(commit) == 64 else "sha1"
    clone.run("init", "--quiet", "--template=", f"--object-format={hash_name}", ".")
    with (top / ".git/config").open("a") as configuration:
        configuration.write(CONFIGURATION)
    objects = os.path.abspath(checkout.common_folder / "objects")
    (top / ".git/objects/info").mkdir(exist_ok=True)
    (top / ".git/objects/info/alternates").write_bytes(os.fsencode(objects) + b"\n")
    shallow = checkout.common_folder / "shallow"
    if shallow.is_file():
        (top / ".git/shallow").write_text(_object_ids(shallow))
    clone.run("checkout", "--quiet", "--detach", commit)
    if not clone.root.is_dir():
        raise PublishError(f"{root} is not in commit {commit[:10]}; commit it first")
    return clone


def _environment(home: Path, program: str) -> dict[str, str]:
    folders = [folder for folder in os.get_exec_path() if os.path.isabs(folder)]
    return {
        # The git that was found first, whatever lies in the tree in which it runs.
        "PATH": os.pathsep.join([os.path.dirname(program), *folders]),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }


def _object_ids(file: Path) -> str:
    found = re.findall(r"^[0-9a-f]{40,64}$", file.read_text("ascii", "replace"), re.MULTILINE)
    return "".join(f"{each}\n" for each in found)


def last_line(text: str) -> str:
    """Return the last line of what git said, which tells why it stopped."""
    # GitPython gives stderr as "\n  stderr: '…'".
    told = text.strip().removeprefix("stderr: '").removesuffix("'")
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"fatal:|error:|remote:|!", line)]
    return (errors or lines or ["no reason was given"])[-1][:300]
