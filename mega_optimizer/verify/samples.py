"""Ask a started image for sample inputs, and say how its answers differ from those before."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.verify.answers import Answer, Comparison, compare
from mega_optimizer.verify.check import Check, check_of
from mega_optimizer.verify.scripts import marked, reported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.measure.builders.model import Started
    from mega_optimizer.samples import Sample

# Differences of rounding in double precision, which other machine code may make by itself.
ROUNDING = 1e-9

# Sends one request. What a command prints is cut at a megabyte, so large bodies become a digest.
_ASK = marked("""
import base64, hashlib, http.client, json, sys
port, method, path, body, seconds = sys.argv[1:6]
headers = {"Host": "localhost", "Accept": "*/*"}
if body:
    headers["Content-Type"] = "application/json"
found = {"status": None, "body": ""}
for host in ("127.0.0.1", "::1"):
    connection = http.client.HTTPConnection(host, int(port), timeout=float(seconds))
    try:
        connection.request(method, path, body.encode() or None, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException):
        continue
    finally:
        connection.close()
    if len(content) > 500000:
        content = b"sha256:" + hashlib.sha256(content).hexdigest().encode()
    found = {"status": answer.status, "body": base64.b64encode(content).decode()}
    break
sys.stdout.write("\\n%s%s\\n" % (MARK, json.dumps(found)))
""")


@dataclass(frozen=True, slots=True)
class Asked:
    """What to ask of services, and the rules that say that they change answers."""

    samples: tuple[Sample, ...] = ()
    may_differ: frozenset[str] = frozenset()

    def of(self, service: str) -> tuple[Sample, ...]:
        """Return the samples of ``service``."""
        return tuple(each for each in self.samples if each.service == service)


NOTHING_ASKED = Asked()


@dataclass(frozen=True, slots=True)
class SampleResult:
    """How the answers to one sample differ; ``reason`` says why they were not compared."""

    request: str
    status_before: int | None = None
    status_after: int | None = None
    comparison: Comparison | None = None
    reason: str = ""


def ask_samples(
    started: Started, port: int, samples: Sequence[Sample], seconds: float
) -> tuple[Answer, ...]:
    """Return the answers to ``samples``, one after another."""
    answers = []
    for each in samples:
        arguments = [str(port), each.method, each.path, each.body or "", str(seconds)]
        ran = started.ask(_ASK, arguments, 2 * seconds + 10)
        found = reported(ran.output) or {"status": None, "body": ""}
        answers.append(Answer(found["status"], base64.b64decode(found["body"])))
    return tuple(answers)


def compared_samples(
    samples: Sequence[Sample],
    before: Sequence[Answer],
    again: Sequence[Answer],
    after: Sequence[Answer],
) -> tuple[SampleResult, ...]:
    """Compare the answers to ``samples``; ``again`` are those of a second start before."""
    results = []
    for at, sample in enumerate(samples):
        if at >= min(len(before), len(again)):
            results.append(SampleResult(str(sample), reason="the service did not answer before"))
            continue
        old, new = before[at], after[at] if at < len(after) else Answer(None)
        told = (str(sample), old.status, new.status)
        if old.status is None or old.status >= 400:
            said = "nothing" if old.status is None else f"status {old.status}"
            results.append(SampleResult(*told, reason=f"it was answered with {said} before"))
            continue
        comparison = compare(old, new, again[at])
        if not comparison.numbers and set(comparison.unsteady) & {"$", "body", "status"}:
            results.append(SampleResult(*told, reason="the answer differs from call to call"))
            continue
        results.append(SampleResult(*told, comparison=comparison))
    return tuple(results)


def samples_check(results: Sequence[SampleResult], declared: bool) -> Check | None:
    """Return what the samples prove, None without any.

    ``declared`` says that a rule which changed the service says that it changes answers.
    """
    if not results:
        return None
    wrong, open_questions = [], []
    for each in results:
        if each.comparison is None:
            open_questions.append(f"{each.request}: {each.reason}")
        elif each.status_after != each.status_before:
            now = each.status_after or "nothing"
            wrong.append(f"{each.request} was answered with {each.status_before}, now with {now}")
        elif each.comparison.others:
            differs = f"{each.request} differs at {', '.join(each.comparison.others[:3])}"
            (open_questions if declared else wrong).append(differs)
        elif each.comparison.relative > ROUNDING and not declared:
            wrong.append(f"{each.request}: {difference(each.comparison)}")
    if wrong or not open_questions:
        return check_of("samples", wrong, summary(results))
    return Check("samples", "not-verified", check_of("samples", open_questions).detail)


def largest(results: Sequence[SampleResult]) -> Comparison | None:
    """Return all comparisons as one, None where nothing was compared."""
    every = [each.comparison for each in results if each.comparison is not None]
    if not every:
        return None
    return Comparison(
        sum(each.numbers for each in every),
        max(each.absolute for each in every),
        max(each.relative for each in every),
        tuple(dict.fromkeys(place for each in every for place in each.others)),
        tuple(dict.fromkeys(place for each in every for place in each.unsteady)),
    )


def difference(comparison: Comparison) -> str:
    """Say in a few words how two answers differ."""
    if not comparison.absolute and not comparison.others:
        return "no difference"
    parts = []
    if comparison.absolute:
        parts.append(
            f"numbers differ by at most {comparison.absolute:.2g} "
            f"({comparison.relative:.2g} relative)"
        )
    if comparison.others:
        parts.append(f"other differences at {', '.join(comparison.others[:3])}")
    else:
        parts.append("the rest is equal")
    return ", ".join(parts)


def summary(results: Sequence[SampleResult]) -> str:
    """Say how the answers to all samples of a service differ."""
    total = largest(results)
    if total is None:
        return "; ".join(dict.fromkeys(each.reason for each in results if each.reason))
    compared = sum(each.comparison is not None for each in results)
    count = f"{compared} sample" if compared == 1 else f"{compared} samples"
    return f"{difference(total)} ({count}, {total.numbers} numbers)"
