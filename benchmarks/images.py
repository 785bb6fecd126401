"""Build the images of repositories before and after, prove them, and print the table.

    python -m benchmarks.images                                    the sample repository
    python -m benchmarks.images /path/to/checkout /other:service   checkouts, or one service of one

Needs root and buildah. Bases are the stand-ins of ``tests/bases``, made where they are missing; a
base that has none is fetched from its registry, or the row says that it was unreachable.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from mega_optimizer.codemods.context import Context
from mega_optimizer.config import Settings
from mega_optimizer.measure.bases import base_size
from mega_optimizer.measure.builders.choose import ENVIRONMENT, VOLUMES
from mega_optimizer.measure.images import ImagePair
from mega_optimizer.pipeline import Request, Result, run
from mega_optimizer.repository.dockerfile import root_image, shipping_stage
from mega_optimizer.repository.place import Problem
from tests.bases.available import require_base, volumes_for_pip
from tests.bases.stand_in import DEFAULT, REPOSITORY, is_stand_in, make

SAMPLE = Path(__file__).resolve().parent.parent / "fixtures" / "sample_repo"
SAMPLE_ENVIRONMENT = "DATABASE_URL=sqlite:////tmp/sample.db"
HEAD = (
    "| service | base before → after | compressed | on disk | proof | withdrawn |\n"
    "|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One image of the table; sizes are (before, after) in bytes, None where it was not built."""

    name: str
    bases: str
    compressed: tuple[int, int] | None
    on_disk: tuple[int, int] | None
    proof: str
    withdrawn: str


def main() -> None:
    parser = argparse.ArgumentParser(description="Image sizes before and after, measured.")
    parser.add_argument("targets", nargs="*", help="FOLDER or FOLDER:SERVICE; none: the sample")
    parser.add_argument("--level", choices=("safe", "review"), default="safe")
    parser.add_argument("--select", action="append", default=[], metavar="RULE")
    parser.add_argument("--interpreter", type=Path, action="append", default=[], metavar="PREFIX")
    parser.add_argument("--output", type=Path, help="write the page there as well")
    arguments = parser.parse_args()
    for tag in DEFAULT:
        require_base(tag)
    for prefix in arguments.interpreter:
        version = next((prefix / "lib").glob("python3.*")).name.removeprefix("python")
        for tag in (f"{version}-slim", version):
            make(tag, prefix)
    os.environ.setdefault(VOLUMES, volumes_for_pip())
    settings = Settings(level=arguments.level, select=tuple(arguments.select), sizes="build")
    sections = []
    with sample() as folder:
        os.environ[ENVIRONMENT] = SAMPLE_ENVIRONMENT
        sections.append(section("The sample repository", [(folder, "")], settings))
    del os.environ[ENVIRONMENT]
    if arguments.targets:
        targets = [split(target) for target in arguments.targets]
        sections.append(section("Public repositories", targets, settings))
    page = "\n".join([*sections, bases_table()])
    print(page)
    if arguments.output:
        introduction, mark, _ = arguments.output.read_text().partition("<!-- measured -->\n")
        arguments.output.write_text(f"{introduction}{mark}{page}")


