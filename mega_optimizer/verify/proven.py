"""Build the images of a plan, prove them, and withdraw the rules that a proof speaks against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mega_optimizer.measure.build import image_sources
from mega_optimizer.verify.prover import MeasuredPair, Prover, state_of
from mega_optimizer.verify.samples import NOTHING_ASKED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mega_optimizer.engine.plan import Plan
    from mega_optimizer.measure.build import ImageSource
    from mega_optimizer.measure.builders.choose import BuildOptions
    from mega_optimizer.measure.builders.model import ImageBuilder
    from mega_optimizer.repository.index import DiskFiles
    from mega_optimizer.verify.samples import Asked

    Withdrawn = Mapping[tuple[str, str], tuple[str, str]]

PROOF_FAILED = "proof-failed"
# The rules that change most of an image are suspected first; of the others, the last.
_INVASIVE = ("containers/multi-stage", "containers/slim-base")


@dataclass(frozen=True, slots=True)
class ProvenPlan:
    """What is left of a plan, its images, and for each changed service whether it is verified."""

    plan: Plan
    images: tuple[MeasuredPair, ...]
    verified: Mapping[str, bool | None]


def prove_plan(
    plan: Plan,
    replan: Callable[[Withdrawn], Plan],
    files: DiskFiles,
    builder: ImageBuilder,
    options: BuildOptions,
    logs: Path,
    progress: Callable[[str], None] = lambda step: None,
    asked: Asked = NOTHING_ASKED,
) -> ProvenPlan:
    """Build every image that ``plan`` changes before and after, and prove it.

    ``replan`` plans again with fixes withdrawn. What fails is withdrawn rule by rule, until every
    image that is left passes, or is as it was before. ``asked`` are sample inputs.
    """
    prover = Prover(files, builder, options, logs, progress, asked)
    withdrawn: Withdrawn = {}
    settled: set[tuple[ImageSource, str]] = set()
    while True:
        sources = image_sources(plan, files)
        waiting = [source for source in sources if (source, state_of(source, plan)) not in settled]
        if not waiting:
            break
        for source in waiting:
            plan, withdrawn = _settle(source, plan, withdrawn, replan, prover)
            settled.add((source, state_of(source, plan)))
    images = tuple(prover.pair(source, plan) for source in sources)
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
    prover: Prover,
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
    more = {(rule, source.service.name): (PROOF_FAILED, reason) for rule in rules}
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
