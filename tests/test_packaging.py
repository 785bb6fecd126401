"""Rules and templates are found however the package is installed."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
RULES = sorted(
    path.parent.relative_to(CHECKOUT / "rules").as_posix()
    for path in (CHECKOUT / "rules").glob("*/*/rule.yaml")
)


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of what git tracks here, so that builds leave nothing behind."""
    copy = tmp_path_factory.mktemp("source")
    listed = run(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=CHECKOUT
    )
    for name in listed.split("\0")[:-1]:
        if (CHECKOUT / name).is_file():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((CHECKOUT / name).read_bytes())
    return copy


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment that sees our dependencies, but not this checkout."""
    folder = tmp_path / "environment"
    venv.create(folder)
    packages = Path(
        sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    )
    # A path file inside a folder that a path file names is not read: our editable install is not.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def install(environment: Path, *what: str, folder: Path) -> None:
    python = environment / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--force-reinstall", "--no-index"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what, folder=folder)


def rules_listed(environment: Path, folder: Path) -> list[str]:
    listed = run(environment / "bin" / "mega-optimize", "rules", folder=folder)
    return sorted(line.split()[0] for line in listed.splitlines())


def build(source: Path, kind: str, output: Path) -> Path:
    options = ["--no-isolation", f"--{kind}", "--outdir", str(output)]
    run(sys.executable, "-m", "build", *options, source, folder=output)
    (built,) = [path for path in output.iterdir() if path.suffix in (".whl", ".gz")]
    return built


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def test_in_a_checkout(elsewhere: Path) -> None:
    program = "from mega_optimizer.rules import load_rules; print(*(r.id for r in load_rules()))"
    assert sorted(run(sys.executable, "-c", program, folder=CHECKOUT).split()) == RULES


def test_in_an_editable_install(source: Path, environment: Path, elsewhere: Path) -> None:
    install(environment, "--editable", str(source), folder=elsewhere)
    assert rules_listed(environment, elsewhere) == RULES


def test_in_a_wheel(source: Path, environment: Path, tmp_path: Path, elsewhere: Path) -> None:
    output = tmp_path / "dist"
    output.mkdir()
    install(environment, str(build(source, "wheel", output)), folder=elsewhere)
    assert rules_listed(environment, elsewhere) == RULES


def test_in_a_wheel_made_from_the_sdist(
    source: Path, environment: Path, tmp_path: Path, elsewhere: Path
) -> None:
    output = tmp_path / "dist"
    output.mkdir()
    install(environment, str(build(source, "sdist", output)), folder=elsewhere)
    assert rules_listed(environment, elsewhere) == RULES
