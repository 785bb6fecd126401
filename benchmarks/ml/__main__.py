"""Measure what the rules about models win on this machine: one command, one table.

    make bench-ml                                all cases; a GPU adds its rows
    python -m benchmarks.ml ml/int8 ml/threads   the cases of some rules

The models are made here with random weights: nothing is downloaded but packages.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ml.environment import HERE, python
from benchmarks.ml.page import HEAD, Measurement, row, write

PROGRAMS = ("estimators", "modules", "pipelines")


def main() -> int:
    parser = argparse.ArgumentParser(description="Rules about models, before and after.")
    parser.add_argument("rules", nargs="*", metavar="RULE", help="rules; none: all")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and of ONNX Runtime")
    parser.add_argument("--output", type=Path, help="renew their rows in that page")
    parser.add_argument("--python", type=Path, help="an environment that has the packages")
    parser.add_argument("--torch-index", help="an index to take PyTorch from")
    arguments = parser.parse_args()
    interpreter = arguments.python or python(arguments.torch_index)
    print(HEAD, end="", flush=True)
    for program in PROGRAMS:
        found = []
        for measured in run(interpreter, program, arguments):
            print(row(measured), end="", flush=True)
            found.append(measured)
        if arguments.output:
            write(arguments.output, found)
    return 0


def run(interpreter: Path, program: str, arguments: argparse.Namespace) -> Iterator[Measurement]:
    """Yield what a program measures, as it comes; raise SystemExit where it fails."""
    command = [
        interpreter,
        *("-W", "ignore", HERE / "programs" / "measure.py", program),
        *("--rounds", str(arguments.rounds), "--only", *arguments.rules),
    ]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(arguments.threads),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process:
            for line in process.stdout or ():
                yield read(line)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{program} failed: {errors.read()[-3000:]}")


def read(line: str) -> Measurement:
    """Read what a program tells of a case."""
    told = json.loads(line)
    peaks = told.get("peaks")
    return Measurement(
        told["rule"],
        told["what"],
        told["device"],
        tuple((before, after) for before, after in told["pairs"]),
        told["difference"],
        (tuple(peaks[0]), tuple(peaks[1])) if peaks else None,
    )


if __name__ == "__main__":
    raise SystemExit(main())
