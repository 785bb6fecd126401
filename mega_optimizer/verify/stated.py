"""What a review rule that changes answers can say of the difference: measured, or why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.verify.samples import largest, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.pipeline import Result
    from mega_optimizer.rules import Rule
    from mega_optimizer.verify.answers import Comparison


@dataclass(frozen=True, slots=True)
class Stated:
    """The difference between the answers of a service in words; measured where it is compared.

    ``samples`` is how many requests were compared.
    """

    words: str
    samples: int = 0
    comparison: Comparison | None = None


def stated_difference(result: Result, rule: Rule, service: str) -> Stated | None:
    """Return what is known of the answers of ``service`` with ``rule`` applied.

    None for rules that say of themselves that they change none, or that are not of level review.
    """
    if rule.level != "review" or not rule.changes_answers:
        return None
    if not any(each.service == service for each in result.settings.samples):
        return Stated("not measured: no samples are configured")
    if result.settings.sizes != "build":
        return Stated("not measured: samples are asked with --sizes build")
    pair = next((each for each in result.images if each.service == service), None)
    samples = pair.samples if pair is not None else ()
    comparison = largest(samples)
    if not samples or comparison is None:
        return Stated(f"not measured: {summary(samples) or 'its image was not started'}")
    compared = sum(each.comparison is not None for each in samples)
    together = ", all changes of the service together" if _several(result, service) else ""
    return Stated(f"measured: {summary(samples)}{together}", compared, comparison)


def stated_differences(result: Result) -> Iterator[tuple[Rule, str, Stated]]:
    """Yield (rule, service, what is known) for every change that may change answers."""
    rules = {rule.id: rule for rule in result.rules}
    for rule, service in dict.fromkeys((each.rule, each.service) for each in result.plan.changes):
        stated = stated_difference(result, rules[rule], service)
        if stated is not None:
            yield rules[rule], service, stated


def _several(result: Result, service: str) -> bool:
    return len({each.rule for each in result.plan.changes if each.service == service}) > 1
