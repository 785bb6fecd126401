"""The result as JSON: an interface, described by schema.json beside this module."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mega_optimizer import __version__
from mega_optimizer.report.diff import patch_of
from mega_optimizer.verify.stated import stated_difference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.engine.plan import ChangeSet, Finding
    from mega_optimizer.measure.images import ImagePair, ImageSize
    from mega_optimizer.pipeline import Result
    from mega_optimizer.publish.outcome import Published
    from mega_optimizer.repository.service import Service
    from mega_optimizer.verify.samples import SampleResult
    from mega_optimizer.verify.stated import Stated

SCHEMA_VERSION = 1


def as_json(result: Result) -> str:
    """Return the result as JSON text; keys are only ever added."""
    text = json.dumps(as_document(result), indent=2, ensure_ascii=False) + "\n"
    # A byte of a path that is not UTF-8 is a lone surrogate, which only an escape can say.
    return text.encode("utf-8", "backslashreplace").decode()


def as_document(result: Result) -> dict[str, Any]:
    """Return what :func:`as_json` writes, as dictionaries and lists."""
    plan = result.plan
    return {
        "schema": SCHEMA_VERSION,
        "tool": {"name": "mega-optimize", "version": __version__},
        "repository": {"path": str(result.root), "commit": result.commit},
        "services": [_service(service) for service in plan.repository.services],
        "findings": [_finding(finding, result) for finding in plan.findings],
        "changes": [_change(change, result.verified) for change in plan.changes],
        "images": [_image(pair) for pair in result.images],
        "pull_request": _pull_request(result.pull_request),
        "errors": [
            {
                "path": problem.path,
                "line": problem.line,
                "stage": "plan" if problem.code == "internal-error" else "scan",
                "code": problem.code,
                "message": problem.message,
            }
            for problem in plan.problems
        ],
        "warnings": list(result.warnings),
        "timings": result.timings,
    }


def _service(service: Service) -> dict[str, Any]:
    return {
        "name": service.name,
        "root": service.root,
        "dockerfile": service.dockerfile,
        "launch": [
            {"path": site.place.path, "line": site.place.line, "command": site.command}
            for site in service.launch
        ],
        "traits": [
            {"name": trait.name, "path": trait.place.path, "line": trait.place.line}
            for trait in service.traits
        ],
    }


def _finding(finding: Finding, result: Result) -> dict[str, Any]:
    applies = finding.status == "would-apply"
    status = "applied" if result.written and applies else finding.status
    rule = next((rule for rule in result.rules if rule.id == finding.rule), None)
    stated = stated_difference(result, rule, finding.service) if rule and applies else None
    return {
        "rule": finding.rule,
        "level": finding.level,
        "service": finding.service,
        "path": finding.place.path,
        "line": finding.place.line,
        "column": finding.place.column,
        "end_line": finding.place.end_line or finding.place.line,
        "fingerprint": finding.fingerprint,
        "status": status,
        "code": finding.code or None,
        "message": finding.message or None,
        "reason": finding.reason or None,
        "patch": patch_of(finding) or None,
        "answers": _answers(stated) if stated is not None else None,
    }


def _answers(stated: Stated) -> dict[str, Any]:
    measured = stated.comparison
    return {
        "difference": stated.words,
        "samples": stated.samples,
        "largest_absolute": measured.absolute if measured is not None else None,
        "largest_relative": measured.relative if measured is not None else None,
        "other_differences": list(measured.others) if measured is not None else None,
    }


def _sample(sample: SampleResult) -> dict[str, Any]:
    compared = sample.comparison
    return {
        "request": sample.request,
        "status": {"before": sample.status_before, "after": sample.status_after},
        "numbers": compared.numbers if compared is not None else None,
        "largest_absolute": compared.absolute if compared is not None else None,
        "largest_relative": compared.relative if compared is not None else None,
        "other_differences": list(compared.others) if compared is not None else None,
        "unsteady": list(compared.unsteady) if compared is not None else None,
        "reason": sample.reason or None,
    }


def _change(change: ChangeSet, verified: Mapping[str, bool | None]) -> dict[str, Any]:
    return {
        "rule": change.rule,
        "level": change.level,
        "service": change.service,
        "paths": change.paths,
        "verified": verified.get(change.service),
    }


def _image(pair: ImagePair) -> dict[str, Any]:
    return {
        "service": pair.service,
        "before": _size(pair.before),
        "after": _size(pair.after),
        "checks": [
            {"name": check.name, "verdict": check.verdict, "detail": check.detail or None}
            for check in pair.checks
        ],
        "packages": {"left": list(pair.left), "came": list(pair.came)},
        "samples": [_sample(each) for each in pair.samples],
    }


def _pull_request(published: Published | None) -> dict[str, Any] | None:
    if published is None:
        return None
    return {
        "url": published.url,
        "number": published.number,
        "operation": published.operation,
        "reason": published.reason or None,
    }


def _size(size: ImageSize) -> dict[str, Any]:
    return {
        "bytes_on_disk": size.bytes_on_disk,
        "bytes_compressed": size.bytes_compressed,
        "kind": size.kind,
        "source": size.source or None,
        "date": size.date or None,
        "unknown": list(size.unknown),
        "layers": [
            {
                "created_by": layer.created_by,
                "bytes_on_disk": layer.bytes_on_disk,
                "bytes_compressed": layer.bytes_compressed,
                "largest": [{"name": name, "bytes_on_disk": size} for name, size in layer.largest],
            }
            for layer in size.layers
        ],
    }
