"""Try an image: import the modules of its service, start it, and ask whether it answers."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mega_optimizer.measure.builders.model import NOTHING
from mega_optimizer.measure.builders.process import BuilderError, last_line
from mega_optimizer.verify.samples import ask_samples
from mega_optimizer.verify.scripts import marked, reported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mega_optimizer.measure.builders.model import ImageBuilder, Limits
    from mega_optimizer.samples import Sample
    from mega_optimizer.verify.answers import Answer

Outcome = Literal["answers", "listens", "exits", "silent"]

_ASK_SECONDS = 1.0
_LOOK_SECONDS = 0.05

# Runs in the image, on whatever Python 3 it has.
_IMPORT = marked("""
import importlib, json, sys
sys.path.insert(0, "")
found = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        found[name] = ""
    except BaseException as error:
        found[name] = (type(error).__name__ + ": " + str(error))[:300]
    sys.stdout.write("\\n%s%s\\n" % (MARK, json.dumps(found)))
    sys.stdout.flush()
import os
os._exit(0)
""")

# Finds the ports that are listened on, and asks each for the paths given.
_PROBE = marked("""
import http.client, json, sys, time
deadline = time.time() + float(sys.argv[1])
paths = sys.argv[2:]
def listening():
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = open(table).read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == "0A":
                ports.add(int(words[1].rpartition(":")[2], 16))
    return sorted(ports)
def status(port, path):
    for host in ("127.0.0.1", "::1"):
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": "localhost"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return None
found = {"ports": [], "answers": {}}
while time.time() < deadline and not found["answers"]:
    found["ports"] = listening()
    for port in found["ports"]:
        if status(port, paths[0]) is None:
            continue
        found["answers"] = {path: status(port, path) for path in paths}
        found["port"] = port
        break
    else:
        time.sleep(0.2)
sys.stdout.write("\\n%s%s\\n" % (MARK, json.dumps(found)))
""")


@dataclass(frozen=True, slots=True)
class StartUp:
    """What happened when an image ran its own command.

    ``answers`` maps paths to HTTP status; ``failure`` is the last line that it printed, without
    numbers, where it exited. ``samples`` are the answers to the samples asked.
    """

    outcome: Outcome
    answers: Mapping[str, int] = field(default_factory=lambda: {})
    failure: str = ""
    described: str = ""
    samples: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried of an image.

    ``imports`` maps the modules that were imported to what went wrong, ``""`` for nothing.
    """

    imports: Mapping[str, str]
    start: StartUp


def try_image(
    builder: ImageBuilder,
    image: str,
    modules: Sequence[str],
    environment: Mapping[str, str],
    paths: Sequence[str],
    samples: Sequence[Sample],
    limits: Limits,
) -> Trial:
    """Import ``modules`` in ``image``, start it, and ask it for ``paths`` and for ``samples``."""
    return Trial(
        imported(builder, image, modules, environment, limits.import_seconds),
        start_up(builder, image, environment, paths, samples, limits),
    )


def imported(
    builder: ImageBuilder,
    image: str,
    modules: Sequence[str],
    environment: Mapping[str, str],
    seconds: float,
) -> Mapping[str, str]:
    """Import ``modules`` one after another in ``image``; return module → error (``""``: none)."""
    if not modules:
        return NOTHING
    for interpreter in ("python", "python3"):
        command = [interpreter, "-c", _IMPORT, *modules]
        ran = builder.run(image, command, environment, seconds)
        found = reported(ran.output)
        if found is not None:
            why = "it did not end in time" if ran.status is None else "the interpreter died"
            return {name: found.get(name, why) for name in modules}
    return dict.fromkeys(modules, last_line(ran.output))


def start_up(
    builder: ImageBuilder,
    image: str,
    environment: Mapping[str, str],
    paths: Sequence[str],
    samples: Sequence[Sample],
    limits: Limits,
) -> StartUp:
    """Start ``image`` with its own command, and wait until it answers over HTTP or exits."""
    try:
        return _started_up(builder, image, environment, paths, samples, limits)
    except BuilderError as error:
        return StartUp("exits", {}, _without_numbers(str(error)), f"cannot be started: {error}")


def _started_up(
    builder: ImageBuilder,
    image: str,
    environment: Mapping[str, str],
    paths: Sequence[str],
    samples: Sequence[Sample],
    limits: Limits,
) -> StartUp:
    seconds = limits.start_seconds
    deadline = time.monotonic() + seconds
    ports: list[int] = []
    with builder.started(image, environment) as started:
        while time.monotonic() < deadline:
            status = started.status()
            if status is not None:
                said = last_line(started.output())
                return StartUp("exits", {}, _without_numbers(said), f"exits with {status}: {said}")
            arguments = [str(_ASK_SECONDS), *paths]
            ran = started.ask(_PROBE, arguments, _ASK_SECONDS + 10.0 * len(paths))
            found = reported(ran.output) or {}
            ports = found.get("ports", ports)
            answers = {path: code for path, code in found.get("answers", {}).items() if code}
            if answers:
                port = found["port"]
                asked = ask_samples(started, port, samples, limits.sample_seconds)
                return StartUp("answers", answers, "", f"answers on port {port}", asked)
            if not found:
                time.sleep(_LOOK_SECONDS)  # the probe could not even look
    if ports:
        listed = ", ".join(map(str, ports))
        return StartUp("listens", {}, listed, f"listens on port {listed} and answers no HTTP")
    return StartUp("silent", {}, "", f"runs for {seconds:.0f} s without listening on a port")


def _without_numbers(text: str) -> str:
    """Return ``text`` without what differs from run to run: addresses, times, process ids."""
    return re.sub(r"0x[0-9a-fA-F]+|\d+", "#", text)
