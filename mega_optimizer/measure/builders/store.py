"""A private image store: what is built there touches nothing of the user's, and goes as a whole.

The images of the user's own store are visible in it, read-only, so that bases need no download.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mega_optimizer.measure.builders.process import answer, clean_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"mega-optimize-(\d+)-\w+")


class PrivateStore:
    """A store of ``program`` (buildah or podman) in a folder beside the user's own store.

    Where the user names a folder to keep, it lies there, and what was built stays in it: the next
    run finds the layers. One run at a time uses it; others wait.
    """

    def __init__(self, program: str, kept: Path | None = None) -> None:
        about = json.loads(answer([program, "info", *_JSON[program]]))
        store = {key.lower(): value for key, value in about["store"].items()}
        theirs = Path(store["graphroot"])
        # podman refuses a path of more than 50 characters for what lives as long as the run.
        temporary = Path(tempfile.gettempdir())
        _remove_abandoned(theirs.parent)
        _remove_abandoned(temporary)
        prefix = f"mega-optimize-{os.getpid()}-"
        self.folder = kept or Path(tempfile.mkdtemp(prefix=prefix, dir=theirs.parent))
        self._lock = _locked(self.folder) if kept else None
        self._running = Path(tempfile.mkdtemp(prefix=prefix, dir=temporary))
        # What the program writes on its way is here too: a killed one leaves gigabytes behind.
        self._scratch = self.folder / "scratch"
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        driver = store["graphdrivername"]
        self.command: Sequence[str] = (
            *("env", f"TMPDIR={self._scratch}", program),
            *("--root", str(self.folder / "root"), "--runroot", str(self._running)),
            *("--storage-driver", driver, "--storage-opt", f"{driver}.imagestore={theirs}"),
        )

    def remove(self) -> None:
        """Remove everything that is in the store, and the store; of a kept one, what ran."""
        _unmount_below(self.folder)
        shutil.rmtree(self._scratch, ignore_errors=True)
        if self._lock is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        _remove(self._running)
        if self._lock is not None:
            self._lock.close()


_JSON = {"buildah": (), "podman": ("--format", "json")}


def _locked(folder: Path) -> IO[str]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _remove_abandoned(parent: Path) -> None:
    """Remove the stores of runs that were killed before they could do so themselves."""
    for folder in parent.glob("mega-optimize-*"):
        found = _NAME.fullmatch(folder.name)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            _remove(folder)


def _remove(folder: Path) -> None:
    _unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _unmount_below(folder: Path) -> None:
    mounts = [
        line.split(" ")[4].replace("\\040", " ")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    inside = sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True)
    for mount in inside:
        subprocess.run(
            ["umount", "--lazy", mount], env=clean_environment(), capture_output=True, check=False
        )
