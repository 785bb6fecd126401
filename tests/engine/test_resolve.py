from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from mega_optimizer.engine.resolve import (
    Resolver,
    child_environment,
    left_out,
    lowest_python,
    pip_settings,
    requirement_lines,
)
from mega_optimizer.repository.dependencies.model import Dependencies
from mega_optimizer.repository.dependencies.read import read_dependencies
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.service import Service
from tests.engine.local_index import add_wheel, resolver, serve


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "index"
    with serve(folder) as address:
        yield folder, address


def read(text: str, **more: str) -> Dependencies:
    files = {"requirements.txt": text.encode()}
    files |= {name.replace("__", "."): other.encode() for name, other in more.items()}
    return read_dependencies(MemoryFiles(files), Service("x", "", manifests=("requirements.txt",)))


def versions(answer: object) -> dict[str, str]:
    assert isinstance(answer, dict) or hasattr(answer, "items"), answer
    return {name: str(package.version) for name, package in answer.items()}


def test_says_what_would_be_installed_with_the_sizes_of_the_wheels(
    tmp_path: Path, index: tuple[Path, str]
) -> None:
    folder, address = index
    add_wheel(folder, "web", "1.0", ["core>=1"])
    add_wheel(folder, "web", "2.0", ["core>=1"])
    core = add_wheel(folder, "core", "1.5")
    answer = resolver(tmp_path, address).resolve(read("web\n"))
    assert versions(answer) == {"core": "1.5", "web": "2.0"}
    assert not isinstance(answer, Problem)
    sizes = answer["core"].wheel_bytes
    assert sizes in ({core.name: core.stat().st_size}, {})  # an index need not tell sizes


def test_constraints_and_ranges_bound_the_answer(tmp_path: Path, index: tuple[Path, str]) -> None:
    folder, address = index
    for version in ("1.0", "2.0", "3.0", "4.0rc1"):
        add_wheel(folder, "web", version)
    asked = resolver(tmp_path, address)
    assert versions(asked.resolve(read("web\n"))) == {"web": "3.0"}
    assert versions(asked.resolve(read("web<3\n"))) == {"web": "2.0"}
    bounded = read("-c bounds.txt\nweb\n", bounds__txt="web<2\nother==9\n")
    assert versions(asked.resolve(bounded)) == {"web": "1.0"}


