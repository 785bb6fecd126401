"""Build an image before and after a plan, compare the two, and try them."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mega_optimizer.codemods.context import Context
from mega_optimizer.measure.build import (
    MeasuredImage,
    content_digests,
    dockerfile_in,
    lay_out,
    run_environment,
)
from mega_optimizer.measure.builders.model import NOTHING, Built, NotBuilt, Recipe
from mega_optimizer.measure.context_size import build_context
from mega_optimizer.measure.estimate import Difference
from mega_optimizer.repository.place import Problem
from mega_optimizer.verify.check import Check
from mega_optimizer.verify.image import Appearance, Proof, data_checks, trial_checks
from mega_optimizer.verify.image_files import ExpectedFiles
from mega_optimizer.verify.modules import health_paths, modules_of
from mega_optimizer.verify.samples import compared_samples, samples_check
from mega_optimizer.verify.trial import try_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mega_optimizer.engine.plan import ChangeSet, Plan
    from mega_optimizer.measure.build import ImageSource
    from mega_optimizer.measure.builders.choose import BuildOptions
    from mega_optimizer.measure.builders.inventory import Inventory
    from mega_optimizer.measure.builders.model import ImageBuilder, Limits
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.index import DiskFiles
    from mega_optimizer.verify.answers import Answer
    from mega_optimizer.verify.samples import Asked, SampleResult
    from mega_optimizer.verify.trial import Trial

    Key = tuple[ImageSource, str]

_RUNNER = re.compile(rb"\b(?:uv|poetry|pipenv)[\"', ]+run\b")
_ABOUT_COMMANDS = ("serving/", "containers/exec-form")
# How much longer an image may take that did not do in time what it did before.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """An image before and after, measured, and what the proof of the latter says.

    ``left`` and ``came`` are packages, Python's by name and version, Debian's with ``deb:`` in
    front; of the latter the largest first. ``samples`` say how the answers to sample inputs differ.
    """

    service: str
    before: MeasuredImage
    after: MeasuredImage
    proof: Proof
    left: tuple[str, ...] = ()
    came: tuple[str, ...] = ()
    samples: tuple[SampleResult, ...] = ()

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the proof."""
        return self.proof.checks

    @property
    def known_difference(self) -> int:
        """What the registry transfers more or less, in bytes; 0 where that is not known."""
        before, after = self.before.bytes_compressed, self.after.bytes_compressed
        return 0 if before is None or after is None else after - before

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The layers that differ, by the instruction that made them."""
        old, new = _by_instruction(self.before), _by_instruction(self.after)
        nothing = (0, 0)
        found = []
        for name in dict.fromkeys((*old, *new)):
            before, after = old.get(name, nothing), new.get(name, nothing)
            if before != after:
                found.append(Difference(name, after[0] - before[0], after[1] - before[1]))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Before:
    """The image of the files as they are, and what is asked of the one that follows.

    ``appearance`` and ``trial`` are None where it was not built. ``contents`` are the digests of
    the files of its build context, ``again`` its answers to the samples when started once more.
    """

    image: MeasuredImage
    contents: Mapping[str, str]
    appearance: Appearance | None = None
    trial: Trial | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    again: tuple[Answer, ...] = ()


class Prover:
    """Builds and tries images, each state of the files once."""

    def __init__(
        self,
        files: DiskFiles,
        builder: ImageBuilder,
        options: BuildOptions,
        logs: Path,
        progress: Callable[[str], None],
        asked: Asked,
    ) -> None:
        self._files = files
        self._builder = builder
        self._options = options
        self._logs = logs
        self._progress = progress
        self._asked = asked
        self._before: dict[ImageSource, _Before] = {}
        self._pairs: dict[Key, MeasuredPair] = {}

    def pair(self, source: ImageSource, plan: Plan) -> MeasuredPair:
        """Return the image of ``source`` before and after ``plan``, with the proof."""
        key = source, state_of(source, plan)
        if key not in self._pairs:
            self._pairs[key] = self._pair(source, plan)
        return self._pairs[key]

    def _pair(self, source: ImageSource, plan: Plan) -> MeasuredPair:
        if source not in self._before:
            self._before[source] = self._try_before(source)
        before = self._before[source]
        name = source.service.name
        if before.appearance is None or before.trial is None:
            made = NotBuilt("there is no image before to compare it with", self._logs)
            none = MeasuredImage(name, made, self._builder.name, _today())
            check = Check("build", "not-verified", "; ".join(before.image.unknown))
            return MeasuredPair(name, before.image, none, Proof((check,)))
        if not source.changes(plan):
            return MeasuredPair(name, before.image, before.image, Proof(()))
        image, contents = self._built(source, source.changes(plan), "after")
        if isinstance(image.made, NotBuilt):
            check = Check("build", "failed", image.made.reason)
            return MeasuredPair(name, before.image, image, Proof((check,)))
        after = self._appearance(image.made, before.appearance.configuration.workdir)
        expected = ExpectedFiles(before.contents, contents, self._left_out(source, plan.result))
        rewritten = _rewrites_command(source, plan)
        checks = [Check("build", "passed", f"with {self._builder.name}")]
        checks += data_checks(before.appearance, after, expected, rewritten)
        # What already differs as data need not be tried.
        results: tuple[SampleResult, ...] = ()
        if all(check.verdict != "failed" for check in checks):
            tried, results = self._tried(source, before, before.trial, image.made, plan)
            checks += tried
        old, new = _packages(before.appearance.inventory), _packages(after.inventory)
        left = _largest_first(old - new, before.appearance.inventory)
        came = _largest_first(new - old, after.inventory)
        return MeasuredPair(name, before.image, image, Proof(tuple(checks)), left, came, results)

    def _tried(
        self, source: ImageSource, before: _Before, old: Trial, after: Built, plan: Plan
    ) -> tuple[tuple[Check, ...], tuple[SampleResult, ...]]:
        """Try the image ``after`` against what the one before did.

        On a machine that does much else, a service is slow to start or answers too late. What
        differs is therefore tried once more, with more patience, before and after alike.
        """
        modules, environment = tuple(old.imports), before.environment
        trial = self._trial(after, source, modules, environment, "after")
        checks, results = self._compared(source, before, old, trial, plan)
        made = before.image.made
        if isinstance(made, NotBuilt) or all(check.verdict != "failed" for check in checks):
            return checks, results
        limits = self._options.limits
        patient = replace(
            limits,
            start_seconds=_PATIENCE * limits.start_seconds,
            import_seconds=_PATIENCE * limits.import_seconds,
            sample_seconds=_PATIENCE * limits.sample_seconds,
        )
        old = self._trial(made, source, modules, environment, "before, again", patient)
        trial = self._trial(after, source, modules, environment, "after, again", patient)
        return self._compared(source, before, old, trial, plan)

    def _compared(
        self, source: ImageSource, before: _Before, old: Trial, new: Trial, plan: Plan
    ) -> tuple[tuple[Check, ...], tuple[SampleResult, ...]]:
        samples = self._asked.of(source.service.name)
        results = compared_samples(samples, old.start.samples, before.again, new.start.samples)
        declared = any(
            change.rule in self._asked.may_differ
            and any(source.reads(path, plan.result) for path in change.after)
            for change in plan.changes
        )
        of_samples = samples_check(results, declared)
        checks = (*trial_checks(old, new), *([of_samples] if of_samples else ()))
        return checks, results

    def _try_before(self, source: ImageSource) -> _Before:
        image, contents = self._built(source, {}, "before")
        if isinstance(image.made, NotBuilt):
            return _Before(image, contents)
        workdir = self._builder.configuration(image.made.image).workdir
        appearance = self._appearance(image.made, workdir)
        context = Context(source.service, self._files)
        modules = modules_of(context, appearance.inventory.below(workdir))
        # With what compose sets it may look for services that are not here; then without.
        own = self._options.environment
        environment: Mapping[str, str] = {**run_environment(source.service), **own}
        trial = self._trial(image.made, source, modules, environment, "before")
        if trial.start.outcome != "answers" and environment != own:
            alone = self._trial(image.made, source, modules, own, "before")
            if alone.start.outcome == "answers":
                trial, environment = alone, own
        again: tuple[Answer, ...] = ()
        if trial.start.samples:
            once_more = self._trial(image.made, source, (), environment, "before, for its samples")
            again = once_more.start.samples
        return _Before(image, contents, appearance, trial, environment, again)

    def _built(
        self, source: ImageSource, overlay: Mapping[str, bytes], when: str
    ) -> tuple[MeasuredImage, Mapping[str, str]]:
        """Build ``source`` with ``overlay`` over its files; return the digests of these, too."""
        name = source.service.name
        self._progress(f"building {name}, {when}")
        log = self._logs / f"{name.replace('/', '_')}-{when}.log"
        with tempfile.TemporaryDirectory(prefix="mega-optimize-") as folder:
            lay_out(self._files, overlay, Path(folder))
            context, dockerfile = dockerfile_in(Path(folder), source)
            recipe = Recipe(context, dockerfile, source.stage, dict(source.arguments))
            made = self._builder.build(recipe, log)
            contents = content_digests(context)
        return MeasuredImage(name, made, self._builder.name, _today()), contents

    def _appearance(self, made: Built, workdir: str) -> Appearance:
        return Appearance(
            self._builder.configuration(made.image), self._builder.inventory(made.image, workdir)
        )

    def _trial(
        self,
        made: Built,
        source: ImageSource,
        modules: tuple[str, ...],
        environment: Mapping[str, str],
        when: str,
        limits: Limits | None = None,
    ) -> Trial:
        self._progress(f"trying {source.service.name}, {when}")
        paths = health_paths(Context(source.service, self._files))
        limits = limits or self._options.limits
        samples = self._asked.of(source.service.name)
        return try_image(self._builder, made.image, modules, environment, paths, samples, limits)

    def _left_out(self, source: ImageSource, result: Files) -> frozenset[str]:
        """Return the files of the context that only the new ignore file keeps out."""
        old = build_context(self._files, source.context, source.dockerfile)
        new = build_context(result, source.context, source.dockerfile)
        if isinstance(old, Problem) or isinstance(new, Problem):
            return frozenset()
        return frozenset(old.files) - frozenset(new.files)


def state_of(source: ImageSource, plan: Plan) -> str:
    """Return a digest of what ``plan`` makes of the files that a build of ``source`` looks at."""
    digest = hashlib.sha256()
    for path, content in sorted(source.changes(plan).items()):
        digest.update(f"{path}\0{len(content)}\0".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def _rewrites_command(source: ImageSource, plan: Plan) -> bool:
    """Whether a rule that is about the command changed how the image starts."""
    return any(
        change.rule.startswith(_ABOUT_COMMANDS) or _takes_runner_out(change, source.dockerfile)
        for change in plan.changes
        if source.dockerfile in change.after
    )


def _takes_runner_out(change: ChangeSet, dockerfile: str) -> bool:
    """Whether `uv run` and its like left the stage that ships, as containers/multi-stage does."""
    if change.rule != "containers/multi-stage":
        return False
    before = change.before[dockerfile] or b""
    _, _, ships = change.after[dockerfile].rpartition(b"\nFROM")
    return bool(_RUNNER.search(before)) and not _RUNNER.search(ships)


def _packages(inventory: Inventory) -> set[str]:
    python = {
        f"{name} {version}"
        for name, versions in inventory.distributions.items()
        for version in versions
    }
    return python | {f"deb:{name} {version}" for name, version in inventory.debian_packages.items()}


def _largest_first(names: set[str], inventory: Inventory) -> tuple[str, ...]:
    sizes = inventory.debian_bytes

    def rank(name: str) -> tuple[int, str]:
        return -sizes.get(name.removeprefix("deb:").partition(" ")[0], 0), name

    return tuple(sorted(names, key=rank))


def _by_instruction(image: MeasuredImage) -> dict[str, tuple[int, int]]:
    """Return (bytes compressed, bytes on disk) of the layers, by a shortened instruction."""
    total: dict[str, tuple[int, int]] = {}
    for layer in image.made.layers if isinstance(image.made, Built) else ():
        words = layer.created_by.removeprefix("/bin/sh -c ").removeprefix("#(nop) ").split()
        text = re.sub(r"[0-9a-f]{64}", "…", " ".join(words)) or "base image"
        name = text if len(text) <= 80 else f"{text[:80]}…"
        compressed, on_disk = total.get(name, (0, 0))
        total[name] = compressed + layer.bytes_compressed, on_disk + layer.bytes_on_disk
    return total


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
