"""Ask uv what would be installed today, without running any code of the target.

uv sees an input file of our own in a private folder, holding only requirements that an index
serves by name, and builds nothing (``--no-build``). uv does not read pip's settings, so the
indexes of the user's pip configuration are handed to it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mega_optimizer.engine.answers import Answers
from mega_optimizer.repository.dependencies.model import LockedPackage
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packaging.specifiers import SpecifierSet

    from mega_optimizer.repository.dependencies.model import Dependencies, Dependency

    Resolution = Mapping[str, LockedPackage]

PLATFORM = "x86_64-manylinux_2_28"
LIMIT_S = 30.0
# What a run waits in all for questions that get no answer, before it asks no more.
PATIENCE_S = 60.0
MESSAGE_LENGTH = 160
NO_ANSWER = frozenset({"resolver-timeout", "resolver-failed"})
UNBUILDABLE = re.compile(r"Wheels are required for `([^`]+)`")

# What a child process of ours inherits: where programs, folders, certificates and proxies are, and
# the user's own indexes. No token of a forge or a cloud is among them.
INHERITED = (
    "PATH HOME USERPROFILE APPDATA LOCALAPPDATA SYSTEMROOT TMPDIR TEMP TMP LANG LC_ALL NETRC "
    "XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME "
    "SSL_CERT_FILE SSL_CERT_DIR SSL_CLIENT_CERT REQUESTS_CA_BUNDLE CURL_CA_BUNDLE "
    "HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy "
    "UV_CACHE_DIR UV_DEFAULT_INDEX UV_INDEX UV_INDEX_URL UV_EXTRA_INDEX_URL UV_FIND_LINKS "
    "UV_NO_INDEX UV_INDEX_STRATEGY UV_HTTP_TIMEOUT UV_INSECURE_HOST UV_NATIVE_TLS "
    "UV_SYSTEM_CERTS UV_OFFLINE UV_EXCLUDE_NEWER"
)
INDEX_LOGIN = re.compile(r"UV_INDEX_\w+_(USERNAME|PASSWORD)")
PIP_SETTINGS = {
    "index-url": "UV_INDEX_URL",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What ``uv pip compile`` is asked: requirements, constraints, names to leave out, options."""

    wanted: tuple[str, ...]
    bounds: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Resolver:
    """Resolves the requirements of services; remembers the answers of this run and of this day.

    ``cache`` is the folder that keeps them between runs, None keeps none. ``options`` are further
    options of uv (an index, say). With ``offline`` nothing is asked.
    """

    def __init__(
        self,
        *,
        offline: bool = False,
        cache: Path | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        limit_s: float = LIMIT_S,
        patience_s: float = PATIENCE_S,
        today: date | None = None,
    ) -> None:
        self.offline = offline
        self.options = tuple(options)
        self.environment = child_environment(os.environ if environment is None else environment)
        self.limit_s = limit_s
        self.patience_s = patience_s
        self.unanswered: list[Problem] = []  # of the questions of this run
        self._waited_s = 0.0  # for those
        self._kept = Answers(cache, today or datetime.now(UTC).date())
        self._answers: dict[str, str | Problem] = {}

    def resolve(
        self,
        dependencies: Dependencies,
        *,
        python: str | None = None,
        platform: str = PLATFORM,
        add: Sequence[str] = (),
    ) -> Resolution | Problem:
        """Return what would be installed today, by normalised name, with the sizes of wheels.

        ``python`` is a version such as ``3.11``, by default the lowest that the project allows;
        ``add`` are further requirements (PEP 508). Left out is what :func:`left_out` names, and
        what has no wheel. An index that the project names itself is not asked.

        Problem codes: ``offline``, ``resolver-timeout``, ``no-solution``, ``resolver-failed``.
        """
        version = python or lowest_python(dependencies.requires_python)
        answer = self.wheels(dependencies, python=version, platform=platform, add=add)
        return answer if isinstance(answer, Problem) else answer[0]

    def wheels(
        self,
        dependencies: Dependencies,
        *,
        python: str,
        platform: str,
        add: Sequence[str] = (),
        bounds: Sequence[str] = (),
    ) -> tuple[Resolution, tuple[str, ...]] | Problem:
        """Return what would be installed from wheels, and the names of what has none.

        ``bounds`` are constraints beside those of the project. Problems are those of
        :meth:`resolve`.
        """
        wanted = sorted({*requirement_lines(dependencies), *add})
        if not wanted:
            return {}, ()
        worded_bounds = {worded(entry) for entry in _by_name(dependencies.constraints)}
        options = ("--python-version", python, "--python-platform", platform)
        excluded: tuple[str, ...] = ()
        deadline = monotonic() + self.limit_s
        while True:
            limits = tuple(sorted({*worded_bounds, *bounds}))
            answer = self._ask(Question(tuple(wanted), limits, excluded, options))
            if isinstance(answer, str):
                return read_pylock(answer), excluded
            unbuildable = set(UNBUILDABLE.findall(answer.message)) - set(excluded)
            if not unbuildable or monotonic() > deadline:
                break
            excluded = (*excluded, *sorted(unbuildable))
        place = dependencies.manifests[0].path if dependencies.manifests else ""
        return Problem(place, answer.code, shortened(answer.message))

    def _ask(self, question: Question) -> str | Problem:
        """Return uv's pylock.toml, from the memory, the cache or uv."""
        key = self._key(question)
        if key in self._answers:
            return self._answers[key]
        answer = self._kept.read(key) or self._asked(key, question)
        if isinstance(answer, Problem) and _is_silence(answer):
            self.unanswered.append(answer)
        self._answers[key] = answer
        return answer

    def _asked(self, key: str, question: Question) -> str | Problem:
        """Ask uv, unless this run has waited long enough for nothing; keep what it says."""
        if self._waited_s > self.patience_s:
            reason = f"not asked: {self._waited_s:.0f} seconds of this run went by without answers"
            return Problem("", "resolver-timeout", reason)
        start = monotonic()
        options = (*question.options, "--format", "pylock.toml")
        answer = self.compile(replace(question, options=options))
        if isinstance(answer, Problem) and _is_silence(answer):
            self._waited_s += monotonic() - start
        if not self.offline:
            self._kept.keep(key, answer)
        return answer

    def _key(self, question: Question) -> str:
        settings = sorted(item for item in self.environment.items() if item[0].startswith("UV_"))
        text = repr((question, self.options, settings))
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def compile(self, question: Question) -> str | Problem:
        """Return what ``uv pip compile`` prints."""
        with tempfile.TemporaryDirectory(prefix="mega-optimizer-") as name:
            folder = Path(name)
            command = ["pip", "compile", "requirements.in"]
            _write_lines(folder / "requirements.in", question.wanted)
            if question.bounds:
                command += ["--constraints", "constraints.txt"]
                _write_lines(folder / "constraints.txt", question.bounds)
            if question.excluded:
                command += ["--excludes", "excluded.txt"]
                _write_lines(folder / "excluded.txt", question.excluded)
            isolation = ["--no-config", "--no-build", "--no-header", "--python", sys.executable]
            return self.run([*command, *isolation, *question.options], folder)

    def run(self, words: Sequence[str], folder: Path) -> str | Problem:
        """Run uv in ``folder`` and return its standard output, or why it failed."""
        if self.offline:
            return Problem("", "offline", "working offline, no index was asked")
        from uv import find_uv_bin

        safe = ["--no-progress", "--no-python-downloads", "--keyring-provider", "disabled"]
        try:
            done = subprocess.run(
                [find_uv_bin(), *words, *safe, *self.options],
                cwd=folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Problem("", "resolver-timeout", f"no answer within {self.limit_s:g} seconds")
        except OSError as error:
            return Problem("", "resolver-failed", f"uv cannot be started: {error}")
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "replace")
        message = done.stderr.decode("utf-8", "replace")
        code = "no-solution" if "No solution found" in message else "resolver-failed"
        return Problem("", code, " ".join(message.split())[:2000])


