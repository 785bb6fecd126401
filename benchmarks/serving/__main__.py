"""Measure what rules win on running services: one command, one table, rule by rule.

    make bench-serving                                  all cases
    python -m benchmarks.serving serving/uvloop json    the cases of a rule or a category

Before and after are real servers; after is what the rule makes of the service. Needs wrk,
PostgreSQL and Redis.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.serving.cases import CASES
from benchmarks.serving.load import is_available
from benchmarks.serving.page import HEAD, row, write
from benchmarks.serving.rounds import measure


def main() -> int:
    parser = argparse.ArgumentParser(description="Rules on running services, before and after.")
    parser.add_argument("rules", nargs="*", metavar="RULE", help="rules or categories; none: all")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, help="renew their rows in that page")
    parser.add_argument("--verbose", action="store_true", help="tell patches and single runs")
    arguments = parser.parse_args()
    if not is_available():
        raise SystemExit("wrk is not installed: apt-get install wrk")
    chosen = [
        case
        for case in CASES
        if not arguments.rules
        or case.rule in arguments.rules
        or case.rule.split("/")[0] in arguments.rules
    ]

    def log(text: str) -> None:
        if arguments.verbose:
            print(text, file=sys.stderr, flush=True)

    print(HEAD, end="", flush=True)
    failed = 0
    for case in chosen:
        try:
            line = row(measure(case, arguments.rounds, log))
        except SystemExit as error:
            print(f"{case.rule} on {case.service.name}: {error}", file=sys.stderr, flush=True)
            failed = 1
            continue
        print(line, end="", flush=True)
        if arguments.output:
            write(arguments.output, CASES, [line])
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