def test_what_would_have_to_be_built_is_left_out_and_never_built(
    tmp_path: Path, index: tuple[Path, str]
) -> None:
    import io
    import tarfile

    folder, address = index
    add_wheel(folder, "web", "1.0")
    (folder / "native").mkdir()
    proof = tmp_path / "it-was-built"
    setup = f"open({str(proof)!r}, 'w')\nfrom setuptools import setup; setup(name='native')\n"
    with tarfile.open(folder / "native" / "native-1.0.tar.gz", "w:gz") as archive:
        for name, text in (("setup.py", setup), ("PKG-INFO", "Name: native\nVersion: 1.0\n")):
            member = tarfile.TarInfo(f"native-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    answer = resolver(tmp_path, address).resolve(read("web\nnative==1.0\n"))
    assert versions(answer) == {"web": "1.0"}
    assert not proof.exists()


def test_contradictions_are_values(tmp_path: Path, index: tuple[Path, str]) -> None:
    folder, address = index
    add_wheel(folder, "web", "1.0")
    answer = resolver(tmp_path, address).resolve(read("web>=2\n"))
    assert isinstance(answer, Problem)
    assert answer.code == "no-solution"
    assert "web" in answer.message


def test_offline_nothing_is_asked() -> None:
    answer = Resolver(offline=True, options=("--no-such-option",)).resolve(read("web\n"))
    assert isinstance(answer, Problem)
    assert answer.code == "offline"


def test_a_service_without_requirements_needs_no_index() -> None:
    assert Resolver(offline=True).resolve(read("# none\n")) == {}


def test_answers_are_kept_for_a_day(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "UV_CACHE_DIR": str(tmp_path / "uv")}
    with serve(tmp_path / "index") as address:
        environment["UV_DEFAULT_INDEX"] = address
        add_wheel(tmp_path / "index", "web", "1.0")
        monday = Resolver(cache=cache, environment=environment, today=date(2026, 11, 23))
        assert versions(monday.resolve(read("web\n"))) == {"web": "1.0"}
    # The index is gone; only the cache can answer, and only on the same day.
    again = Resolver(cache=cache, environment=environment, today=date(2026, 11, 23))
    assert versions(again.resolve(read("web\n"))) == {"web": "1.0"}
    environment["UV_OFFLINE"] = "1"
    tuesday = Resolver(cache=cache, environment=environment, today=date(2026, 11, 24))
    assert isinstance(tuesday.resolve(read("web\n")), Problem)


@pytest.fixture
def refusing() -> Iterator[str]:
    """Give the address of an index that refuses every connection: nobody listens there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_a_run_that_has_waited_for_nothing_asks_no_more(tmp_path: Path, refusing: str) -> None:
    environment = {**resolver(tmp_path, refusing).environment, "PIP_CONFIG_FILE": os.devnull}
    impatient = Resolver(environment=environment, patience_s=0)
    first = impatient.resolve(read("web\n"))
    second = impatient.resolve(read("core\n"))
    assert isinstance(first, Problem)
    assert isinstance(second, Problem)
    assert not first.message.startswith("not asked")
    assert second.message.startswith("not asked")
    assert len(impatient.unanswered) == 2


def test_a_solution_or_a_contradiction_is_an_answer(
    tmp_path: Path, index: tuple[Path, str]
) -> None:
    folder, address = index
    add_wheel(folder, "web", "1.0")
    asked = resolver(tmp_path, address)
    asked.resolve(read("web\n"))
    asked.resolve(read("web>=2\n"))
    assert asked.unanswered == []


def test_only_what_an_index_serves_by_name_is_asked_for() -> None:
    found = read(
        "web>=1\n-e ./local\nx @ git+https://example.org/x\n--index-url https://evil.example\n"
        "y[a]; python_version > '3'\nhttps://example.org/z-1-py3-none-any.whl\n"
    )
    assert requirement_lines(found) == ["web>=1", 'y[a]; python_version > "3"']
    assert left_out(found) == ("x", "z")


def test_tokens_do_not_reach_a_child() -> None:
    inherited = child_environment(
        {
            "PATH": "p",
            "GITHUB_TOKEN": "secret",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "UV_PUBLISH_TOKEN": "secret",
            "UV_INDEX_MINE_PASSWORD": "for the index",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": "https://index.example/simple",
        }
    )
    assert inherited == {
        "PATH": "p",
        "UV_INDEX_MINE_PASSWORD": "for the index",
        "UV_INDEX_URL": "https://index.example/simple",
    }


def test_settings_for_uv_come_before_those_for_pip() -> None:
    environment = {"UV_INDEX_URL": "uv", "PIP_INDEX_URL": "pip", "PIP_CONFIG_FILE": os.devnull}
    assert child_environment(environment)["UV_INDEX_URL"] == "uv"


def test_pips_own_file_is_read(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://index.example\nfind-links = a\n    b\n")
    environment = {"PIP_CONFIG_FILE": str(config), "PIP_FIND_LINKS": "c"}
    assert pip_settings(environment) == {"index-url": "https://index.example", "find-links": "c"}


@pytest.mark.parametrize(
    ("allowed", "version"), [(">=3.10,<4", "3.10"), ("==3.12.*", "3.12"), (">=3.11.4", "3.11")]
)
def test_the_lowest_python_that_is_allowed(allowed: str, version: str) -> None:
    assert lowest_python(SpecifierSet(allowed)) == version