def _is_silence(answer: Problem) -> bool:
    """Whether nothing was said about the packages, not even that one has no wheel."""
    return answer.code in NO_ANSWER and not UNBUILDABLE.search(answer.message)


def shortened(message: str) -> str:
    """Return the first reason in a message of uv, which explains itself over many lines."""
    reason = message.removeprefix("error: ").partition("Because ")[2] or message
    first = reason.partition(", we can conclude")[0]
    return first if len(first) <= MESSAGE_LENGTH else f"{first[:MESSAGE_LENGTH].rstrip()}…"


def default_cache() -> Path:
    """Return the folder that keeps resolutions between runs."""
    from platformdirs import user_cache_path

    return user_cache_path("mega-optimizer") / "resolutions"


def child_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return what a child process may see of ``environment``, pip's indexes translated for uv.

    pip takes the best version of all its indexes ("pip install", Finding packages); so does uv
    then. Settings for uv itself come before those for pip.
    """
    inherited = set(INHERITED.split())
    kept = {
        name: value
        for name, value in environment.items()
        if name in inherited or INDEX_LOGIN.fullmatch(name)
    }
    pip = pip_settings(environment)
    for setting, variable in PIP_SETTINGS.items():
        value = pip.get(setting, "")
        if value and variable not in kept:
            kept[variable] = ",".join(value.split()) if variable == "UV_FIND_LINKS" else value
            if setting == "extra-index-url":
                kept.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return MappingProxyType(kept)


def pip_settings(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the index settings of pip: its configuration files, overridden by ``PIP_…``.

    The order of files is that of pip's documentation, "Configuration".
    """
    import configparser

    home = Path(environment.get("HOME", os.path.expanduser("~")))
    config = Path(environment.get("XDG_CONFIG_HOME", home / ".config"))
    files = [
        Path("/etc/pip.conf"),
        home / "Library" / "Application Support" / "pip" / "pip.conf",
        home / ".pip" / "pip.conf",
        config / "pip" / "pip.conf",
    ]
    if (own := environment.get("PIP_CONFIG_FILE")) is not None:
        files = [Path(own)] if own != os.devnull else []
    parser = configparser.RawConfigParser(strict=False)
    for file in files:
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
    settings: dict[str, str] = {}
    for name in PIP_SETTINGS:
        value = parser.get("global", name, fallback="")
        value = environment.get(f"PIP_{name.upper().replace('-', '_')}", value)
        if value.strip():
            settings[name] = value.strip()
    return settings


