"""A small service is built and started before and after a rewrite, and asked for samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mega_optimizer.config import Settings
from mega_optimizer.measure.builders.model import ImageBuilder
from mega_optimizer.pipeline import Result
from mega_optimizer.report.machine import as_document
from mega_optimizer.report.terminal import as_text
from mega_optimizer.rules import load_rules
from mega_optimizer.samples import Sample
from mega_optimizer.verify.proven import ProvenPlan
from mega_optimizer.verify.samples import Asked, SampleResult, samples_check
from mega_optimizer.verify.stated import stated_difference
from tests.bases.available import buildah
from tests.cli.test_json import validated
from tests.verify.test_image import proven

SERVE = b"""\
import json
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer

STARTED = uuid.uuid4().hex


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path == "/health" else 404, {"path": self.path})

    def do_POST(self):
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        score = sum(given["row"]) / 3
        found = {"score": score, "label": "high" if score > 1 else "low", "rows": [given["row"]]}
        self.answer(200, {**found, "id": uuid.uuid4().hex, "started": STARTED})

    def answer(self, status, found):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())


if __name__ == "__main__":
    HTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""
FILES = {
    "Dockerfile": b'FROM python:3.11-slim\nWORKDIR /app\nCOPY . .\nCMD ["python", "serve.py"]\n',
    "requirements.txt": b"",
    "serve.py": SERVE,
}
SAMPLES = (
    Sample("target", "POST", "/score", '{"row": [1, 2, 3]}'),
    Sample("target", "GET", "/health"),
)
DTYPE = "ml/dtype"  # a review rule that says that it changes answers
PIP_CACHE = "containers/pip-cache"  # one that says that it changes none
ROUNDED = SERVE.replace(b'sum(given["row"]) / 3', b'round(sum(given["row"]) / 3 + 0.004, 3)')
RENAMED = SERVE.replace(b'"high" if', b'"HIGH" if')
FAILING = SERVE.replace(b'sum(given["row"]) / 3', b'sum(given["rows"]) / 3')


@pytest.fixture(scope="module")
def builder() -> Iterator[ImageBuilder]:
    with buildah() as made:
        yield made


def prove(
    builder: ImageBuilder, folder: Path, rule: str, after: bytes, asked: tuple[Sample, ...]
) -> tuple[ProvenPlan, dict[tuple[str, str], tuple[str, str]]]:
    edits = {rule: ("target", ("serve.py", after))}
    return proven(builder, folder, edits, FILES, Asked(asked, frozenset({DTYPE})))


def result_of(proof: ProvenPlan, folder: Path, settings: Settings) -> Result:
    changes = tuple(replace(each, level="review") for each in proof.plan.changes)
    return Result(
        root=folder,
        mode="diff",
        commit=None,
        plan=replace(proof.plan, changes=changes),
        rules=load_rules(),
        settings=settings,
        images=proof.images,
        timings=dict.fromkeys(("scan_s", "plan_s", "verify_s", "measure_s"), 0.0),
    )


def test_a_rule_that_changes_numbers_states_by_how_much(
    builder: ImageBuilder, tmp_path: Path
) -> None:
    proof, withdrawn = prove(builder, tmp_path, DTYPE, ROUNDED, SAMPLES)

    assert not withdrawn
    (pair,) = proof.images
    first, second = pair.samples
    assert (first.request, first.status_before, first.status_after) == ("POST /score", 200, 200)
    assert first.comparison is not None
    assert first.comparison.numbers == 4
    assert first.comparison.absolute == pytest.approx(0.004)
    assert first.comparison.relative == pytest.approx(0.004 / 2.004)
    assert first.comparison.others == ()
    # The one differs from call to call, the other from start to start.
    assert first.comparison.unsteady == ("$.id", "$.started")
    assert second.comparison is not None
    assert (second.comparison.absolute, second.comparison.others) == (0, ())
    assert proof.verified == {"target": True}

    result = result_of(proof, tmp_path, Settings(samples=SAMPLES, sizes="build"))
    words = (
        "measured: numbers differ by at most 0.004 (0.002 relative), the rest is equal "
        "(2 samples, 4 numbers)"
    )
    assert f"target  {DTYPE}: {words}" in as_text(result)
    rule = next(each for each in load_rules() if each.id == DTYPE)
    stated = stated_difference(result, rule, "target")
    assert stated is not None
    assert stated.words == words
    (image,) = as_document(result)["images"]
    assert image["samples"][0]["largest_absolute"] == pytest.approx(0.004)
    assert image["samples"][0]["unsteady"] == ["$.id", "$.started"]
    validated(json.dumps(as_document(result)))


@pytest.mark.parametrize(
    ("rule", "after", "reason"),
    [
        (PIP_CACHE, ROUNDED, "POST /score: numbers differ by at most 0.004"),
        (PIP_CACHE, RENAMED, "POST /score differs at $.label"),
        (DTYPE, FAILING, "POST /score was answered with 200, now with nothing"),
    ],
)
def test_what_no_rule_declares_is_withdrawn(
    builder: ImageBuilder, tmp_path: Path, rule: str, after: bytes, reason: str
) -> None:
    proof, withdrawn = prove(builder, tmp_path, rule, after, SAMPLES)

    ((_, (code, told)),) = withdrawn.items()
    assert code == "proof-failed"
    assert told.startswith(f"the image does not pass: samples: {reason}")
    assert proof.plan.changes == ()


def test_other_differences_of_a_rule_that_declares_some_are_left_to_judge(
    builder: ImageBuilder, tmp_path: Path
) -> None:
    proof, withdrawn = prove(builder, tmp_path, DTYPE, RENAMED, SAMPLES)

    assert not withdrawn
    (pair,) = proof.images
    check = next(each for each in pair.checks if each.name == "samples")
    assert (check.verdict, check.detail) == ("not-verified", "POST /score differs at $.label")
    assert proof.verified == {"target": None}


def test_without_samples_nothing_is_asked_and_nothing_is_claimed(
    builder: ImageBuilder, tmp_path: Path
) -> None:
    proof, _ = prove(builder, tmp_path, DTYPE, ROUNDED, ())

    (pair,) = proof.images
    assert pair.samples == ()
    assert "samples" not in {check.name for check in pair.checks}
    without = result_of(proof, tmp_path, Settings(sizes="build"))
    assert f"{DTYPE}: not measured: no samples are configured" in as_text(without)
    estimated = result_of(proof, tmp_path, Settings(samples=SAMPLES))
    assert f"{DTYPE}: not measured: samples are asked with --sizes build" in as_text(estimated)


def test_a_sample_that_was_refused_before_proves_nothing() -> None:
    results = (SampleResult("GET /x", 404, 404, None, "it was answered with status 404 before"),)
    check = samples_check(results, declared=False)
    assert check is not None
    assert check.verdict == "not-verified"
    assert check.detail == "GET /x: it was answered with status 404 before"
