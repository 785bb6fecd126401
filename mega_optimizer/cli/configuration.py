"""``mega-optimize config check``: say what the configuration asks for, or what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at the configuration.", rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Look at the configuration."""


@app.command()
def check(
    repository: Annotated[Path, typer.Argument(metavar="REPO", readable=False)] = Path(),
) -> None:
    """Check the configuration of REPO and print the settings that it gives."""
    from dataclasses import fields

    from mega_optimizer.config import read_settings
    from mega_optimizer.pipeline import (
        check_services,
        read_target,
        selected_rules,
        target_folder,
    )

    root = target_folder(repository)
    settings = read_settings(root)
    selected = selected_rules(settings)
    if settings.services or settings.samples:
        check_services(settings, read_target(root)[1])
    typer.echo(f"from {settings.source}:")
    for each in fields(settings):
        if each.name != "source":
            typer.echo(f"  {each.name.replace('_', '-')}: {_shown(getattr(settings, each.name))}")
    typer.echo("rules that run:")
    for rule in selected:
        typer.echo(f"  {rule.id} ({rule.level})")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_shown(each)}" for key, each in value.items()) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