@contextmanager
def sample() -> Iterator[Path]:
    """Give a copy of the sample repository as a git checkout."""
    with tempfile.TemporaryDirectory(prefix="images-") as name:
        folder = Path(name) / "sample"
        shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
        for command in (
            ["init", "--quiet", "--initial-branch=main"],
            ["add", "--all"],
            ["commit", "--quiet", "--message", "Sample"],
        ):
            subprocess.run(
                ["git", *identity, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL
            )
        yield folder


def split(target: str) -> tuple[Path, str]:
    folder, _, service = target.partition(":")
    return Path(folder), service


def section(title: str, targets: Sequence[tuple[Path, str]], settings: Settings) -> str:
    """Run all targets and return their table with its total."""
    rows: list[Row] = []
    start = time.monotonic()
    for folder, service in targets:
        services = (service,) if service else ()
        result = run(Request(folder, replace(settings, services=services), "diff"))
        label = "" if len(targets) == 1 else f"{folder.name.replace('+', '/')}: "
        found = [row(pair, result, label) for pair in result.images]
        rows += found or [Row(f"{label}{service}", "", None, None, "nothing to change", "")]
        for each in found:
            print(line(each), flush=True)
    built = [each for each in rows if each.compressed and each.on_disk]
    lines = [line(each) for each in rows]
    if built:
        lines.append(
            f"| **total of {len(built)} built** | | {change(total(built, 'compressed'))} "
            f"| {change(total(built, 'on_disk'))} | | |"
        )
    about = f"Measured {datetime.now(UTC).date()}, {time.monotonic() - start:.0f} s."
    return f"## {title}\n\n{about}\n\n{HEAD}" + "\n".join(lines) + "\n"


def row(pair: ImagePair, result: Result, label: str) -> Row:
    verdicts = [check.verdict for check in pair.checks]
    others = [
        f"{check.name} {check.verdict.replace('-', ' ')}: {check.detail}"
        for check in pair.checks
        if check.verdict != "passed"
    ]
    if pair.before.unknown:
        proof = f"before {pair.before.unknown[0]}"
    elif not others:
        proof = f"all {len(verdicts)} checks passed" if verdicts else "as before"
    else:
        proof = "; ".join([f"{verdicts.count('passed')} passed", *others])
    withdrawn = {
        f"{each.rule}: {each.reason}"
        for each in result.plan.findings
        if each.status == "withdrawn" and each.service == pair.service
    }
    return Row(
        f"{label}{pair.service}",
        bases(pair, result),
        sizes(pair.before.bytes_compressed, pair.after.bytes_compressed),
        sizes(pair.before.bytes_on_disk, pair.after.bytes_on_disk),
        cell(proof),
        cell("; ".join(sorted(withdrawn))) or "none",
    )


def bases(pair: ImagePair, result: Result) -> str:
    service = next(s for s in result.plan.repository.services if s.name == pair.service)
    names = []
    for files in (result.plan.result.base, result.plan.result):
        parsed = Context(service, files).dockerfile(service.dockerfile or "")
        stage = None if isinstance(parsed, Problem) else shipping_stage(parsed, service.stage)
        if not isinstance(parsed, Problem) and stage is not None:
            names.append(root_image(parsed, stage) or "unknown")
    return " → ".join(dict.fromkeys(names))


def sizes(before: int | None, after: int | None) -> tuple[int, int] | None:
    return None if before is None or after is None else (before, after)


def total(rows: Sequence[Row], name: str) -> tuple[int, int]:
    pairs = [getattr(each, name) for each in rows]
    return sum(before for before, _ in pairs), sum(after for _, after in pairs)


def line(row: Row) -> str:
    cells = (row.name, row.bases, change(row.compressed), change(row.on_disk), row.proof)
    return f"| {' | '.join((*cells, row.withdrawn))} |"


def change(pair: tuple[int, int] | None) -> str:
    if pair is None:
        return "not built"
    before, after = pair
    percent = 100 * (after - before) / before
    return f"{before / 1e6:.1f} → {after / 1e6:.1f} MB ({percent:+.0f} %)"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def bases_table() -> str:
    """Return the stand-ins beside the published sizes of the images whose names they have."""
    lines = ["## The bases", ""]
    lines += ["| image | here | stand-in, on disk | published, compressed | published, on disk |"]
    lines += ["|---|---|---|---|---|"]
    for tag in ("3.11", "3.11-slim", "3.10", "3.10-slim", "3.9", "3.9-slim"):
        ours = is_stand_in(f"{REPOSITORY}:{tag}")
        if ours is None:
            continue
        size = base_size(f"python:{tag}")
        published = [figure.value for figure in (size.compressed, size.on_disk)]
        shown = [f"{value / 1e6:.1f} MB" if value else "unknown" for value in published]
        kind = "stand-in" if ours else "pulled"
        lines.append(f"| python:{tag} | {kind} | {local_size(tag)} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def local_size(tag: str) -> str:
    listed = subprocess.run(
        ["buildah", "images", "--format", "{{.Size}}", f"{REPOSITORY}:{tag}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split("\n")[0]


if __name__ == "__main__":
    main()
