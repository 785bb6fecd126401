"""Build the images of a plan, prove them, and withdraw the rules that a proof speaks against."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mega_optimizer.codemods.context import Context
from mega_optimizer.measure.build import (
    MeasuredImage,
    content_digests,
    dockerfile_in,
    image_sources,
    lay_out,
    run_environment,
)
from mega_optimizer.measure.builders.model import Built, NotBuilt, Recipe
from mega_optimizer.measure.context_size import build_context
from mega_optimizer.measure.estimate import Difference
from mega_optimizer.repository.place import Problem
from mega_optimizer.verify.check import Check
from mega_optimizer.verify.image import Observation, Proof, prove
from mega_optimizer.verify.image_files import ExpectedFiles
from mega_optimizer.verify.modules import health_paths, modules_of
from mega_optimizer.verify.trial import imported, start_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mega_optimizer.engine.plan import Plan
    from mega_optimizer.measure.build import ImageSource
    from mega_optimizer.measure.builders.choose import BuildOptions
    from mega_optimizer.measure.builders.model import ImageBuilder
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.index import DiskFiles

    Withdrawn = Mapping[tuple[str, str], tuple[str, str]]
    Key = tuple[ImageSource, str]

PROOF_FAILED = "proof-failed"
# The rules that change most of an image are suspected first; of the others, the last.
_INVASIVE = ("containers/multi-stage", "containers/slim-base")


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """An image before and after, measured, and what the proof of the latter says.

    ``left`` and ``came`` are packages, Python's by name and version, Debian's with ``deb:`` first.
    """

    service: str
    before: MeasuredImage
    after: MeasuredImage
    proof: Proof
    left: tuple[str, ...] = ()
    came: tuple[str, ...] = ()

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
class ProvenPlan:
    """What is left of a plan, its images, and for each changed service whether it is verified."""

    plan: Plan
    images: tuple[MeasuredPair, ...]
    verified: Mapping[str, bool | None]


@dataclass(frozen=True, slots=True)
class _Tried:
    """An image and what was seen of it; ``observation`` is None where it was not built."""

    image: MeasuredImage
    observation: Observation | None


def prove_plan(
    plan: Plan,
    replan: Callable[[Withdrawn], Plan],
    files: DiskFiles,
    builder: ImageBuilder,
    options: BuildOptions,
    logs: Path,
    progress: Callable[[str], None] = lambda step: None,
) -> ProvenPlan:
    """Build every image that ``plan`` changes before and after, and prove it.

    ``replan`` plans again with fixes withdrawn. What fails is withdrawn rule by rule, until every
    image that is left passes, or is as it was before.
    """
    prover = _Prover(files, builder, options, logs, progress)
    withdrawn: Withdrawn = {}
    settled: set[Key] = set()
    while True:
        sources = image_sources(plan, files)
        waiting = [source for source in sources if (source, _state(source, plan)) not in settled]
        if not waiting:
            break
        for source in waiting:
            plan, withdrawn = _settle(source, plan, withdrawn, replan, prover)
            settled.add((source, _state(source, plan)))
    pairs = [(source, prover.pair(source, plan)) for source in sources]
    images = tuple(
        MeasuredPair(service.name, pair.before, pair.after, pair.proof, pair.left, pair.came)
        for source, pair in pairs
        for service in source.services
    )
    verified = {pair.service: pair.proof.holds for pair in images}
    return ProvenPlan(plan, images, MappingProxyType(verified))


def log_folder() -> Path:
    """Return the folder for the logs of builds; it is made where it is missing."""
    from platformdirs import user_log_path

    folder = user_log_path("mega-optimize", appauthor=False) / "builds"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _settle(
    source: ImageSource,
    plan: Plan,
    withdrawn: Withdrawn,
    replan: Callable[[Withdrawn], Plan],
    prover: _Prover,
) -> tuple[Plan, Withdrawn]:
    """Withdraw rules from ``source``, one after another, until its image passes."""
    failure = prover.pair(source, plan).proof.failure
    if failure is None:
        return plan, withdrawn
    reason = f"the image does not pass: {failure.name}: {failure.detail}"
    suspects = _suspects(source, plan)
    for count in range(1, len(suspects) + 1):
        dropped = suspects[:count]
        without = _without(withdrawn, dropped, source, reason)
        attempt = replan(without)
        if prover.pair(source, attempt).proof.failure is not None:
            continue
        if count > 1:
            # The last one was guilty; those before it may not have been.
            alone = _without(withdrawn, dropped[-1:], source, reason)
            restored = replan(alone)
            if prover.pair(source, restored).proof.failure is None:
                return restored, alone
        return attempt, without
    everything = _without(withdrawn, suspects, source, reason)
    return replan(everything), everything


def _without(
    withdrawn: Withdrawn, rules: Sequence[str], source: ImageSource, reason: str
) -> Withdrawn:
    more = {
        (rule, service.name): (PROOF_FAILED, reason)
        for rule in rules
        for service in source.services
    }
    return {**withdrawn, **more}


def _suspects(source: ImageSource, plan: Plan) -> list[str]:
    """Return the rules that changed something the image is built from, the most invasive first."""
    rules = dict.fromkeys(
        change.rule
        for change in reversed(plan.changes)
        if any(source.reads(path, plan.result) for path in change.after)
    )

    def rank(rule: str) -> int:
        if rule in _INVASIVE:
            return _INVASIVE.index(rule)
        return len(_INVASIVE) + (not rule.startswith("containers/"))

    return sorted(rules, key=rank)


def _state(source: ImageSource, plan: Plan) -> str:
    """Return a digest of what ``plan`` makes of the files that a build of ``source`` looks at."""
    digest = hashlib.sha256()
    for path, content in sorted(source.changes(plan).items()):
        digest.update(f"{path}\0{len(content)}\0".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


class _Prover:
    """Builds and tries images, each state of the files once."""

    def __init__(
        self,
        files: DiskFiles,
        builder: ImageBuilder,
        options: BuildOptions,
        logs: Path,
        progress: Callable[[str], None],
    ) -> None:
        self._files = files
        self._builder = builder
        self._options = options
        self._logs = logs
        self._progress = progress
        self._before: dict[ImageSource, tuple[_Tried, Mapping[str, str], dict[str, str]]] = {}
        self._pairs: dict[Key, MeasuredPair] = {}

    def pair(self, source: ImageSource, plan: Plan) -> MeasuredPair:
        """Return the image of ``source`` before and after ``plan``, with the proof."""
        key = source, _state(source, plan)
        if key not in self._pairs:
            self._pairs[key] = self._pair(source, plan)
        return self._pairs[key]

    def _pair(self, source: ImageSource, plan: Plan) -> MeasuredPair:
        before, environment, contents = self._tried_before(source)
        if before.observation is None:
            made = NotBuilt("there is no image before to compare it with", self._logs)
            none = MeasuredImage(source.name, made, self._builder.name, _now())
            check = Check("build", "not-verified", "; ".join(before.image.unknown))
            return MeasuredPair(source.name, before.image, none, Proof((check,)))
        with tempfile.TemporaryDirectory(prefix="mega-optimize-") as name:
            folder = Path(name)
            lay_out(self._files, source.changes(plan), folder)
            image = self._built(source, folder, "after")
            changed = content_digests(dockerfile_in(folder, source)[0])
        if isinstance(image.made, NotBuilt):
            check = Check("build", "failed", image.made.reason)
            return MeasuredPair(source.name, before.image, image, Proof((check,)))
        modules = tuple(before.observation.imports)
        context = Context(source.services[0], plan.result)
        workdir = before.observation.configuration.workdir
        after = self._observed(image.made, source, modules, environment, workdir, "after")
        expected = ExpectedFiles(contents, changed, self._left_out(source, context.files))
        proof = prove(before.observation, after, expected, _rewrites_command(source, plan))
        passed = Check("build", "passed", f"with {self._builder.name}")
        old, new = _packages(before.observation), _packages(after)
        return MeasuredPair(
            source.name,
            before.image,
            image,
            Proof((passed, *proof.checks)),
            tuple(sorted(old - new)),
            tuple(sorted(new - old)),
        )

    def _tried_before(
        self, source: ImageSource
    ) -> tuple[_Tried, Mapping[str, str], dict[str, str]]:
        if source not in self._before:
            self._before[source] = self._try_before(source)
        return self._before[source]

    def _try_before(self, source: ImageSource) -> tuple[_Tried, Mapping[str, str], dict[str, str]]:
        with tempfile.TemporaryDirectory(prefix="mega-optimize-") as name:
            folder = Path(name)
            lay_out(self._files, {}, folder)
            image = self._built(source, folder, "before")
            contents = content_digests(dockerfile_in(folder, source)[0])
        own = self._options.environment
        if isinstance(image.made, NotBuilt):
            return _Tried(image, None), own, contents
        configuration = self._builder.configuration(image.made.image)
        inventory = self._builder.inventory(image.made.image, configuration.workdir)
        contexts = [Context(service, self._files) for service in source.services]
        modules = dict.fromkeys(
            name
            for context in contexts
            for name in modules_of(context, inventory.below(configuration.workdir))
        )
        # With what compose sets it may look for services that are not here; then without.
        composed = {**run_environment(source.services[0]), **own}
        environment: Mapping[str, str] = composed
        observation = self._observed(
            image.made, source, tuple(modules), environment, configuration.workdir, "before"
        )
        if observation.start.outcome != "answers" and composed != own:
            alone = self._observed(
                image.made, source, tuple(modules), own, configuration.workdir, "before"
            )
            if alone.start.outcome == "answers":
                observation, environment = alone, own
        return _Tried(image, observation), environment, contents

    def _built(self, source: ImageSource, folder: Path, when: str) -> MeasuredImage:
        self._progress(f"building {source.name}, {when}")
        context, dockerfile = dockerfile_in(folder, source)
        recipe = Recipe(context, dockerfile, source.stage, dict(source.arguments))
        log = self._logs / f"{source.name.replace('/', '_')}-{when}.log"
        made = self._builder.build(recipe, log)
        return MeasuredImage(source.name, made, self._builder.name, _now())

    def _observed(
        self,
        made: Built,
        source: ImageSource,
        modules: Sequence[str],
        environment: Mapping[str, str],
        workdir: str,
        when: str,
    ) -> Observation:
        self._progress(f"trying {source.name}, {when}")
        paths = health_paths(Context(service, self._files) for service in source.services)
        return Observation(
            self._builder.configuration(made.image),
            self._builder.inventory(made.image, workdir),
            imported(self._builder, made.image, modules, environment),
            start_up(self._builder, made.image, environment, paths),
        )

    def _left_out(self, source: ImageSource, result: Files) -> frozenset[str]:
        """Return the files of the context that only the new ignore file keeps out."""
        old = build_context(self._files, source.context, source.dockerfile)
        new = build_context(result, source.context, source.dockerfile)
        if isinstance(old, Problem) or isinstance(new, Problem):
            return frozenset()
        return frozenset(old.files) - frozenset(new.files)


def _rewrites_command(source: ImageSource, plan: Plan) -> bool:
    """Whether a rule about serving changed how the image starts."""
    return any(
        change.rule.startswith("serving/") and source.dockerfile in change.after
        for change in plan.changes
    )


def _packages(observation: Observation) -> set[str]:
    inventory = observation.inventory
    python = {
        f"{name} {version}"
        for name, versions in inventory.distributions.items()
        for version in versions
    }
    return python | {f"deb:{name} {version}" for name, version in inventory.debian_packages.items()}


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


def _now() -> str:
    return datetime.now(UTC).date().isoformat()
