"""The Typer application: ``mega-optimize REPO`` is short for ``mega-optimize optimize REPO``."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from mega_optimizer import __version__
from mega_optimizer.cli import catalogue, configuration, hook, optimize, why_not
from mega_optimizer.errors import UserError
from mega_optimizer.report.words import printable

app = typer.Typer(
    name="mega-optimize",
    help="Rewrite repositories of Python services for speed and size.",
    epilog=(
        "mega-optimize REPO is short for mega-optimize optimize REPO; "
        "mega-optimize optimize --help lists its options."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("optimize")(optimize.optimize)
app.command("rules")(catalogue.rules)
app.command("explain")(catalogue.explain)
app.command("why-not")(why_not.why_not)
app.command("hook")(hook.hook)
app.add_typer(configuration.app, name="config")

COMMANDS = frozenset({"optimize", "rules", "explain", "why-not", "hook", "config"})
INTERRUPTED = 130


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mega-optimize {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Rewrite repositories of Python services for speed and size."""


def run(arguments: list[str]) -> int:
    """Run the command line on ``arguments`` and return its exit status."""
    _prepare_streams()
    if not arguments:
        arguments = ["optimize", "."]
    elif arguments[0] not in COMMANDS and not _asks_for_the_overview(arguments):
        arguments = ["optimize", *arguments]
    try:
        app(args=arguments, prog_name="mega-optimize")
    except UserError as error:
        typer.echo(f"mega-optimize: {' '.join(printable(str(error)).split())}", err=True)
        return error.exit_status
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        if status == INTERRUPTED:
            typer.echo("mega-optimize: interrupted", err=True)
        return status
    return 0


def _prepare_streams() -> None:
    """Let a closed stream lead nowhere, and escape what the encoding of a stream cannot say."""
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _asks_for_the_overview(arguments: list[str]) -> bool:
    return len(arguments) == 1 and arguments[0] in ("--help", "-h", "--version", "-V")
