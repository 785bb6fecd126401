"""Every example of every rule: what it says happens, once, and touches nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mega_optimizer.engine.plan import Options, Plan
from mega_optimizer.engine.planner import make_plan
from mega_optimizer.engine.syntax import still_parses
from mega_optimizer.examples import Example, read_examples
from mega_optimizer.repository.files import Files
from mega_optimizer.repository.scan import scan
from mega_optimizer.rules import Rule, load_rules

RULES = load_rules()
EXAMPLES = [
    pytest.param(rule, example, id=f"{rule.id}:{example.name}")
    for rule in RULES
    for example in read_examples(rule.folder)
]

ADVICE = [
    pytest.param(rule, example, id=f"{rule.id}:{example.name}")
    for rule in RULES
    if rule.level == "advice"
    for example in read_examples(rule.folder)
    if example.expect in ("applied", "advised")
]


def plan_alone(rule: Rule, files: Files) -> Plan:
    """Plan with ``rule`` alone; the patch of a rule of level advice is tried as a change."""
    if rule.level == "advice":
        rule = replace(rule, level="review")
    options = Options(named=frozenset({rule.id}), propagate_errors=True)
    return make_plan(files, scan(files, "example"), [rule], options)


@pytest.mark.parametrize(("rule", "example"), EXAMPLES)
def test_example_does_what_it_says(rule: Rule, example: Example) -> None:
    plan = plan_alone(rule, example.files)
    changed = {path: after for path, (_, after) in plan.changed().items()}
    told = [f"{each.place} {each.status} {each.code} {each.reason}" for each in plan.findings]
    told += [f"{problem.path}: {problem.code} {problem.message}" for problem in plan.problems]

    assert changed == dict(example.after), told
    if example.expect == "nothing":
        assert not plan.findings
    elif example.expect == "advised":
        assert "no-edit" in {each.code for each in plan.findings}, told
    elif example.expect == "skipped":
        assert example.code in {each.code for each in plan.findings}, told
    else:
        status = "would-apply" if example.expect == "applied" else "suppressed"
        assert status in {each.status for each in plan.findings}, told


@pytest.mark.parametrize(("rule", "example"), EXAMPLES)
def test_second_run_changes_nothing(rule: Rule, example: Example) -> None:
    first = plan_alone(rule, example.files)
    second = plan_alone(rule, first.result)
    assert not second.changed()


@pytest.mark.parametrize(("rule", "example"), EXAMPLES)
def test_result_parses(rule: Rule, example: Example) -> None:
    for path, (before, after) in plan_alone(rule, example.files).changed().items():
        assert still_parses(path, None, after), f"{path} was {before!r}"


@pytest.mark.parametrize(("rule", "example"), ADVICE)
def test_advice_is_given_and_never_followed(rule: Rule, example: Example) -> None:
    named = Options(level="review", named=frozenset({rule.id}), propagate_errors=True)
    plan = make_plan(example.files, scan(example.files, "example"), [rule], named)
    assert not plan.changed()
    advised = [each for each in plan.findings if each.status == "above-level"]
    assert advised
    patched = {path: after for each in advised for path, _, after in each.advised}
    assert patched.keys() == example.after.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_rule_has_more_examples_that_must_not_fire(rule: Rule) -> None:
    expectations = [example.expect for example in read_examples(rule.folder)]
    fires = expectations.count("applied") + expectations.count("advised")
    assert fires >= 3
    assert len(expectations) - fires > fires


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_rule_shows_that_a_suppression_is_honoured(rule: Rule) -> None:
    assert "suppressed" in [example.expect for example in read_examples(rule.folder)]
