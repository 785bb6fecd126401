"""Answers of the package index, kept between runs: solutions for a day, failures for minutes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import get_ident
from time import time
from typing import TYPE_CHECKING

from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

FAILURE_S = 900.0  # an index that does not answer, or a name that it lacks, may be there again


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers in ``folder``; None keeps none. What is damaged there counts as not kept."""

    folder: Path | None
    today: date
    now: Callable[[], float] = time

    def read(self, key: str) -> str | Problem | None:
        """Return what was kept for ``key``, None where nothing that still holds was."""
        if self.folder is None:
            return None
        try:
            content = (self.folder / self.today.isoformat() / key).read_bytes()
        except OSError:
            return None
        digest, _, kept = content.partition(b"\n")
        if digest != _digest(kept):
            return None
        kind, _, text = kept.decode("utf-8", "replace").partition("\n")
        if kind == "solution":
            return text
        failure = json.loads(text)
        # a clock that was set back must not keep a failure for longer
        if not 0 < failure["until"] - self.now() <= FAILURE_S:
            return None
        return Problem("", failure["code"], failure["message"])

    def keep(self, key: str, answer: str | Problem) -> None:
        """Keep an answer; what was kept on other days goes."""
        if self.folder is None:
            return
        if isinstance(answer, Problem):
            until = self.now() + FAILURE_S
            failure = {"code": answer.code, "message": answer.message, "until": until}
            kept = f"failure\n{json.dumps(failure)}".encode()
        else:
            kept = f"solution\n{answer}".encode()
        try:
            _store(self.folder / self.today.isoformat() / key, _digest(kept) + b"\n" + kept)
        except OSError:
            return  # a cache that cannot be written is no reason to stop


def _digest(kept: bytes) -> bytes:
    return blake2b(kept, digest_size=16).hexdigest().encode()


def _store(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.parent.iterdir():
        if other != path.parent and other.is_dir():
            shutil.rmtree(other, ignore_errors=True)
    partial = path.with_suffix(f".{os.getpid()}-{get_ident()}")
    partial.write_bytes(content)
    partial.replace(path)
