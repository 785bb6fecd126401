"""A service before and after: copies of its repository, the second one rewritten by one rule."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from benchmarks.serving.case import Case
from mega_optimizer.examples import read_example
from mega_optimizer.repository.dockerfile import environment_at, parse_dockerfile, shipping_stage
from mega_optimizer.repository.place import Problem

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLE = CHECKOUT / "fixtures" / "sample_repo"
ENVIRONMENTS = CHECKOUT / ".venvs" / "serving"
OPTIMIZE = (sys.executable, "-m", "mega_optimizer", "optimize")
IDENTITY = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its folder, programs and launch command, and what its image sets.

    ``places`` are the values that the environment of the service may name, but for its port.
    """

    folder: Path
    binaries: Path
    command: str
    variables: Mapping[str, str]
    places: Mapping[str, str]


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def both_sides(
    case: Case, folder: Path, places: Sequence[Mapping[str, str]]
) -> tuple[Side, Side, str]:
    """Return the service before and after, and the difference that the rule made."""
    before, after = folder / "before", folder / "after"
    write_source(case, before)
    commit(before)
    for rule in case.given:
        optimize(case, before, rule)
    shutil.copytree(before, after, symlinks=True)
    optimize(case, after, case.rule)
    difference = run("git", "show", "--format=", "HEAD", folder=after)
    return side(case, before, places[0]), side(case, after, places[1]), difference


def write_source(case: Case, folder: Path) -> None:
    if not case.service.source.endswith(".txtar"):
        shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "models"))
        return
    example = read_example(CHECKOUT / case.service.source)
    for path, content in example.before.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def commit(repository: Path) -> None:
    if not (repository / ".git").exists():
        run("git", "init", "--quiet", folder=repository)
    run("git", "add", "--all", folder=repository)
    run("git", *IDENTITY, "commit", "--quiet", "--message", "State", folder=repository)


def optimize(case: Case, repository: Path, rule: str) -> None:
    """Apply ``rule`` to the service and commit; ends the program where it changes nothing.

    Of a rule of level advice the patch is applied that it reports.
    """
    options = ["--select", rule, "--sizes", "off"]
    if not case.service.source.endswith(".txtar"):
        options += ["--service", case.service.source]
    run(*OPTIMIZE, str(repository), *options, folder=CHECKOUT)
    if not run("git", "status", "--porcelain", folder=repository):
        for finding in told(repository, *options)["findings"]:
            if patch := finding.get("patch"):
                (repository / ".git" / "advice.patch").write_text(patch)
                run("git", "apply", ".git/advice.patch", folder=repository)
    if not run("git", "status", "--porcelain", folder=repository):
        raise SystemExit(f"{rule} changes nothing in {case.service.source}")
    commit(repository)


def told(repository: Path, *options: str) -> dict[str, Any]:
    """Return what the program says about the repository, as JSON."""
    done = subprocess.run(
        [*OPTIMIZE, str(repository), "--check", "--format", "json", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def side(case: Case, repository: Path, places: Mapping[str, str]) -> Side:
    name = case.service.source
    folder = repository if name.endswith(".txtar") else repository / "services" / name
    command = case.service.command or launch_command(repository, name)
    return Side(folder, environment(case, folder), command, variables(folder), places)


def variables(folder: Path) -> dict[str, str]:
    """Return what the stage that ships sets, without paths inside of the image."""
    dockerfile = folder / "Dockerfile"
    if not dockerfile.exists():
        return {}
    parsed = parse_dockerfile("Dockerfile", dockerfile.read_bytes())
    stage = None if isinstance(parsed, Problem) else shipping_stage(parsed, None)
    if isinstance(parsed, Problem) or stage is None:
        return {}
    found = environment_at(parsed, stage)
    return {name: value for name, value in found.items() if value and "/" not in value}


def launch_command(repository: Path, service: str) -> str:
    """Return the first launch command that the program itself reads in the service."""
    # one rule, whichever, is enough to be told the services
    services = told(repository, "--select", "serving/uvloop", "--sizes", "off")["services"]
    is_example = service.endswith(".txtar")
    found = next(each for each in services if is_example or each["name"] == service)
    return str(found["launch"][0]["command"])


def environment(case: Case, folder: Path) -> Path:
    """Return the folder of the programs of an environment with what the service declares."""
    requirements = folder / "requirements.txt"
    declared = requirements.read_bytes() + "\n".join(case.service.packages).encode()
    place = ENVIRONMENTS / hashlib.sha256(declared).hexdigest()[:16]
    if not (place / "complete").exists():
        uv = find_uv_bin()
        run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, place, folder=folder)
        install = [uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python")]
        run(*install, "--requirement", requirements, *case.service.packages, folder=folder)
        (place / "complete").touch()
    return place / "bin"
