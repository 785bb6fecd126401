"""What has wheels for an image: proven by a lock, or asked of an index."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mega_optimizer.codemods.containers.platforms import architectures
from mega_optimizer.codemods.containers.wheels import Library, Target, wheel_obstacle
from mega_optimizer.codemods.context import Context
from mega_optimizer.engine.resolve import Resolver
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.service import Service
from tests.engine.local_index import add_wheel, resolver, serve

ANY = "py3-none-any"
GLIBC = "cp311-cp311-manylinux_2_17_x86_64"
MUSL = "cp311-cp311-musllinux_1_2_x86_64"
BOTH = ("x86_64", "aarch64")


def context(files: dict[str, str], index: Resolver | None = None) -> Context:
    names = ("requirements.txt", "pyproject.toml")
    manifests = tuple(path for path in files if path in names)
    service = Service("shop", "", "Dockerfile", manifests=manifests)
    content = {path: text.encode() for path, text in files.items()}
    return Context(service, MemoryFiles(content, {}), index=index)


def locked(*tags: str) -> Context:
    wheels = "".join(
        f'    {{ url = "https://files.example.com/fast-1.0-{tag}.whl", size = 1 }},\n'
        for tag in tags
    )
    return context(
        {
            "pyproject.toml": '[project]\nname = "shop"\ndependencies = ["fast"]\n',
            "uv.lock": "version = 1\n\n"
            '[[package]]\nname = "fast"\nversion = "1.0"\n'
            'source = { registry = "https://example.com/simple" }\n'
            f"wheels = [\n{wheels}]\n\n"
            '[[package]]\nname = "shop"\nsource = { virtual = "." }\n'
            'dependencies = [{ name = "fast" }]\n',
        }
    )


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Resolver]:
    folder = tmp_path / "index"
    add_wheel(folder, "web", "1.0")
    for version, tag in (("1.0", MUSL), ("2.0", GLIBC)):
        wheel = add_wheel(folder, "fast", version)
        wheel.rename(folder / "fast" / f"fast-{version}-{tag}.whl")
    with serve(folder) as address:
        yield resolver(tmp_path, address)


@pytest.mark.parametrize(
    ("tags", "library", "machines", "fits"),
    [
        ((ANY,), "glibc", BOTH, True),
        ((GLIBC,), "glibc", ("x86_64",), True),
        ((GLIBC,), "glibc", BOTH, False),
        ((GLIBC,), "musl", ("x86_64",), False),
        ((GLIBC, MUSL), "musl", ("x86_64",), True),
        (("cp39-abi3-manylinux_2_17_x86_64",), "glibc", ("x86_64",), True),
        (("cp312-cp312-manylinux_2_17_x86_64",), "glibc", ("x86_64",), False),
        (("cp311-cp311-manylinux_2_39_x86_64",), "glibc", ("x86_64",), False),
        (("cp311-cp311-win_amd64",), "glibc", ("x86_64",), False),
        ((), "glibc", ("x86_64",), False),
    ],
)
def test_a_lock_proves_what_has_wheels(
    tags: tuple[str, ...], library: Library, machines: tuple[str, ...], fits: bool
) -> None:
    obstacle = wheel_obstacle(locked(*tags), (), Target("3.11", library, machines), Place("x"))
    assert (obstacle is None) == fits


def test_the_index_is_asked_where_no_lock_names_files(index: Resolver) -> None:
    glibc = Target("3.11", "glibc", ("x86_64",))
    assert (
        wheel_obstacle(context({"requirements.txt": "web\nfast\n"}, index), (), glibc, Place("x"))
        is None
    )
    obstacle = wheel_obstacle(
        context({"requirements.txt": "web\n"}, index), ("fast==1.0",), glibc, Place("x")
    )
    assert obstacle is not None
    assert obstacle.code in ("no-wheel", "wheels-unknown")


def test_an_old_release_with_a_musl_wheel_does_not_count(index: Resolver) -> None:
    musl = Target("3.11", "musl", ("x86_64",))
    obstacle = wheel_obstacle(context({"requirements.txt": "fast\n"}, index), (), musl, Place("x"))
    assert obstacle is not None
    assert obstacle.code in ("no-wheel", "wheels-unknown")


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"requirements.txt": "web\n"}, "wheels-unknown"),
        ({"requirements.txt": "--index-url https://example.com/simple\nweb\n"}, "own-index"),
        ({"requirements.txt": "web @ https://example.com/web.tar.gz\n"}, "not-from-an-index"),
    ],
)
def test_nothing_is_believed_without_proof(files: dict[str, str], code: str) -> None:
    target = Target("3.11", "glibc", ("x86_64",))
    obstacle = wheel_obstacle(context(files), (), target, Place("x"))
    assert obstacle is not None
    assert obstacle.code == code


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (".github/workflows/ci.yml", "platforms: linux/amd64,linux/arm64\n", BOTH),
        ("compose.yaml", "platform: linux/arm64\n", BOTH),
        ("Makefile", "docker buildx build --platform linux/arm64 .\n", BOTH),
        ("README.md", "linux/arm64 works too\n", ("x86_64",)),
    ],
)
def test_architectures_are_those_that_something_builds(
    path: str, text: str, expected: tuple[str, ...]
) -> None:
    assert architectures(context({path: text})) == expected
