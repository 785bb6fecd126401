"""Build the images of repositories before and after, prove them, and print the table.

    python -m benchmarks.images                             the sample repository
    python -m benchmarks.images /a/checkout /other:service  checkouts, or one service of one
    python -m benchmarks.images --trees FOLDER              the sample and all trial repositories

Needs root and buildah. Bases are the stand-ins of ``tests/bases``, made where they are missing; a
base that has none is fetched from its registry, or the row says that it was unreachable. Rows are
kept in the file beside the page (``--output``), so that a run renews only what it measures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.images.index import index_stand_in
from benchmarks.images.measure import Target, measure
from benchmarks.images.page import page
from benchmarks.images.row import Row, row_from
from mega_optimizer.config import Settings
from mega_optimizer.measure.builders.choose import ENVIRONMENT, STORE, VOLUMES
from tests.bases.available import require_base, volumes_for_pip
from tests.bases.stand_in import DEFAULT, make

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "fixtures" / "sample_repo"
SAMPLE_ENVIRONMENT = "DATABASE_URL=sqlite:////tmp/sample.db"
MARK = "<!-- measured -->\n"
# What is left out, and why: it stands in the table with its reason.
_MODEL = "the build downloads a model from a hub that is not reached, after 2.7 GB of PyTorch"
_SLOW = (
    "PyTorch with CUDA, 6 GB on disk: too long to compress twice on the two cores that were shared"
)
NOT_TRIED = {
    "sample": {"image-generation": _SLOW, "moderation": _SLOW},
    "Yunpei24+fraud-detection-ml": {"training": _SLOW},
    "weaviate+t2v-transformers-models": {
        "weaviate+t2v-transformers-models": _MODEL,
        "weaviate+t2v-transformers-models-auth": _MODEL,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Image sizes before and after, measured.")
    parser.add_argument("targets", nargs="*", help="FOLDER or FOLDER:SERVICE; none: the sample")
    parser.add_argument("--trees", type=Path, help="folder with all trial repositories")
    parser.add_argument("--level", choices=("safe", "review"), default="safe")
    parser.add_argument("--select", action="append", default=[], metavar="RULE")
    parser.add_argument("--interpreter", type=Path, action="append", default=[], metavar="PREFIX")
    parser.add_argument("--wheels", type=Path, help="folder with wheels of PyTorch for the CPU")
    parser.add_argument("--store", type=Path, help="folder that keeps the layers for the next run")
    parser.add_argument("--no-rebuilds", action="store_true", help="do not time rebuilds")
    parser.add_argument("--output", type=Path, help="write the page there as well")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page")
    arguments = parser.parse_args()
    kept = arguments.output.with_suffix(".json") if arguments.output else None
    rows = _read(kept)
    if not arguments.render:
        _prepare(arguments.interpreter)
        with _index(arguments.wheels):
            for row in _measured(arguments):
                print(row.title, row.state, row.reason or row.proof, flush=True)
                rows[row.key] = _with_timings(row, rows.get(row.key))
                _write(kept, rows)
    text = page(list(rows.values()))
    print(text)
    if arguments.output:
        given = arguments.output.read_text() if arguments.output.exists() else MARK
        introduction, mark, _ = given.partition(MARK)
        arguments.output.write_text(f"{introduction}{mark}{text}")


def _measured(arguments: argparse.Namespace) -> Iterator[Row]:
    settings = Settings(level=arguments.level, select=tuple(arguments.select), sizes="build")
    for target in _targets(arguments.targets, arguments.trees):
        with tempfile.TemporaryDirectory(prefix="images-store-") as folder:
            os.environ[STORE] = str((arguments.store or Path(folder)) / target.name)
            os.environ[ENVIRONMENT] = SAMPLE_ENVIRONMENT if target.name == "sample" else ""
            yield from measure(target, settings, not arguments.no_rebuilds)


@contextmanager
def _index(wheels: Path | None) -> Iterator[None]:
    """Let builds find the stand-in of the index, unless the user says what they mount."""
    if VOLUMES in os.environ:
        yield
        return
    with index_stand_in(wheels) as volumes:
        os.environ[VOLUMES] = volumes_for_pip(volumes)
        yield


def _with_timings(row: Row, known: Row | None) -> Row:
    """Keep the times of an earlier run where this one took none and the rules are the same."""
    if row.rebuild is None and known is not None and known.rules == row.rules:
        return replace(row, rebuild=known.rebuild)
    return row


def _prepare(interpreters: list[Path]) -> None:
    for tag in DEFAULT:
        require_base(tag)
    for prefix in interpreters:
        version = next((prefix / "lib").glob("python3.*")).name.removeprefix("python")
        for tag in (f"{version}-slim", version):
            make(tag, prefix)


def _targets(given: list[str], trees: Path | None) -> Iterator[Target]:
    if not given or trees:
        with sample() as folder:
            yield Target("sample", folder, (), tuple(NOT_TRIED["sample"].items()))
    for text in given:
        name, _, service = text.partition(":")
        yield _target(Path(name), (service,) if service else ())
    for folder in sorted(trees.iterdir()) if trees else ():
        if folder.is_dir():
            yield _target(folder, ())


def _target(folder: Path, services: tuple[str, ...]) -> Target:
    return Target(folder.name, folder, services, tuple(NOT_TRIED.get(folder.name, {}).items()))


def _read(path: Path | None) -> dict[str, Row]:
    if path is None or not path.exists():
        return {}
    return {row.key: row for row in map(row_from, json.loads(path.read_text()))}


def _write(path: Path | None, rows: dict[str, Row]) -> None:
    if path is not None:
        data = [row.as_data() for _, row in sorted(rows.items())]
        path.write_text(f"{json.dumps(data, indent=1)}\n")


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


if __name__ == "__main__":
    main()
