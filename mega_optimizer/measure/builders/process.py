"""Run a builder: with a clean environment, a log, limits, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mega_optimizer.errors import UserError
from mega_optimizer.measure.builders.model import Ran

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

    from mega_optimizer.measure.builders.model import Limits

# All that a builder may see of the environment: no token and no credential is among them.
_INHERITED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "TZ"),
        *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH"),
        *("DOCKER_TLS_VERIFY", "CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF"),
        *("CONTAINERS_STORAGE_CONF", "REGISTRY_AUTH_FILE"),
    }
)
_WATCH_SECONDS = 0.2
# What is kept of the output of a command, from its end.
_OUTPUT_BYTES = 1 << 20
_KILLED_BY = (signal.SIGTERM, signal.SIGHUP)


class BuilderError(UserError):
    """A builder that does not do what it is asked."""

    exit_status = 3


def clean_environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a builder may see of the environment ``given`` (this process's own)."""
    environment = os.environ if given is None else given
    kept = {name: value for name, value in environment.items() if name in _INHERITED}
    return {**kept, "LC_ALL": "C", "BUILDAH_ISOLATION": "chroot", "DOCKER_BUILDKIT": "1"}


@contextmanager
def tidying_when_killed() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _KILLED_BY}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def answer(command: Sequence[str], seconds: float = 120) -> str:
    """Return what ``command`` prints to stdout; raise :class:`BuilderError` where it fails."""
    try:
        done = subprocess.run(
            command,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuilderError(f"{_program(command)} does not answer: {error}") from error
    if done.returncode:
        told = last_line(done.stderr.decode(errors="replace"))
        raise BuilderError(f"{_program(command)}: {told}")
    return done.stdout.decode(errors="replace")


def _program(command: Sequence[str]) -> str:
    """Return the program that a command runs, in an environment that it may change first."""
    return next(word for word in command if word != "env" and "=" not in word)


def run_watched(command: Sequence[str], log: Path, limits: Limits, disk: Path) -> str | None:
    """Run ``command`` with its output in ``log``; return what went wrong, else None.

    ``disk`` is a folder on the disk whose free space is watched. However this is left, no process
    of the command's group lives on.
    """
    deadline = time.monotonic() + limits.seconds
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while True:
                try:
                    status = process.wait(_WATCH_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if time.monotonic() > deadline:
                        return f"time limit of {limits.seconds:.0f} s reached"
                    if shutil.disk_usage(disk).free < limits.free_bytes:
                        return f"disk limit reached: less than {limits.free_bytes:,} bytes free"
        finally:
            kill_group(process)
    return last_line(tail(log)) if status else None


def run_bounded(command: Sequence[str], output: Path, seconds: float, given: str = "") -> Ran:
    """Run ``command`` for at most ``seconds``, with ``given`` as its input; its group ends then."""
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.communicate(given.encode(), timeout=seconds)
            status: int | None = process.returncode
        except subprocess.TimeoutExpired:
            status = None
        finally:
            kill_group(process)
    return Ran(status, tail(output))


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group that ``process`` leads, and wait for the process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tail(path: Path) -> str:
    """Return the end of a log as text."""
    with path.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _OUTPUT_BYTES))
        return stream.read().decode(errors="replace")


def last_line(text: str) -> str:
    """Return the last line of ``text`` that says something, cut to a length that can be shown."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[-1] if lines else "it said nothing"
    printable = "".join(each if each.isprintable() else " " for each in line)
    return printable if len(printable) <= 300 else f"{printable[:300]}…"
