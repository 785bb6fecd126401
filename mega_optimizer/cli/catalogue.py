"""``mega-optimize rules`` and ``mega-optimize explain RULE``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def rules(
    output_format: Annotated[
        Literal["text", "json"], typer.Option("--format", help="How to print the rules.")
    ] = "text",
) -> None:
    """List all rules with their levels."""
    from mega_optimizer.rules import load_rules

    loaded = sorted(load_rules(), key=lambda rule: rule.id)
    if output_format == "json":
        import json

        listed = [{"id": rule.id, "level": rule.level, "title": rule.title} for rule in loaded]
        typer.echo(json.dumps(listed, indent=2))
        return
    width = max((len(rule.id) for rule in loaded), default=0)
    for rule in loaded:
        typer.echo(f"{rule.id:{width}}  {rule.level:6}  {rule.title}")


def explain(
    name: Annotated[str, typer.Argument(metavar="RULE", help="The id of a rule.")],
    examples: Annotated[
        int, typer.Option(min=0, help="How many examples to show of either kind.")
    ] = 4,
) -> None:
    """Say what a rule does, why its level, when it applies, and show examples."""
    from mega_optimizer.errors import UnknownRuleError
    from mega_optimizer.report.rule_page import rule_page
    from mega_optimizer.rules import load_rules, unknown_rule

    loaded = load_rules()
    rule = next((rule for rule in loaded if rule.id == name), None)
    listed = sorted(rule.id for rule in loaded if rule.category == name)
    if listed:
        raise UnknownRuleError(f"{name} is a category; its rules are {', '.join(listed)}")
    if rule is None:
        raise UnknownRuleError(unknown_rule(name, loaded))
    typer.echo(rule_page(rule, examples), nl=False)
