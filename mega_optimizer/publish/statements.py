"""What a pull request may claim, and what it has to admit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.publish.size_rows import growths, is_measured
from mega_optimizer.publish.text import code, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mega_optimizer.pipeline import Result

# These sections are never cut, so each of their lists has an end.
ITEMS_SHOWN = 10
ITEM_LIMIT = 400


def verified(result: Result) -> list[str]:
    """Return what was shown of the plan, and by what."""
    shown = ["Changed Python, Dockerfile, YAML, TOML and JSON files were parsed again, and parse."]
    # That was tried on the whole plan, before a proof took something out of it.
    if all(finding.code != "proof-failed" for finding in result.plan.findings):
        shown.append("Run a second time on its own result, the tool changes nothing more.")
    built = [pair.service for pair in result.images if is_measured(pair)]
    if built:
        shown.append(f"Images were built before and after: {', '.join(_codes(built))}.")
    passed: dict[tuple[str, ...], list[str]] = {}
    for pair in result.images:
        names = [check.name for check in pair.checks if check.verdict == "passed"]
        passed.setdefault(tuple(names), []).append(pair.service)
    for checks, services in passed.items():
        if checks:
            told = plain(", ".join(checks))
            shown.append(f"Compared before and after, in {', '.join(_codes(services))}: {told}.")
    return shown


def not_verified(result: Result) -> list[str]:
    """Return what got bigger, then what nothing shows. Bounded in length."""
    return [
        text if len(text) <= ITEM_LIMIT else f"{text[:ITEM_LIMIT]}…"
        for each in (
            growths(result.images),
            _unbuilt(result),
            _never_done(result),
            _withdrawn(result),
            _unproven(result),
            _gaps(result),
        )
        for text in first(list(each), ITEMS_SHOWN)
    ]


def _unbuilt(result: Result) -> Iterator[str]:
    measured = {pair.service for pair in result.images if is_measured(pair)}
    changed = {
        service.name
        for service in result.plan.repository.services
        if service.dockerfile and service.name in {each.service for each in result.plan.changes}
    }
    if changed - measured:
        yield f"Not built, so not started either: {', '.join(_codes(sorted(changed - measured)))}."


def _never_done(result: Result) -> Iterator[str]:
    yield "The tests of the services were not run."
    yield "Neither latency nor throughput was measured."
    if result.settings.stale_locks:
        yield "Lock files that could not be refreshed may be out of date (`--stale-locks`)."
    problems = [problem.path for problem in result.plan.problems]
    if problems:
        yield f"Not read, so not judged: {', '.join(_codes(list(dict.fromkeys(problems))))}."


def _withdrawn(result: Result) -> Iterator[str]:
    for finding in result.plan.findings:
        if finding.status == "withdrawn":
            where = f"{code(finding.rule)} at {code(str(finding.place))}"
            yield f"Withdrawn: {where}: {plain(finding.reason.rstrip('.'))}."


def _unproven(result: Result) -> Iterator[str]:
    for pair in result.images:
        for check in pair.checks:
            if check.verdict != "passed" and check.name != "build":
                verdict = check.verdict.replace("-", " ")
                told = f": {plain(check.detail.rstrip('.'))}" if check.detail else ""
                yield f"{code(pair.service)}, {plain(check.name)} {verdict}{told}."


def _gaps(result: Result) -> Iterator[str]:
    for pair in result.images:
        gaps = pair.after.gaps("bytes compressed")
        if gaps:
            told = "; ".join(gap.replace(", compressed: ", " (", 1) + ")" for gap in gaps)
            yield f"Size not known, {code(pair.service)}: {plain(told)}."


def first(items: Sequence[str], limit: int) -> tuple[str, ...]:
    """Return the first ``limit`` of ``items``, and how many more there are."""
    if len(items) <= limit:
        return tuple(items)
    return (*items[:limit], f"and {len(items) - limit} more")


def count(number: int, noun: str) -> str:
    """Return ``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _codes(names: Sequence[str]) -> tuple[str, ...]:
    return first([code(name) for name in names], ITEMS_SHOWN)
