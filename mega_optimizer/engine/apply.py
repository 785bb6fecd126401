"""Write a plan to the working tree: every file of it, or none."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mega_optimizer.errors import ApplyError
from mega_optimizer.repository.files import UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from mega_optimizer.repository.guard import Guard

# What a checkout gives to a new file before the umask.
NEW_FILE_MODE = 0o666


def apply_changes(guard: Guard, changes: Mapping[str, tuple[bytes | None, bytes]]) -> None:
    """Replace each path of ``changes`` (content before, content after) below ``guard.root``.

    All new contents are written beside their targets and synced first; the replacing itself is
    not interrupted by signals and is undone if it fails half-way. Raises :class:`ApplyError`
    with the working tree as it was, also where a file no longer holds what was planned upon.
    """
    staged: dict[str, tuple[Path, Path]] = {}
    try:
        for path, (before, after) in changes.items():
            target = _unchanged_target(guard, path, before)
            staged[path] = (_write_beside(target, after), target)
        with _signals_held():
            _replace_all(staged, changes)
    except OSError as error:
        raise ApplyError(f"nothing was written: {error.strerror or error}") from error
    finally:
        for temporary, _ in staged.values():
            with suppress(FileNotFoundError):
                temporary.unlink()


def _unchanged_target(guard: Guard, path: str, before: bytes | None) -> Path:
    try:
        target = guard.resolve_for_writing(path)
        now = guard.read(path) if target.exists() else None
    except UnreadableFile as error:
        raise ApplyError(f"nothing was written: {error}") from error
    if now != before:
        raise ApplyError(f"nothing was written: {path} changed while the plan was made; run again")
    return target


def _write_beside(target: Path, content: bytes) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = target.parent / name
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            _liken(temporary, target.stat())
        else:
            temporary.chmod(_new_mode())
    except BaseException:
        temporary.unlink()
        raise
    return temporary


def _liken(temporary: Path, replaced: os.stat_result) -> None:
    """Give the file the owner, where that is allowed, and the mode of the one that it replaces."""
    if (replaced.st_uid, replaced.st_gid) != (os.geteuid(), os.getegid()):
        with suppress(PermissionError):
            os.chown(temporary, replaced.st_uid, replaced.st_gid)
    temporary.chmod(stat.S_IMODE(replaced.st_mode))


def _new_mode() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return NEW_FILE_MODE & ~umask


def _replace_all(
    staged: Mapping[str, tuple[Path, Path]], changes: Mapping[str, tuple[bytes | None, bytes]]
) -> None:
    replaced: list[str] = []
    try:
        for path, (temporary, target) in staged.items():
            temporary.replace(target)
            replaced.append(path)
    except OSError:
        for path in replaced:
            _put_back(staged[path][1], changes[path][0])
        raise


def _put_back(target: Path, before: bytes | None) -> None:
    if before is None:
        target.unlink()
    else:
        _write_beside(target, before).replace(target)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back Ctrl-C and termination until the block is left, then let them act."""
    arrived: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        former = {number: signal.signal(number, remember) for number in numbers}
    except ValueError:  # not the main thread: signals do not arrive here
        yield
        return
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
