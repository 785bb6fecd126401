"""What the rule writes, as other tools read it: BuildKit's parser and hadolint."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import dockerfile
import pytest

from mega_optimizer.engine.plan import Options, Plan
from mega_optimizer.engine.planner import make_plan
from mega_optimizer.examples import Example, read_examples
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.scan import scan
from mega_optimizer.rules import load_rules

MULTI_STAGE = next(rule for rule in load_rules() if rule.id == "containers/multi-stage")
APPLIED = [
    pytest.param(example, id=example.name)
    for example in read_examples(MULTI_STAGE.folder)
    if example.expect == "applied"
]
ENVIRONMENTS = ("/opt/venv", "/app/.venv")
COPIES = [("COPY", path, path) for path in ENVIRONMENTS]
PATHS = [("ENV", "PATH", f'"{path}/bin:$PATH"') for path in ENVIRONMENTS]
RUNNERS = {"uv", "poetry", "pipenv", "run", "--no-sync"}
# apt packages without a version: those that the slim image lacks have none to pin.
NOT_PINNED = "DL3008"


def plan_for(files: MemoryFiles) -> Plan:
    return make_plan(files, scan(files, "example"), [MULTI_STAGE], Options(propagate_errors=True))


def rewritten(text: str, **others: str) -> str:
    files = {"Dockerfile": text, "requirements.txt": "flask==3.0.3\n", "main.py": "print()\n"}
    files |= {name.replace("__", "/"): content for name, content in others.items()}
    plan = plan_for(MemoryFiles({path: content.encode() for path, content in files.items()}))
    return plan.result.read("Dockerfile").decode()


def instructions(text: str) -> list[tuple[str, ...]]:
    return [(each.cmd, *each.value) for each in dockerfile.parse_string(text)]


def pair(example: Example) -> tuple[str, str]:
    ((path, after),) = example.after.items()
    return example.before[path].decode(), after.decode()


def last_stage(text: str) -> list[tuple[str, ...]]:
    found = instructions(text)
    last = max(position for position, each in enumerate(found) if each[0] == "FROM")
    return found[last + 1 :]


@pytest.mark.parametrize("example", APPLIED)
def test_the_stage_that_ships_differs_only_in_what_it_installs(example: Example) -> None:
    before, after = (last_stage(text) for text in pair(example))
    added = [each for each in after if each in COPIES]
    assert len(added) == 1
    path = PATHS[COPIES.index(added[0])]
    assert path in after or "-m venv" in pair(example)[0]
    kept = [each for each in after if each not in (*added, path) and each[0] != "RUN"]
    brings_uv = [each for each in before if each[0] == "COPY" and "/uv" in each]
    left = [each for each in before if each[0] != "RUN" and each not in (*brings_uv, path)]
    assert kept == [without_runner(each) for each in left]


def without_runner(instruction: tuple[str, ...]) -> tuple[str, ...]:
    """Return a CMD without `uv run` and the like."""
    text = " ".join(instruction)
    if instruction[0] != "CMD" or not re.search(r"\b(?:uv|poetry|pipenv) run\b", text):
        return instruction
    words = [re.sub(r"^(?:uv|poetry|pipenv) run ", "", word) for word in instruction]
    return tuple(word for word in words if word not in RUNNERS)


@pytest.mark.parametrize("example", APPLIED)
def test_the_stage_that_ships_installs_no_python_package(example: Example) -> None:
    runs = [each[1] for each in last_stage(pair(example)[1]) if each[0] == "RUN"]
    assert not any("pip" in text or "uv " in text or "gcc" in text for text in runs)


@pytest.mark.parametrize("example", APPLIED)
def test_both_stages_have_the_same_python(example: Example) -> None:
    _, after = pair(example)
    builder, runtime = (each[1] for each in instructions(after) if each[0] == "FROM")
    official = re.sub(
        r"^ghcr.io/astral-sh/uv:python([\d.]+)-(\w+)-slim$", r"python:\1-slim-\2", builder
    )
    slim = (f"{builder}-slim", builder.replace("-bookworm", "-slim-bookworm"))
    assert runtime in (builder, official, *slim)


def hadolint_codes(text: str) -> set[str]:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", "--no-fail", "--format", "json", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return {finding["code"] for finding in json.loads(done.stdout)}


@pytest.mark.parametrize("example", APPLIED)
def test_hadolint_finds_nothing_new(example: Example) -> None:
    before, after = map(hadolint_codes, pair(example))
    assert after - before <= {NOT_PINNED}


def test_services_of_one_dockerfile_are_divided_once() -> None:
    text = "FROM python:3.12\nWORKDIR /app\nCOPY . .\nRUN pip install -r requirements.txt\n"
    text += 'CMD ["python", "main.py"]\n'
    compose = (
        "services:\n  web:\n    build: .\n  worker:\n    build: .\n    command: python main.py\n"
    )
    after = rewritten(text, **{"compose.yaml": compose})
    assert after.count("FROM") == 2


def test_a_service_of_the_same_dockerfile_that_needs_more_holds_it_back() -> None:
    text = "FROM python:3.12\nWORKDIR /app\nCOPY . .\nRUN pip install -r requirements.txt\n"
    text += 'CMD ["python", "main.py"]\n'
    compose = "services:\n  web:\n    build: .\n  job:\n    build: .\n    command: make all\n"
    assert rewritten(text, **{"compose.yaml": compose}) == text


FULL = """\
FROM python:3.12
WORKDIR /app
{before}COPY . .
RUN {run}
CMD ["python", "main.py"]
"""


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("pip install -r requirements.txt", "pip install --no-cache-dir -r requirements.txt"),
        ("pip install --no-cache-dir flask", "pip install --no-cache-dir flask"),
        ("python -m pip install -U pip && pip install flask", "pip install --no-cache-dir flask"),
        ("pip install flask && rm -rf /root/.cache", "pip install flask && rm -rf /root/.cache"),
        ("set -e; pip install flask; mkdir /data", "set -e; pip install --no-cache-dir flask"),
        ("mkdir /data && A=1 pip install flask", "A=1 pip install --no-cache-dir flask"),
        ('["pip", "install", "flask"]', '["pip", "install", "--no-cache-dir", "flask"]'),
        (
            "--mount=type=cache,target=/root/.cache pip install flask",
            "--mount=type=cache,target=/root/.cache pip install flask",
        ),
        ("uv pip install --system flask", "uv pip install flask"),
    ],
)
def test_the_builder_gets_the_commands_that_install(run: str, expected: str) -> None:
    after = rewritten(FULL.format(before="", run=run))
    builder, _, _ = after.partition("\nFROM")
    assert builder.rstrip().endswith(f"RUN {expected}")


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ("gcc curl", "curl"),
        ("curl gcc -y", "curl -y"),
        ("libpq-dev", "libpq5"),
        ("libpq-dev libpq5 gcc", "libpq5"),
        ("gcc=4:12.2.0-3 tini:amd64", "tini:amd64"),
        ("-y --no-install-recommends libffi-dev g++ git", "-y --no-install-recommends git"),
    ],
)
def test_the_image_keeps_the_packages_that_run(packages: str, expected: str) -> None:
    before = f"RUN apt-get update && apt-get install {packages} && rm -rf /var/lib/apt/lists/*\n"
    after = rewritten(FULL.format(before=before, run="pip install flask"))
    _, _, image = after.partition("\nFROM")
    line = f"RUN apt-get update && apt-get install {expected} && rm -rf /var/lib/apt/lists/*\n"
    assert line in image


def test_an_apt_run_of_which_nothing_is_left_goes_with_its_comment() -> None:
    before = "# Compilers\nRUN apt-get update && apt-get install -y gcc make && apt-get clean\n"
    after = rewritten(FULL.format(before=before, run="pip install flask"))
    builder, _, image = after.partition("\nFROM")
    assert "# Compilers\nRUN apt-get update" in builder
    assert "apt" not in image
    assert "Compilers" not in image


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("pip list > installed.txt", "pip list > installed.txt"),
        ("pip check && mkdir /data", "pip check && mkdir /data"),
        ("rm -rf /root/.cache/models", "rm -rf /root/.cache/models"),
        ("apt-get purge -y gcc && mkdir /data", "mkdir /data"),
        ("python -m spacy download en_core_web_sm", "python -m spacy download en_core_web_sm"),
    ],
)
def test_steps_after_the_packages_stay_where_the_image_runs(step: str, kept: str) -> None:
    text = FULL.format(before="", run="pip install flask").replace("CMD", f"RUN {step}\nCMD")
    after = rewritten(text)
    builder, _, image = after.partition("\nFROM")
    assert f"\nRUN {kept}\nCMD" in image
    assert step not in builder


@pytest.mark.parametrize(
    ("main", "package"),
    [
        ('import subprocess\nsubprocess.run("ps aux | grep x", shell=True)\n', "procps"),
        ('import os\nos.system("cd /tmp && wget https://example.com")\n', "wget"),
        ('import shutil\nshutil.which("ssh")\n', "openssh-client"),
        ('import subprocess\nsubprocess.run(["sh", "-c", "git clone x | head"])\n', "git"),
        ("from flask import send_file\n", "media-types"),
    ],
)
def test_what_the_code_calls_is_installed(main: str, package: str) -> None:
    after = rewritten(FULL.format(before="", run="pip install flask"), **{"main.py": main})
    assert f"--no-install-recommends {package} \\\n" in after


@pytest.mark.parametrize(
    "main",
    [
        'import subprocess\nsubprocess.run(["ls", "-l"])\n',
        'import subprocess, sys\nsubprocess.run([sys.executable, "job.py"])\n',
        'import subprocess\nsubprocess.run("terraform apply", shell=True)\n',
        'raise ImportError("pip install flask")\n',
    ],
)
def test_what_the_slim_image_has_or_the_full_one_lacks_is_not_installed(main: str) -> None:
    after = rewritten(FULL.format(before="", run="pip install flask"), **{"main.py": main})
    assert after.count("FROM") == 2
    assert "apt-get" not in after


@pytest.mark.parametrize("example", APPLIED)
def test_nothing_is_left_for_the_rule_of_the_pip_cache(example: Example) -> None:
    pip_cache = next(rule for rule in load_rules() if rule.id == "containers/pip-cache")
    files = plan_for(example.files).result
    plan = make_plan(files, scan(files, "example"), [pip_cache], Options(propagate_errors=True))
    assert not plan.findings
