"""``mega-optimize [REPO]``: rewrite, print the diff, or check."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO

    from mega_optimizer.pipeline import Mode, Request, Result

MEASURING_FAILED = 3


def optimize(
    repository: Annotated[
        Path,
        typer.Argument(metavar="REPO", readable=False, help="The repository to optimize."),
    ] = Path(),
    diff: Annotated[
        bool, typer.Option("--diff", help="Print the unified diff; write nothing.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit with 1 if something would change."),
    ] = False,
    level: Annotated[
        Literal["safe", "review"] | None,
        typer.Option(help="The least certain rules to apply (default: safe)."),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="Run only these rules or categories."),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="Leave out these rules or categories.")
    ] = None,
    service: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Change only these services.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Leave these files alone (as in .gitignore)."),
    ] = None,
    pr: Annotated[
        bool,
        typer.Option("--pr", help="Open or update a pull request; leave the working tree alone."),
    ] = False,
    draft: Annotated[bool, typer.Option("--draft", help="With --pr: open it as a draft.")] = False,
    signoff: Annotated[
        bool, typer.Option("--signoff", help="With --pr: sign the commits off (DCO).")
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(metavar="BRANCH", help="With --pr: merge into BRANCH (default: the default)."),
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --pr: the remote to publish to (default: origin)."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --pr: use the branch mega-optimize/NAME."),
    ] = None,
    sizes: Annotated[
        Literal["auto", "build", "estimate", "off"] | None,
        typer.Option(
            help="How to find image sizes (default: auto, which estimates). "
            "build runs the target's Dockerfiles, and starts and proves the images."
        ),
    ] = None,
    output_format: Annotated[
        Literal["text", "json"], typer.Option("--format", help="How to print the result.")
    ] = "text",
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result there, not to stdout.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask a package index.")] = False,
    stale_locks: Annotated[
        bool,
        typer.Option("--stale-locks", help="Apply fixes whose lock file cannot be refreshed."),
    ] = False,
    allow_dirty: Annotated[
        bool,
        typer.Option("--allow-dirty", help="Write files with uncommitted changes, or without git."),
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Do not reuse answers of the package index.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a file could not be read.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every place and reason.")
    ] = False,
) -> None:
    """Rewrite the working tree of REPO: tracked files without uncommitted changes only."""
    from mega_optimizer.config import read_settings
    from mega_optimizer.pipeline import Request, run, target_folder

    if output == Path("-"):
        output = None
    if output is not None:
        _check_writable(output)
    _check_pull_request_options(
        pr, diff or check or allow_dirty, [draft, signoff, base, remote, group]
    )
    root = target_folder(repository)
    mode: Mode = "diff" if diff else "check" if check or pr else "rewrite"

    def analyse(folder: Path) -> Result:
        settings = read_settings(folder).overridden(
            level=level,
            select=_listed(select),
            ignore=_listed(ignore),
            services=_listed(service),
            exclude=_listed(exclude),
            sizes=sizes,
            offline=offline,
            stale_locks=stale_locks,
        )
        request = Request(
            root=folder,
            settings=settings,
            mode=mode,
            allow_dirty=allow_dirty,
            use_cache=not no_cache,
            clone_of=root if pr else None,
        )
        return _with_progress(request, run)

    if pr:
        from mega_optimizer.publish.run import run_and_publish
        from mega_optimizer.publish.wishes import Wishes

        wishes = Wishes(base=base, group=group, draft=draft, signoff=signoff)
        result = run_and_publish(root, analyse, wishes, remote or "origin", os.environ, _tell)
    else:
        result = analyse(root)
    _write(result, output_format, output, verbose)
    if (check and result.plan.changes) or (strict and result.plan.problems):
        raise typer.Exit(1)
    if result.settings.sizes == "build" and any(pair.after.unknown for pair in result.images):
        raise typer.Exit(MEASURING_FAILED)


def _check_pull_request_options(pr: bool, other_mode: bool, given: Iterable[object]) -> None:
    from mega_optimizer.errors import UserError

    if pr and other_mode:
        raise UserError("--pr goes with none of --diff, --check and --allow-dirty")
    if not pr and any(given):
        raise UserError("--draft, --signoff, --base, --remote and --group need --pr")


def _tell(message: str) -> None:
    typer.echo(f"mega-optimize: {message}", err=True)


def _check_writable(output: Path) -> None:
    """Refuse a run whose result could not be written, before it changes anything."""
    from mega_optimizer.errors import UserError

    if os.path.isdir(output):
        raise UserError(f"{output} cannot be written: it is a folder")
    if not os.path.isdir(output.parent):
        raise UserError(f"{output} cannot be written: there is no folder {output.parent}")
    if not os.access(output if os.path.exists(output) else output.parent, os.W_OK):
        raise UserError(f"{output} cannot be written: permission denied")


def _listed(given: Iterable[str] | None) -> tuple[str, ...]:
    """Split ``a,b`` and repeated options into single values."""
    return tuple(part for each in given or () for part in each.split(",") if part)


def _with_progress(request: Request, run: Callable[[Request], Result]) -> Result:
    """Run ``request``, naming the step on stderr while it lasts, on a terminal only."""
    if not sys.stderr.isatty():
        return run(request)
    from dataclasses import replace

    from rich.console import Console

    with Console(stderr=True).status("") as status:
        return run(replace(request, progress=lambda step: status.update(step)))


def _write(result: Result, output_format: str, output: Path | None, verbose: bool) -> None:
    if output_format == "json":
        from mega_optimizer.report.machine import as_json

        _emit(as_json(result).encode(), output, sys.stdout)
    elif result.mode == "diff":
        from mega_optimizer.report.diff import diff_of

        patch = diff_of(result.plan.changed())
        _emit(patch.encode("utf-8", "surrogateescape"), output, sys.stdout)
        _report(result, None, verbose)
    else:
        _report(result, output, verbose)


def _emit(content: bytes, output: Path | None, stream: TextIO) -> None:
    """Write ``content`` to ``output``, else to ``stream``."""
    from mega_optimizer.errors import UserError

    try:
        if output is not None:
            output.write_bytes(content)
        else:
            stream.buffer.write(content)
            stream.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if output is None:
            _abandon(stream)
        name = output or "the result"
        raise UserError(f"{name} cannot be written: {error.strerror}") from error


def _abandon(stream: TextIO) -> None:
    """Let what is left in the buffer of ``stream`` go nowhere when the interpreter exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())


def _report(result: Result, output: Path | None, verbose: bool) -> None:
    """Print the report: to stdout, to ``output``, or beside a diff to stderr."""
    from rich.console import Console

    from mega_optimizer.report.terminal import as_text, print_result
    from mega_optimizer.report.words import printable

    stream = sys.stderr if result.mode == "diff" else sys.stdout
    console = Console(file=stream, highlight=False)
    if output is None and console.is_terminal:
        print_result(result, console, verbose)
    else:
        encoding = "utf-8" if output is not None else stream.encoding
        text = as_text(result, verbose)
        _emit(text.encode(encoding, "backslashreplace"), output, stream)
    for warning in result.warnings:
        typer.echo(f"mega-optimize: {printable(warning)}", err=True)
