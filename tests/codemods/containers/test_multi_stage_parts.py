"""The parts that the rule decides with: base images, commands, packages."""

from __future__ import annotations

import pytest

from mega_optimizer.codemods.containers.build_steps import kind_of
from mega_optimizer.codemods.containers.installs import Install, parse_install
from mega_optimizer.codemods.containers.python_images import PythonImage, python_image
from mega_optimizer.codemods.containers.runtime_libraries import libraries_of
from mega_optimizer.codemods.containers.system_packages import (
    is_for_building,
    is_for_running,
    is_system_python,
    runtime_partners,
)
from mega_optimizer.repository.dockerfile import Dockerfile, parse_dockerfile
from mega_optimizer.repository.shell import Command, parse_shell
from mega_optimizer.repository.source import contiguous


def image_of(text: str) -> PythonImage | tuple[str, str]:
    parsed = parse_dockerfile("Dockerfile", text.encode())
    assert isinstance(parsed, Dockerfile)
    return python_image(parsed.stages[0])


def command(text: str) -> Command:
    (only,) = parse_shell(contiguous(text.encode()))
    return only


@pytest.mark.parametrize(
    ("base", "runtime"),
    [
        ("python:3.11", "python:3.11-slim"),
        ("python:3.11.9", "python:3.11.9-slim"),
        ("python:3.11-bookworm", "python:3.11-slim-bookworm"),
        ("python:3.12-slim", "python:3.12-slim"),
        ("python:3.12-slim-trixie", "python:3.12-slim-trixie"),
        ("python:slim", "python:slim"),
        ("docker.io/library/python:3.13", "docker.io/library/python:3.13-slim"),
        ("docker.io/python:3.13", "docker.io/python:3.13-slim"),
        (
            "public.ecr.aws/docker/library/python:3.10",
            "public.ecr.aws/docker/library/python:3.10-slim",
        ),
        (
            "mirror.example.com/hub/library/python:3.11",
            "mirror.example.com/hub/library/python:3.11-slim",
        ),
    ],
)
def test_runtime_image_has_the_version_release_and_registry_of_the_base(
    base: str, runtime: str
) -> None:
    image = image_of(f"FROM {base}\n")
    assert isinstance(image, PythonImage)
    assert image.runtime == runtime


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("FROM python\n", "version-not-pinned"),
        ("FROM python:latest\n", "other-base"),
        ("FROM python:3\n", "version-not-pinned"),
        ("FROM python:3.11-alpine\n", "alpine-base"),
        ("FROM python:3.11-windowsservercore\n", "other-base"),
        ("FROM python:3.11@sha256:00\n", "digest-pin"),
        ("FROM pypy:3.10\n", "other-base"),
        ("FROM example/python:3.11\n", "other-base"),
        ("FROM localhost:5000/python:3.11\n", "other-base"),
        ("ARG V\nFROM python:$V\n", "base-unknown"),
        ("ARG I=python:3.11\nFROM $I\n", "base-unknown"),
        ("ARG V=3.11-bookworm\nFROM python:$V\n", "base-unknown"),
        ("ARG V=1-bookworm\nFROM python:3.1$V\n", "base-unknown"),
    ],
)
def test_other_bases_have_no_partner(text: str, code: str) -> None:
    image = image_of(text)
    assert isinstance(image, tuple)
    assert image[0] == code


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("pip install flask", "install"),
        ("pip3 --quiet install -r requirements.txt", "install"),
        ("python3.11 -m pip install .", "install"),
        ("uv pip install --system flask", "install"),
        ("pip install uv==0.5", "tool"),
        ("pip install -U pip", "upgrade-pip"),
        ("pip install -U pip setuptools", "install"),
        ("pip check", "inspect"),
        ("pip cache purge", "uncache"),
        ("pip download flask", "unknown"),
        ("rm -rf /root/.cache", "uncache"),
        ("rm -rf /var/lib/apt/lists/* /tmp/*", "apt-clean"),
        ("rm -rf /tmp/requirements.txt", "files"),
        ("apt-get -qq update", "apt-update"),
        ("DEBIAN_FRONTEND=noninteractive apt-get install -y gcc", "apt-install"),
        ("apt-get purge -y gcc", "apt-remove"),
        ("apt-key add key", "unknown"),
        ("python manage.py collectstatic --noinput", "project"),
        ("python -m nltk.downloader punkt", "project"),
        ("python -m venv /env", "environment"),
        ("python setup.py install", "unknown"),
        ("/usr/bin/python3 job.py", "unknown"),
        ("python -c 'import os; os.system(\"make\")'", "unknown"),
        ("useradd -m app", "accounts"),
        ("sed -i s/a/b/ config.py", "files"),
        ("find / -name x -exec rm {} +", "unknown"),
        ("npm ci", "unknown"),
        ("git clone https://example.com/x", "unknown"),
        ("./install.sh", "unknown"),
        ("xargs make", "unknown"),
        ("set -eux", "neutral"),
    ],
)
def test_kind_of_a_command(text: str, kind: str) -> None:
    assert kind_of(command(text)) == kind


