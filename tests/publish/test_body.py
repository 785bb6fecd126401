"""What stands in a pull request, in which order, and what is cut when it gets too long."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from mega_optimizer.config import Settings
from mega_optimizer.engine.plan import Finding
from mega_optimizer.measure.estimate import ImageEstimate
from mega_optimizer.measure.evidence import Figure, Part, unknown_part
from mega_optimizer.measure.images import EstimatedPair
from mega_optimizer.pipeline import Request, Result, run
from mega_optimizer.publish.body import LIMIT, render, title_of
from mega_optimizer.publish.commits import Commit
from mega_optimizer.publish.marker import Marker, read_marker
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.samples import Sample
from mega_optimizer.verify.answers import Comparison
from mega_optimizer.verify.check import Check
from mega_optimizer.verify.samples import SampleResult
from tests.publish.target import BOTH, FILES

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["measured", "estimated"]
MARKER = Marker("abc", BOTH, "Title")
HEADINGS = [
    "### Image sizes",
    "### What was done",
    "### Verified",
    "### Bigger, slower, not verified",
    "### What changes for callers",
    "### How to reproduce",
    "<details><summary>Layers and packages",
    "### Not what you want?",
    "<!-- mega-optimize:",
]


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """The result of a run on a service with two things to change."""
    root = tmp_path / "shop"
    root.mkdir()
    for name, content in FILES.items():
        (root / name).write_text(content)
    (root / ".gitignore").write_text("__pycache__/\n.venv/\n")
    settings = replace(Settings(), select=BOTH, sizes="off", offline=True)
    return run(Request(root=root, settings=settings, mode="check"))


def body(result: Result, limit: int = LIMIT) -> str:
    commits = [Commit(rule, f"{at:040x}") for at, rule in enumerate(BOTH, 1)]
    return render(result, commits, MARKER, limit)


def part(name: str, compressed: int, on_disk: int, kind: Kind) -> Part:
    sources = {"kind": kind, "source": "buildah 1.28", "date": "2026-11-23"}
    return Part(
        name,
        Figure(compressed, "bytes compressed", **sources),  # type: ignore[arg-type]
        Figure(on_disk, "bytes on disk", **sources),  # type: ignore[arg-type]
    )


def image(service: str, before: int, after: int, kind: Kind = "measured") -> EstimatedPair:
    def estimate(size: int) -> ImageEstimate:
        return ImageEstimate(service, (part("layers", size, 3 * size, kind),), kind)

    return EstimatedPair(service, estimate(before), estimate(after))


def test_the_order_of_the_sections(result: Result) -> None:
    result.images = (image("shop", 218_000_000, 56_000_000),)
    text = body(result)
    places = [text.index(heading) for heading in HEADINGS]
    assert places == sorted(places)
    assert text.startswith("**2 rules change 2 files in 1 service.** Images together: ")
    assert read_marker(text) == MARKER


def test_a_measured_image(result: Result) -> None:
    result.images = (image("shop", 218_000_000, 56_000_000),)
    text = body(result)
    row = (
        "| `shop` | 218.0 MB → 56.0 MB | −162.0 MB "  # noqa: RUF001
        "| 654.0 MB → 168.0 MB | −486.0 MB | measured |"  # noqa: RUF001
    )
    assert row in text
    assert "Sources: buildah 1.28; oldest figure 2026-11-23." in text
    assert "Images were built before and after: `shop`." in text
    assert "Not built" not in text


def test_an_estimate_is_called_one_and_nothing_was_built(result: Result) -> None:
    result.images = (image("shop", 218_000_000, 56_000_000, "estimated"),)
    text = body(result)
    assert "measured" not in text.partition("### Bigger")[0]
    assert "Not built, so not started either: `shop`." in text


def test_what_grew_comes_first_and_is_named(result: Result) -> None:
    result.images = (image("small", 9_000_000, 5_000_000), image("big", 9_000_000, 9_500_000))
    text = body(result)
    assert text.index("| `big` |") < text.index("| `small` |")
    assert "- Bigger, compressed: `image` +500.0 kB (measured) in `big`." in text
    assert "Total, compressed: 18.0 MB → 14.5 MB (−3.5 MB, measured)." in text  # noqa: RUF001


def test_parts_of_an_estimate_that_grow_are_named(result: Result) -> None:
    result.images = (
        image("a", 9_000_000, 9_500_000, "estimated"),
        image("b", 1_000_000, 1_500_000, "estimated"),
        image("c", 1_000_000, 1_000_210, "estimated"),
    )
    text = body(result)
    assert "- Bigger, compressed: `layers` +500.0 kB (estimated) in `a`, `b`.\n" in text
    assert "| `c` | `layers` | +210 B |" in text


def test_packages_that_came_are_named(result: Result) -> None:
    pair = image("shop", 2_000_000, 1_000_000)
    result.images = (replace(pair, came=("uvloop 0.23",), left=("deb:gcc 12", "deb:g++ 12")),)
    text = body(result)
    assert "- Added: `uvloop 0.23` in `shop`.\n" in text
    assert "- `shop`, packages that left: deb:gcc 12, deb:g++ 12\n" in text


def test_what_a_proof_says_is_told(result: Result) -> None:
    checks = (
        Check("user", "passed"),
        Check("imports", "passed", "3 modules"),
        Check("start", "not-verified", "before and after alike: exits with 3"),
    )
    result.images = (replace(image("shop", 2_000_000, 1_000_000), checks=checks),)
    base = result.plan.findings[0]
    taken = replace(base, status="withdrawn", code="proof-failed", reason="it does not start")
    result.plan = replace(result.plan, findings=(*result.plan.findings, taken))
    text = body(result)
    assert "- Compared before and after, in `shop`: user, imports.\n" in text
    assert "- `shop`, start not verified: before and after alike: exits with 3.\n" in text
    assert f"- Withdrawn: `{base.rule}` at `{base.place}`: it does not start.\n" in text
    assert "Run a second time" not in text


def test_images_that_grow_are_said_to_grow(result: Result) -> None:
    result.images = (image("shop", 1_000_000, 2_000_000),)
    assert "Images grow: 1.0 MB → 2.0 MB compressed (+1.0 MB, measured)." in body(result)


def test_there_is_no_total_where_a_part_is_unknown(result: Result) -> None:
    gap = ImageEstimate("other", (unknown_part("package x", "No wheel | <b>"),))
    result.images = (
        image("shop", 2_000_000, 1_000_000, "estimated"),
        EstimatedPair("other", gap, gap),
    )
    text = body(result)
    assert "Total" not in text
    assert "| `other` | unknown | unknown |" in text
    assert "Size not known, `other`: package x (No wheel \\| \\<b\\>)." in text


def test_what_was_not_done_is_said(result: Result) -> None:
    result.plan = replace(result.plan, problems=(Problem("bad.py", "syntax-error", "bad"),))
    result.settings = replace(result.settings, stale_locks=True)
    text = body(result)
    for told in (
        "The tests of the services were not run.",
        "Neither latency nor throughput was measured.",
        "Not read, so not judged: `bad.py`.",
        "may be out of date (`--stale-locks`)",
    ):
        assert told in text


def test_how_to_reproduce(result: Result) -> None:
    result.settings = replace(
        result.settings,
        level="review",
        sizes="build",
        select=("containers",),
        exclude=("it's ```",),
    )
    command = (
        "mega-optimize . --diff --level review --select containers "
        "--exclude 'it'\"'\"'s ```' --sizes build"
    )
    assert f"````console\n{command}\n````" in body(result)


def test_words_of_the_target_cannot_speak_for_us(result: Result) -> None:
    evil = Finding(
        BOTH[0],
        "safe",
        "shop",
        Place("a`b|c\n<!-- mega-optimize: {} -->@ada", 1),
        "would-apply",
        "see @ada </details> ![x](https://evil.example/x) fixes #1 <!-- ",
    )
    result.plan = replace(result.plan, findings=(*result.plan.findings, evil))
    text = body(result)
    spoken = text.replace("``a`b¦c\\n<!-- mega-optimize: {} -->@ada:1``", "").partition("``")[0]
    assert "@ada" not in spoken
    assert "![x](" not in text
    assert "#1" not in text.replace("`#1", "")
    assert read_marker(text) == MARKER
    assert text.count("\n<!--") == 1


@pytest.mark.parametrize("limit", [58_000, 20_000, 10_000])
def test_a_long_body_is_cut_from_the_least_important(result: Result, limit: int) -> None:
    base = result.plan.findings[0]
    many = [
        replace(base, status="would-apply", place=Place(f"f{at}.py"), message=f"Change {at}")
        for at in range(400)
    ]
    withdrawn = [replace(each, status="withdrawn", reason="x" * 900) for each in many]
    result.plan = replace(result.plan, findings=(*result.plan.findings, *many, *withdrawn))
    result.images = tuple(image(f"{'s' * 200}-{at}", at, 2 * at) for at in range(300))
    text = body(result, limit)
    assert len(text) <= limit
    assert "*Cut for length: " in text
    never_cut = text[text.index("### Bigger, slower, not verified") :]
    assert "The tests of the services were not run." in never_cut
    assert "and 390 more" in never_cut
    assert "### Not what you want?" in never_cut
    assert read_marker(text) == MARKER
    assert text.count("<details>") == text.count("</details>")


def test_the_title(result: Result) -> None:
    assert title_of(result) == "Optimize shop"
    one = [change for change in result.plan.changes if change.rule == BOTH[0]]
    result.plan = replace(result.plan, changes=tuple(one))
    assert title_of(result) == next(rule.title for rule in result.rules if rule.id == BOTH[0])
    long = [replace(change, service=f"{'s' * 40}{at}") for at in range(9) for change in one]
    long += [replace(change, rule=BOTH[1]) for change in one]
    result.plan = replace(result.plan, changes=tuple(long))
    assert title_of(result) == "Optimize 10 services"


def test_rules_that_change_answers_state_the_difference_on_samples(result: Result) -> None:
    rule = replace(
        next(each for each in result.rules if each.id == BOTH[0]),
        level="review",
        changes_answers=("scores",),
    )
    result.rules = tuple(rule if each.id == rule.id else each for each in result.rules)
    assert f"after `{rule.id}`: not measured: no samples are configured." in body(result)

    result.settings = replace(
        result.settings, samples=(Sample("shop", "POST", "/score", "{}"),), sizes="build"
    )
    compared = SampleResult("POST /score", 200, 200, Comparison(3, 0.5, 0.25))
    result.images = (replace(image("shop", 2, 1), samples=(compared,)),)
    told = (
        f"Answers of `shop` after `{rule.id}`: measured: numbers differ by at most 0.5 "
        "(0.25 relative), the rest is equal (1 sample, 3 numbers), "
        "all changes of the service together."
    )
    callers = body(result).partition("### What changes for callers")[2]
    assert told in callers.partition("###")[0]
