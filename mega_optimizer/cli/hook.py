"""``mega-optimize hook FILES…``: rewrite what is about to be committed, for pre-commit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer


def hook(
    files: Annotated[list[Path], typer.Argument(metavar="FILES…", help="The files to look at.")],
    level: Annotated[
        Literal["safe", "review"] | None, typer.Option(help="The least certain rules to apply.")
    ] = None,
) -> None:
    """Rewrite FILES where rules apply and exit with 1 if something changed.

    It never asks a package index, and leaves files alone that are not as they were staged.
    """
    from dataclasses import replace

    from mega_optimizer.config import read_settings
    from mega_optimizer.errors import UserError
    from mega_optimizer.pipeline import Request, run, target_folder
    from mega_optimizer.repository.git_index import find_checkout

    checkout = find_checkout(target_folder(Path()))
    if checkout is None:
        raise UserError("a hook runs inside a git checkout, and this is none")
    settings = read_settings(checkout.top).overridden(level=level)
    only = frozenset(_inside(path, checkout.top) for path in files)
    result = run(
        Request(
            root=checkout.top,
            settings=replace(settings, sizes="off", offline=True),
            mode="rewrite",
            allow_staged=True,
            only=only,
        )
    )
    for problem in result.plan.problems:
        if problem.path in only:
            _tell(f"{problem.path}:{problem.line}: {problem.message}", err=True)
    for finding in result.plan.findings:
        if finding.status == "would-apply":
            _tell(f"{finding.place}: {finding.rule}: {finding.message}")
        elif finding.code == "uncommitted-changes":
            _tell(f"left alone: {finding.place}: {finding.rule}: {finding.reason}", err=True)
    if result.plan.changes:
        changed = result.plan.changed()
        new = [path for path, (before, _) in changed.items() if before is None]
        _tell(f"changed {', '.join(path for path in changed if path not in new) or 'nothing'}")
        if new:
            _tell(f"created {', '.join(new)}")
        _tell("look at it, stage it and commit again")
        raise typer.Exit(1)


def _tell(line: str, err: bool = False) -> None:
    from mega_optimizer.report.words import printable

    typer.echo(printable(line), err=err)


def _inside(path: Path, root: Path) -> str:
    from mega_optimizer.errors import UserError
    from mega_optimizer.pipeline import target_folder

    absolute = target_folder(path.parent) / path.name
    if not os.path.lexists(absolute):
        raise UserError(f"{path} does not exist")
    if not absolute.is_relative_to(root):
        raise UserError(f"{path} does not lie in {root}")
    return absolute.relative_to(root).as_posix()