@pytest.mark.parametrize(
    ("text", "install"),
    [
        ("pip install -r a.txt -c b.txt flask", Install(("a.txt", "b.txt"), (), ("flask",))),
        ("pip install --requirement=a.txt", Install(("a.txt",))),
        ("pip install -ra.txt", Install(("a.txt",))),
        ("pip install .[server] ./lib x.whl", Install((), (".", "./lib", "x.whl"))),
        (
            "pip install --timeout 9 'flask>=3' git+https://example.com/x.git",
            Install((), (), ("flask>=3", "git+https://example.com/x.git")),
        ),
        (
            "pip install torch -f https://example.com/torch.html",
            Install((), (), ("torch",)),
        ),
        ("uv pip install --system flask", Install((), (), ("flask",), tool="uv")),
        ("pip install -e .", "-e"),
        ("pip install --user flask", "--user"),
        ("pip install -t lib flask", "-t"),
        ("pip install -f ./wheels flask", "-f"),
        ("pip install --no-binary :all: lxml", "--no-binary"),
    ],
)
def test_what_an_install_names(text: str, install: Install | str) -> None:
    assert parse_install(command(text)) == install


@pytest.mark.parametrize(
    "package", ["gcc", "g++", "gcc-12", "build-essential", "libpq-dev", "python3-dev", "cargo"]
)
def test_compilers_and_headers_are_for_building(package: str) -> None:
    assert is_for_building(package)
    assert not is_for_running(package)


@pytest.mark.parametrize("package", ["curl", "libpq5", "libgl1", "ffmpeg", "libsm6"])
def test_programs_and_libraries_are_for_running(package: str) -> None:
    assert is_for_running(package)
    assert not is_for_building(package)


@pytest.mark.parametrize("package", ["git", "ca-certificates", "something"])
def test_what_either_side_may_need_is_for_both(package: str) -> None:
    assert not is_for_running(package)
    assert not is_for_building(package)


def test_headers_of_unknown_libraries_have_no_partner() -> None:
    assert runtime_partners("libldap2-dev") is None
    assert runtime_partners("libssl-dev") == ()
    assert runtime_partners("gcc-12") == ()


@pytest.mark.parametrize(
    ("package", "is_python"),
    [
        ("python3", True),
        ("python3-pip", True),
        ("python3.11-venv", True),
        ("supervisor", True),
        ("python3-dev", False),
        ("libpython3-dev", False),
        ("git", False),
    ],
)
def test_python_of_debian(package: str, is_python: bool) -> None:
    assert is_system_python(package) == is_python


def test_psycopg_with_its_own_libpq_needs_none() -> None:
    assert libraries_of({"psycopg": frozenset()}) == ("libpq5",)
    assert libraries_of({"psycopg": frozenset({"binary"})}) == ()
    assert libraries_of({"psycopg": frozenset(), "psycopg-binary": frozenset()}) == ()
