"""``mega-optimize why-not PATH``: for each rule, why it changes nothing in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.engine.plan import Finding, Plan
    from mega_optimizer.rules import Rule


def why_not(
    path: Annotated[Path, typer.Argument(readable=False, help="A file of the repository.")],
    repository: Annotated[
        Path | None,
        typer.Option(
            "--repository", help="The repository (default: the git checkout around PATH)."
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask a package index.")] = False,
) -> None:
    """Say for each rule what it would change in PATH, or why it changes nothing there."""
    from mega_optimizer.config import read_settings
    from mega_optimizer.errors import UserError
    from mega_optimizer.pipeline import Request, run, target_folder
    from mega_optimizer.report.words import printable

    if not os.path.isfile(path):
        raise UserError(f"{path} is not a file")
    absolute = target_folder(path.parent) / path.name
    root = target_folder(repository) if repository else _checkout_around(absolute)
    if not absolute.is_relative_to(root):
        raise UserError(f"{path} does not lie in {root}")
    inside = absolute.relative_to(root).as_posix()
    settings = read_settings(root).overridden(level="review", sizes="off", offline=offline)
    result = run(Request(root=root, settings=settings))
    typer.echo(printable("\n".join(_answers(result.plan, result.rules, inside))))


def _checkout_around(path: Path) -> Path:
    from mega_optimizer.errors import UserError
    from mega_optimizer.repository.git_index import find_checkout

    checkout = find_checkout(path.parent)
    if checkout is None:
        raise UserError(
            f"{path} lies in no git checkout: say where its repository is, --repository"
        )
    return checkout.top


def _answers(plan: Plan, rules: tuple[Rule, ...], path: str) -> Iterator[str]:
    problems = [problem for problem in plan.problems if problem.path == path]
    yield from (f"{path}: {problem.code}: {problem.message}" for problem in problems)
    owners = [
        service.name
        for service in plan.repository.services
        if path in (service.dockerfile, *service.manifests, *service.modules)
    ]
    deployed = [
        service.name
        for service in plan.repository.services
        if any(each.place.path == path for each in service.deployments)
    ]
    owners = list(dict.fromkeys([*owners, *deployed]))
    along = [change for change in plan.changes if path in change.paths]
    if not owners and not along:
        yield f"{path} belongs to no service, so no rule looks at it"
        return
    yield f"{path} belongs to {', '.join(owners or dict.fromkeys(each.service for each in along))}"
    for rule in rules:
        yield f"{rule.id} ({rule.level})"
        found = [each for each in plan.findings if each.rule == rule.id and each.place.path == path]
        yield from dict.fromkeys(
            f"  line {finding.place.line}: {_verdict(finding)}"
            for finding in sorted(found, key=lambda finding: finding.place)
        )
        if found:
            continue
        touching = [each for each in plan.changes if each.rule == rule.id and path in each.paths]
        if touching:
            yield "  would change it along with a finding in another file"
        for service in owners if not touching else ():
            idle = plan.idle.get((rule.id, service), "nothing to do was found in this file")
            yield f"  {service}: {idle}"


def _verdict(finding: Finding) -> str:
    if finding.status == "would-apply":
        return f"would change ({finding.level}): {finding.message}"
    code = "" if finding.code == finding.status else f" {finding.code}"
    return f"{finding.status}{code}: {finding.reason or finding.message}"
