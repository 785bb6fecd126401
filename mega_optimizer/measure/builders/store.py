"""A private image store: what is built there touches nothing of the user's, and goes as a whole.

The images of the user's own store are visible in it, read-only, so that bases need no download.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mega_optimizer.measure.builders.process import answer, clean_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME = re.compile(r"mega-optimize-(\d+)-\w+")


class PrivateStore:
    """A store of ``program`` (buildah or podman) in a folder beside the user's own store."""

    def __init__(self, program: str) -> None:
        about = json.loads(answer([program, "info", *_JSON[program]]))
        store = {key.lower(): value for key, value in about["store"].items()}
        theirs = Path(store["graphroot"])
        # podman refuses a path of more than 50 characters for what lives as long as the run.
        temporary = Path(tempfile.gettempdir())
        _remove_abandoned(theirs.parent)
        _remove_abandoned(temporary)
        prefix = f"mega-optimize-{os.getpid()}-"
        self.folder = Path(tempfile.mkdtemp(prefix=prefix, dir=theirs.parent))
        self._running = Path(tempfile.mkdtemp(prefix=prefix, dir=temporary))
        driver = store["graphdrivername"]
        self.options: Sequence[str] = (
            *("--root", str(self.folder / "root"), "--runroot", str(self._running)),
            *("--storage-driver", driver, "--storage-opt", f"{driver}.imagestore={theirs}"),
        )

    def remove(self) -> None:
        """Remove everything that is in the store, and the store."""
        _remove(self.folder)
        _remove(self._running)


_JSON = {"buildah": (), "podman": ("--format", "json")}


def _remove_abandoned(parent: Path) -> None:
    """Remove the stores of runs that were killed before they could do so themselves."""
    for folder in parent.glob("mega-optimize-*"):
        found = _NAME.fullmatch(folder.name)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            _remove(folder)


def _remove(folder: Path) -> None:
    mounts = [
        line.split(" ")[4].replace("\\040", " ")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    inside = sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True)
    for mount in inside:
        subprocess.run(
            ["umount", "--lazy", mount], env=clean_environment(), capture_output=True, check=False
        )
    shutil.rmtree(folder, ignore_errors=True)
