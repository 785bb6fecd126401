"""Prove that an image does after the rewrite what it did before.

Both images are compared as data and tried: their modules are imported, and they are started with
their own command, without a network but their own loopback.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.verify.check import Check, check_of
from mega_optimizer.verify.image_files import files_check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mega_optimizer.measure.builders.inventory import Inventory
    from mega_optimizer.measure.builders.model import Configuration
    from mega_optimizer.verify.image_files import ExpectedFiles
    from mega_optimizer.verify.trial import StartUp, Trial

# What the base image sets for itself, and what only a build reads.
_OF_THE_BASE = ("PYTHON_VERSION", "PYTHON_SHA256", "PYTHON_PIP_", "PYTHON_SETUPTOOLS_VERSION")
_OF_THE_BASE_TOO = ("PYTHON_GET_PIP_", "GPG_KEY")
_OF_A_BUILD = ("PIP_", "UV_", "POETRY_", "VIRTUAL_ENV", "DEBIAN_FRONTEND")
_FREE = (*_OF_THE_BASE, *_OF_THE_BASE_TOO, *_OF_A_BUILD)
_INSTALLERS = frozenset({"pip", "setuptools", "wheel", "uv", "virtualenv"})


@dataclass(frozen=True, slots=True)
class Appearance:
    """An image as data: how it says that it is run, and its files."""

    configuration: Configuration
    inventory: Inventory


@dataclass(frozen=True, slots=True)
class Proof:
    """All checks of one image."""

    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool | None:
        """False where a check failed, None where one could not be made, else True."""
        verdicts = {check.verdict for check in self.checks}
        if "failed" in verdicts:
            return False
        return None if "not-verified" in verdicts or not self.checks else True

    @property
    def failure(self) -> Check | None:
        """The first check that failed."""
        return next((check for check in self.checks if check.verdict == "failed"), None)


def data_checks(
    before: Appearance,
    after: Appearance,
    expected: ExpectedFiles,
    command_may_change: bool = False,
) -> Iterator[Check]:
    """Compare two images as data.

    ``command_may_change`` says that a rule rewrote the command on purpose: how the image starts
    is then for its trial alone to tell.
    """
    yield from _configuration_checks(before.configuration, after.configuration, command_may_change)
    workdir = before.configuration.workdir
    if posixpath.normpath(workdir) == "/":
        yield Check("files", "not-verified", "the working directory is /")
    else:
        old, new = before.inventory.below(workdir), after.inventory.below(workdir)
        yield files_check(old, new, expected)
    yield _packages_check(before.inventory, after.inventory)
    yield _libraries_check(before.inventory, after.inventory)


def trial_checks(before: Trial, after: Trial) -> Iterator[Check]:
    """Compare what happened when two images were tried."""
    yield _imports_check(before.imports, after.imports)
    yield from _start_checks(before.start, after.start)


def _configuration_checks(
    before: Configuration, after: Configuration, command_may_change: bool
) -> Iterator[Check]:
    pairs: list[tuple[str, object, object]] = [
        ("user", before.user, after.user),
        ("workdir", before.workdir, after.workdir),
        ("ports", sorted(before.ports), sorted(after.ports)),
        ("volumes", sorted(before.volumes), sorted(after.volumes)),
        ("labels", dict(before.labels), dict(after.labels)),
        ("health check", before.healthcheck, after.healthcheck),
        ("stop signal", before.stop_signal, after.stop_signal),
    ]
    if not command_may_change:
        command = (before.entrypoint, before.command), (after.entrypoint, after.command)
        pairs.append(("command", *command))
    for name, old, new in pairs:
        if old == new:
            yield Check(name, "passed")
        else:
            yield Check(name, "failed", f"it was {_shown(old)} and is {_shown(new)}")
    wrong = list(_environment_differences(before.environment, after.environment))
    yield check_of("environment", wrong)


def _environment_differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*before, *after} - {"PATH"}):
        if before.get(name) == after.get(name) or name.startswith(_FREE):
            continue
        if name not in after:
            yield f"{name} is gone"
        elif name not in before:
            yield f"{name} is new"
        else:
            yield f"{name} was {_shown(before[name])} and is {_shown(after[name])}"
    found = iter(after.get("PATH", "").split(":"))
    # Folders may come in front or between, but all of before stay, in their order.
    if not all(folder in found for folder in before.get("PATH", "").split(":")):
        yield "PATH lost a folder"


def _packages_check(before: Inventory, after: Inventory) -> Check:
    wrong = []
    for name, versions in sorted(before.distributions.items()):
        now = after.distributions.get(name, frozenset())
        if name in _INSTALLERS or versions <= now:
            continue
        if now:
            wrong.append(f"{name} {_listed(versions)} became {_listed(now)}")
        else:
            wrong.append(f"{name} is gone")
    return check_of("packages", wrong, f"{len(before.distributions)} distributions")


def _libraries_check(before: Inventory, after: Inventory) -> Check:
    wrong = [
        f"{library} is missing, {posixpath.basename(path)} needs it"
        for library, path in sorted(after.missing_libraries.items())
        if library not in before.missing_libraries
    ]
    return check_of("libraries", wrong)


def _imports_check(before: Mapping[str, str], after: Mapping[str, str]) -> Check:
    wrong = [
        f"import {name}: {after.get(name, 'it was not tried')}"
        for name, error in before.items()
        if not error and after.get(name, "missing")
    ]
    if wrong:
        return check_of("imports", wrong)
    imported = [name for name, error in before.items() if not error]
    if imported:
        return Check("imports", "passed", f"{_count(len(imported), 'module')}")
    why = next(iter(before.values()), "no module of the service is known")
    return Check("imports", "not-verified", why)


def _start_checks(before: StartUp, after: StartUp) -> Iterator[Check]:
    if before.outcome == "answers":
        if after.outcome != "answers":
            yield Check("start", "failed", after.described)
            return
        yield Check("start", "passed", after.described)
        good = {path: status for path, status in before.answers.items() if status < 500}
        wrong = [
            f"{path} answered {status}, now {after.answers.get(path, 'nothing')}"
            for path, status in good.items()
            if after.answers.get(path) != status
        ]
        if wrong or good:
            told = ", ".join(f"{path} {status}" for path, status in good.items() if status < 400)
            yield check_of("health route", wrong, told or "the same refusals as before")
        else:
            yield Check("health route", "not-verified", "no route answered before either")
    elif (before.outcome, before.failure) == (after.outcome, after.failure):
        detail = f"before and after alike: {before.described}"
        yield Check("start", "not-verified", detail)
    elif after.outcome == "answers":
        yield Check("start", "not-verified", f"only afterwards: {after.described}")
    else:
        yield Check("start", "failed", f"before: {before.described}; now: {after.described}")


def _listed(versions: frozenset[str]) -> str:
    return ", ".join(sorted(versions))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"
