"""Real builds on a stand-in of python:3.11-slim, a few seconds each."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mega_optimizer.errors import ConfigurationError
from mega_optimizer.measure.builders.buildah import Buildah
from mega_optimizer.measure.builders.choose import build_options
from mega_optimizer.measure.builders.engine import Engine, engine_answers
from mega_optimizer.measure.builders.model import Built, ImageBuilder, Limits, NotBuilt, Recipe
from mega_optimizer.measure.builders.process import clean_environment
from tests.bases.available import buildah, require_base

SECRETS = ("GITHUB_TOKEN", "GH_TOKEN", "PYPI_TOKEN", "AWS_SECRET_ACCESS_KEY", "PIP_INDEX_URL")


@pytest.fixture(scope="module", params=["buildah", "podman"])
def builder(request: pytest.FixtureRequest) -> Iterator[ImageBuilder]:
    require_base()
    if request.param == "podman" and not engine_answers("podman"):
        pytest.skip("podman does not answer")
    made = buildah() if request.param == "buildah" else Engine("podman", Limits())
    with made:
        yield made


def recipe(folder: Path, dockerfile: str, **files: str) -> Recipe:
    (folder / "Dockerfile").write_text(dockerfile)
    for name, content in files.items():
        (folder / name).write_text(content)
    return Recipe(folder, folder / "Dockerfile")


def test_an_image_is_measured_layer_by_layer(builder: ImageBuilder, tmp_path: Path) -> None:
    dockerfile = (
        "FROM python:3.11-slim\n"
        "RUN head -c 5000000 /dev/zero > /zeros && head -c 3000000 /dev/urandom > /noise\n"
        "RUN rm /zeros\n"
    )

    built = builder.build(recipe(tmp_path, dockerfile), tmp_path / "log")

    assert isinstance(built, Built)
    base, filled, removed = built.layers
    assert 50_000_000 < base.bytes_compressed < base.bytes_on_disk
    assert 8_000_000 < filled.bytes_on_disk < 8_010_000
    assert 3_000_000 < filled.bytes_compressed < 3_050_000
    # What a later instruction removes is still transferred and stored.
    assert removed.bytes_on_disk < 10_000
    assert built.bytes_on_disk == sum(layer.bytes_on_disk for layer in built.layers)
    assert filled.largest == (("/", 8_000_000),)


def test_configuration_and_files_are_read_as_data(builder: ImageBuilder, tmp_path: Path) -> None:
    dockerfile = (
        "FROM python:3.11-slim AS unused\nRUN exit 1\n"
        "FROM python:3.11-slim\nARG GREETING=none\nENV GREETING=$GREETING\n"
        "WORKDIR /srv\nCOPY app.py .\nRUN ln -s /etc/shadow link\n"
        "RUN mkdir /usr/local/lib/python3.11/dist-packages/Foo_Bar-1.2.dist-info\n"
        "USER 1234\nEXPOSE 80\nVOLUME /data\nLABEL a=b\n"
        'HEALTHCHECK CMD true\nENTRYPOINT ["python"]\nCMD ["app.py"]\n'
    )
    made = recipe(tmp_path, dockerfile, **{"app.py": "pass\n"})
    made = Recipe(made.context, made.dockerfile, arguments={"GREETING": "hello"})

    built = builder.build(made, tmp_path / "log")

    assert isinstance(built, Built)
    config = builder.configuration(built.image)
    assert (config.user, config.workdir) == ("1234", "/srv")
    assert (config.entrypoint, config.command) == (("python",), ("app.py",))
    assert config.environment["GREETING"] == "hello"
    assert config.ports == {"80/tcp"}
    assert config.volumes == {"/data"}
    assert config.labels["a"] == "b"
    assert config.healthcheck == ("CMD-SHELL", "true")
    inventory = builder.inventory(built.image, "/srv")
    files = inventory.below("/srv")
    assert set(files) == {"app.py", "link"}
    assert len(files["app.py"].digest) == 64
    assert (files["link"].kind, files["link"].digest) == ("link", "-> /etc/shadow")
    assert inventory.distributions["foo-bar"] == {"1.2"}
    assert "libc6" in inventory.debian_packages
    assert not inventory.missing_libraries


def test_only_the_stage_asked_for_is_built(builder: ImageBuilder, tmp_path: Path) -> None:
    dockerfile = (
        "FROM python:3.11-slim AS first\nENV STAGE=first\nFROM python:3.11-slim\nRUN exit 1\n"
    )
    made = recipe(tmp_path, dockerfile)

    built = builder.build(Recipe(made.context, made.dockerfile, "first"), tmp_path / "log")

    assert isinstance(built, Built)
    assert builder.configuration(built.image).environment["STAGE"] == "first"


@pytest.mark.parametrize(
    ("dockerfile", "reason"),
    [
        ("FROM localhost:1/no/such:image\nRUN true\n", "base unreachable"),
        ("FROM python:3.11-slim\nRUN no-such-tool\n", "/bin/sh: 1: no-such-tool: not found"),
        ("FROM python:3.11-slim\nRUN echo because >&2; exit 4\n", "because"),
        ("FROM python:3.11-slim\nCOPY missing .\n", "missing"),
    ],
)
def test_what_is_not_built_says_why(
    builder: ImageBuilder, tmp_path: Path, dockerfile: str, reason: str
) -> None:
    made = builder.build(recipe(tmp_path, dockerfile), tmp_path / "log")

    assert isinstance(made, NotBuilt)
    assert reason in made.reason
    assert made.log.read_text()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(seconds=0.5), "time limit of 0 s reached"),
        (Limits(free_bytes=1 << 60), "disk limit reached"),
    ],
)
def test_a_build_stays_within_its_limits(limits: Limits, reason: str, tmp_path: Path) -> None:
    with buildah(limits) as builder:
        made = builder.build(
            recipe(tmp_path, "FROM python:3.11-slim\nRUN sleep 61231\n"), tmp_path / "log"
        )

    assert isinstance(made, NotBuilt)
    assert reason in made.reason
    assert not processes("61231")


def test_a_build_sees_no_secret(tmp_path: Path) -> None:
    """Neither in its own environment nor in that of any process that it can see."""
    require_base()
    look = "RUN env && cat /proc/*/environ | tr '\\0' '\\n' && echo looked\n"
    target = service(tmp_path / "target", look)
    run = optimize(target, tmp_path, dict.fromkeys(SECRETS, "not-for-a-build"))

    said, errors = run.communicate(timeout=300)

    (log, *_) = [path.read_text() for path in tmp_path.rglob("*-before.log")]
    assert "looked" in log
    assert "not-for-a-build" not in log + said + errors
    assert not set(SECRETS) & set(clean_environment(dict.fromkeys(SECRETS, "")))


def test_what_runs_reaches_nothing_but_its_own_loopback(tmp_path: Path) -> None:
    with buildah() as builder:
        built = builder.build(
            recipe(tmp_path, 'FROM python:3.11-slim\nCMD ["sleep", "61232"]\n'), tmp_path / "log"
        )
        assert isinstance(built, Built)
        ran = builder.run(built.image, ["cat", "/proc/net/dev"], {}, 30)
        devices = [line.partition(":")[0].strip() for line in ran.output.splitlines()[2:]]
        assert devices == ["lo"]
        assert builder.run(built.image, ["sleep", "61233"], {}, 0.5).status is None
        show = "print(open('/proc/net/dev').read())"
        with builder.started(built.image, {}) as started:
            # Asked at once, when the process may not have left the network of this machine yet.
            answers = (started.ask(show, [], 30).output for _ in range(10_000))
            first = next(answer for answer in answers if answer)
            assert started.status() is None
        assert [line.partition(":")[0].strip() for line in first.splitlines()[2:-1]] == ["lo"]
        assert not processes("61232")
        assert not processes("61233")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_an_interrupt(number: int, tmp_path: Path) -> None:
    """The Dockerfile tells through a pipe that its build has begun; then the run is interrupted."""
    require_base()
    signals = tmp_path / "signals"
    signals.mkdir()
    os.mkfifo(signals / "begun")
    seconds = f"61234{int(number)}"  # those of the other signal may run at the same time
    begin = f"RUN sleep {seconds} & echo begun > /signals/begun; wait\n"
    target = service(tmp_path / "target", begin)
    stores = stores_of_runs()
    process = optimize(target, tmp_path, {"MEGA_OPTIMIZE_BUILD_VOLUMES": f"{signals}:/signals"})
    assert (signals / "begun").read_text() == "begun\n"

    process.send_signal(number)

    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "mega-optimize: interrupted\n")
    assert not processes(seconds)
    assert stores_of_runs() <= stores


def test_what_is_built_in_a_kept_store_is_found_again(tmp_path: Path) -> None:
    require_base()
    dockerfile = "FROM python:3.11-slim\nRUN head -c 1000000 /dev/urandom > /noise\n"
    made = recipe(tmp_path, dockerfile)
    stores = stores_of_runs()

    with Buildah(Limits(), kept=tmp_path / "store") as builder:
        first = builder.build(made, tmp_path / "log")
    with Buildah(Limits(), kept=tmp_path / "store") as builder:
        second = builder.build(made, tmp_path / "log")

    assert isinstance(first, Built)
    assert isinstance(second, Built)
    # Another build would have made other noise.
    assert first.image == second.image
    assert first.layers == second.layers
    assert stores_of_runs() <= stores
    assert not (tmp_path / "store" / "scratch").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"MEGA_OPTIMIZE_BUILD_VOLUMES": "relative:/target"},
        {"MEGA_OPTIMIZE_BUILD_VOLUMES": "/no/such/folder:/target"},
        {"MEGA_OPTIMIZE_BUILD_VOLUMES": "/tmp"},
        {"MEGA_OPTIMIZE_PROOF_ENVIRONMENT": "NAME"},
        {"MEGA_OPTIMIZE_BUILDER": "kaniko"},
        {"MEGA_OPTIMIZE_BUILD_STORE": "relative"},
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        build_options(given)


def test_options_come_from_the_environment() -> None:
    options = build_options(
        {
            "MEGA_OPTIMIZE_BUILD_VOLUMES": "/tmp:/one /usr:/two:ro",
            "MEGA_OPTIMIZE_PROOF_ENVIRONMENT": "A=1 'B=two words'",
            "MEGA_OPTIMIZE_BUILD_STORE": "/var/store",
        }
    )

    assert options.volumes == ("/tmp:/one:ro", "/usr:/two:ro")
    assert options.environment == {"A": "1", "B": "two words"}
    assert options.store == Path("/var/store")


def test_an_absent_daemon_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a command line is installed says nothing: its daemon is asked."""
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert shutil.which("docker") == str(program)
    assert not engine_answers("docker")


def service(folder: Path, step: str) -> Path:
    """Write a service that a rule improves, with ``step`` in its Dockerfile."""
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        f"FROM python:3.11-slim\n{step}COPY . .\nRUN pip install -r requirements.txt\n"
        'CMD ["uvicorn", "app:app"]\n'
    )
    (folder / "requirements.txt").write_text("uvicorn\n")
    (folder / "app.py").write_text("app = None\n")
    return folder


def optimize(target: Path, state: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mega_optimizer", str(target), "--diff", "--sizes", "build"],
        env={**os.environ, "XDG_STATE_HOME": str(state), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes(word: str) -> list[str]:
    """Return the command lines of the live processes that have ``word`` among their words."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if word in words:
            found.append(" ".join(words))
    return found


def stores_of_runs() -> set[Path]:
    return {path for path in Path("/var/lib/containers").glob("mega-optimize-*")}
