"""Measure the images of one repository: sizes and proof by the pipeline, the rest beside it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.images.guesses import guesses
from benchmarks.images.rebuild import rebuild
from benchmarks.images.row import Row, Size, State, Stratum
from mega_optimizer.codemods.context import Context
from mega_optimizer.config import Settings
from mega_optimizer.engine.resolve import Resolver, default_cache
from mega_optimizer.measure.build import ImageSource, dockerfile_in, every_image, lay_out
from mega_optimizer.measure.builders.buildah import Buildah
from mega_optimizer.measure.builders.choose import build_options
from mega_optimizer.measure.builders.model import Built, NotBuilt, Recipe
from mega_optimizer.measure.images import ImagePair, estimate_service
from mega_optimizer.pipeline import Request, Result, read_target, run
from mega_optimizer.repository.dockerfile import lineage, root_image, shipping_stage
from mega_optimizer.repository.files import Files
from mega_optimizer.repository.image import contributing_stages
from mega_optimizer.repository.index import DiskFiles
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.service import Service


@dataclass(frozen=True, slots=True)
class Target:
    """A checkout, the services to measure (none: all), and why others are not tried."""

    name: str
    folder: Path
    services: tuple[str, ...] = ()
    not_tried: tuple[tuple[str, str], ...] = ()


def measure(target: Target, settings: Settings, rebuilds: bool) -> Iterator[Row]:
    """Build, prove and compare the images of ``target``; yield one row for each Dockerfile."""
    files, repository, _ = read_target(target.folder)
    sources = [
        source
        for source in every_image(repository, files)
        if not target.services or source.service.name in target.services
    ]
    reasons = dict(target.not_tried)
    tried = tuple(each.service.name for each in sources if each.service.name not in reasons)
    if tried:
        # All at once where nothing is left out: what services share changes only for all of them.
        only = () if not target.services and not reasons else tried
        result = run(Request(target.folder, replace(settings, services=only), "diff"))
    for source in sources:
        service = source.service
        if service.name in reasons:
            yield _row(target, service, files, "not tried", reasons[service.name])
        else:
            yield _measured(target, source, files, result, rebuilds)


def _measured(
    target: Target, source: ImageSource, files: DiskFiles, result: Result, rebuilds: bool
) -> Row:
    service = source.service
    pair = next((each for each in result.images if each.service == service.name), None)
    withdrawn = sorted(
        {
            f"{each.rule}: {each.reason}"
            for each in result.plan.findings
            if each.status == "withdrawn" and each.service == service.name
        }
    )
    options = build_options()
    with Buildah(options.limits, options.volumes, options.store) as builder:
        before = _built(builder, source, files, {})
        if isinstance(before, NotBuilt):
            row = _row(target, service, files, "not built", before.reason)
            return replace(row, withdrawn=tuple(withdrawn))
        changed = source.changes(result.plan)
        after = _built(builder, source, files, changed)
        row = _row(target, service, files, "unchanged" if pair is None else "changed")
        row = replace(
            row,
            before=_size(before, row.base),
            base_after=_base(service, result.plan.result),
            withdrawn=tuple(withdrawn),
            proof=_proof(pair) if pair else "",
            rules=_rules(source, result),
            left=tuple(pair.left) if pair else (),
            came=tuple(pair.came) if pair else (),
        )
        resolver = Resolver(offline=False, cache=default_cache())
        old, new = (
            estimate_service(service, each, resolver, None) for each in (files, result.plan.result)
        )
        found = list(guesses(old, before))
        if isinstance(after, Built) and pair:
            row = replace(row, after=_size(after, row.base_after))
            found += guesses(new, after, ", after")
        if rebuilds:
            row = replace(row, rebuild=rebuild(builder, source, files, changed))
        return replace(row, guesses=tuple(found))


def _rules(source: ImageSource, result: Result) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            change.rule
            for change in result.plan.changes
            if any(source.reads(path, result.plan.result) for path in change.after)
        )
    )


def _built(
    builder: Buildah, source: ImageSource, files: DiskFiles, overlay: dict[str, bytes]
) -> Built | NotBuilt:
    with tempfile.TemporaryDirectory(prefix="mega-optimize-") as folder:
        lay_out(files, overlay, Path(folder))
        context, dockerfile = dockerfile_in(Path(folder), source)
        recipe = Recipe(context, dockerfile, source.stage, dict(source.arguments))
        return builder.build(recipe, Path(folder).with_suffix(".log"))


def _row(target: Target, service: Service, files: Files, state: State, reason: str = "") -> Row:
    return Row(
        target.name,
        service.name,
        service.dockerfile or "",
        datetime.now(UTC).date().isoformat(),
        _stratum(service, files),
        _base(service, files),
        state,
        reason,
    )


def _base(service: Service, files: Files) -> str:
    parsed = Context(service, files).dockerfile(service.dockerfile or "")
    stage = None if isinstance(parsed, Problem) else shipping_stage(parsed, service.stage)
    if isinstance(parsed, Problem) or stage is None:
        return "unknown"
    return root_image(parsed, stage) or "unknown"


def _stratum(service: Service, files: Files) -> Stratum:
    parsed = Context(service, files).dockerfile(service.dockerfile or "")
    stage = None if isinstance(parsed, Problem) else shipping_stage(parsed, service.stage)
    if isinstance(parsed, Problem) or stage is None:
        return "several stages already"
    if len(contributing_stages(parsed, stage)) > len(lineage(parsed, stage)):
        return "several stages already"
    base = root_image(parsed, stage) or ""
    is_slim = any(word in base for word in ("slim", "alpine", "minimal", "distroless"))
    return "single stage, slim already" if is_slim else "single stage, not slim"


def _size(built: Built, base: str) -> Size:
    layers = built.layers[: base_layers(base)]
    return Size(
        built.bytes_compressed,
        built.bytes_on_disk,
        sum(layer.bytes_compressed for layer in layers),
        sum(layer.bytes_on_disk for layer in layers),
    )


def base_layers(image: str) -> int:
    """Return how many layers the local image has that FROM names as ``image``; 0 for none."""
    done = subprocess.run(
        ["buildah", "inspect", "--type", "image", image],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return 0
    return len(json.loads(done.stdout)["OCIv1"]["rootfs"]["diff_ids"])


def _proof(pair: ImagePair) -> str:
    verdicts = [check.verdict for check in pair.checks]
    others: Sequence[str] = [
        f"{check.name} {check.verdict.replace('-', ' ')}: {check.detail}"
        for check in pair.checks
        if check.verdict != "passed"
    ]
    if not others:
        return f"all {len(verdicts)} checks passed" if verdicts else "as before"
    return "; ".join([f"{verdicts.count('passed')} passed", *others])