def requirement_lines(dependencies: Dependencies) -> list[str]:
    """Return the run-time requirements that an index serves by name, as lines for a resolver."""
    return sorted({worded(entry) for entry in _by_name(_run_time(dependencies))})


def left_out(dependencies: Dependencies) -> tuple[str, ...]:
    """Return the names of what no index serves (URLs, version control, paths), sorted."""
    return tuple(
        sorted({entry.name for entry in _run_time(dependencies) if entry.origin != "index"})
    )


def lowest_python(allowed: SpecifierSet | None) -> str:
    """Return the lowest version of Python in ``allowed``, else that of this interpreter."""
    versions = [f"3.{minor}" for minor in range(8, 20)]
    if allowed is not None:
        for version in versions:
            if allowed.contains(f"{version}.99") or allowed.contains(version):
                return version
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def newest_python(allowed: SpecifierSet | None) -> str:
    """Return the newest version of Python in ``allowed`` up to that of this interpreter."""
    own = sys.version_info.minor
    for minor in range(own, 7, -1):
        version = f"3.{minor}"
        if allowed is None or allowed.contains(f"{version}.99") or allowed.contains(version):
            return version
    return lowest_python(allowed)


def worded(entry: Dependency) -> str:
    """Return a dependency as a PEP 508 requirement."""
    extras = f"[{','.join(sorted(entry.extras))}]" if entry.extras else ""
    marker = f"; {entry.marker}" if entry.marker else ""
    return f"{entry.name}{extras}{entry.specifier}{marker}"


def read_pylock(text: str) -> Resolution:
    """Return the packages of a pylock.toml (PEP 751) that uv wrote."""
    from packaging.markers import Marker
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    resolution: dict[str, LockedPackage] = {}
    for entry in tomllib.loads(text).get("packages", ()):
        if "version" not in entry:
            continue
        sizes = {
            _wheel_name(wheel): size
            for wheel in entry.get("wheels", ())
            if (size := _wheel_bytes(wheel)) is not None
        }
        marker = Marker(entry["marker"]) if "marker" in entry else None
        name = canonicalize_name(entry["name"])
        version = Version(entry["version"])
        names = frozenset(map(_wheel_name, entry.get("wheels", ())))
        resolution[name] = LockedPackage(
            name, version, MappingProxyType(sizes), marker, wheels=names
        )
    return MappingProxyType(resolution)


def _wheel_name(wheel: Mapping[str, Any]) -> str:
    address: str = wheel.get("name") or wheel.get("url", wheel.get("path", ""))
    return address.rsplit("/", 1)[-1]


def _wheel_bytes(wheel: Mapping[str, Any]) -> int | None:
    """Return the size that the index gives (PEP 700), or that of the file where it is local."""
    if "size" in wheel:
        return int(wheel["size"])
    from urllib.request import url2pathname  # slow to load, and seldom needed

    address = urlsplit(wheel.get("url", ""))
    if address.scheme != "file":
        return None
    try:
        return Path(url2pathname(address.path)).stat().st_size
    except OSError:
        return None


def _run_time(dependencies: Dependencies) -> list[Dependency]:
    return [
        entry
        for manifest in dependencies.manifests
        for entry in manifest.dependencies
        if not entry.group
    ]


def _by_name(entries: Sequence[Dependency]) -> list[Dependency]:
    return [entry for entry in entries if entry.origin == "index"]


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
