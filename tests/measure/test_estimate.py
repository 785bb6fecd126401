from __future__ import annotations

from types import MappingProxyType

import pytest
from packaging.version import Version

from mega_optimizer.codemods.context import Context
from mega_optimizer.measure.estimate import (
    Difference,
    ImageEstimate,
    differences,
    estimate_image,
    known_difference,
)
from mega_optimizer.repository.dependencies.model import LockedPackage
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.service import Service

DOCKERFILE = """\
FROM python:3.12-slim
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir -r requirements.txt
CMD ["python", "main.py"]
"""
REQUIREMENTS = "orjson==3.11.0\nfastapi==0.115.0\n"
RESOLVED = {
    "orjson": LockedPackage(
        "orjson",
        Version("3.11.0"),
        MappingProxyType({"orjson-3.11.0-cp312-cp312-manylinux2014_x86_64.whl": 130_000}),
    ),
    "fastapi": LockedPackage(
        "fastapi",
        Version("0.115.0"),
        MappingProxyType({"fastapi-0.115.0-py3-none-any.whl": 94_000}),
    ),
}


def estimate(
    dockerfile: str = DOCKERFILE,
    *,
    resolved: dict[str, LockedPackage] | None = None,
    git_bytes: int | None = None,
    root: str = "",
    others: dict[str, bytes] | None = None,
) -> ImageEstimate:
    prefix = f"{root}/" if root else ""
    contents = {
        f"{prefix}Dockerfile": dockerfile.encode(),
        f"{prefix}requirements.txt": REQUIREMENTS.encode(),
        f"{prefix}main.py": b"print()\n" * 1000,
        **(others or {}),
    }
    service = Service("api", root, f"{prefix}Dockerfile", manifests=(f"{prefix}requirements.txt",))
    context = Context(service, MemoryFiles(contents))
    return estimate_image(context, context.dependencies, resolved, git_bytes)


def sizes(image: ImageEstimate) -> dict[str, tuple[int | None, int | None]]:
    return {part.name: (part.compressed.value, part.on_disk.value) for part in image.parts}


def test_an_image_of_known_parts_has_a_compressed_total() -> None:
    image = estimate(resolved=RESOLVED, git_bytes=5_000_000)
    assert sizes(image)["base image"] == (43_188_023, 119_200_000)
    assert sizes(image)[".git"] == (5_000_000, 5_000_000)
    compressed, on_disk = sizes(image)["build context"]
    # Two files of one block each, one of 8,000 bytes, and their headers.
    assert on_disk == 512 + 512 + 8192 + 3 * 512
    assert compressed is not None
    assert compressed < 1000
    fastapi, orjson = (sizes(image)[f"package {name}"] for name in ("fastapi", "orjson"))
    packages = (fastapi[0] or 0) + (orjson[0] or 0)
    assert image.bytes_compressed == 43_188_023 + packages + 5_000_000 + compressed
    assert image.unknown == ()
    assert image.date == "2026-07-14"
    assert "docker-library/repo-info@" in image.source


def test_a_package_weighs_more_than_its_wheel_where_bytecode_is_compiled() -> None:
    with_pip = sizes(estimate(resolved=RESOLVED))
    with_uv = sizes(estimate(DOCKERFILE.replace("RUN pip", "RUN uv pip"), resolved=RESOLVED))
    told_to = DOCKERFILE.replace("RUN pip", "ENV UV_COMPILE_BYTECODE=1\nRUN uv pip")

    (compiled, on_disk), (alone, _) = with_pip["package fastapi"], with_uv["package fastapi"]
    assert alone is not None
    assert compiled is not None
    assert on_disk is not None
    assert alone < 94_000 < compiled < on_disk
    # Most of this wheel is machine code.
    assert (with_pip["package orjson"][0] or 0) - 130_000 < compiled - 94_000
    told = sizes(estimate(told_to, resolved=RESOLVED))
    assert told["package fastapi"] == with_pip["package fastapi"]


def test_without_sizes_in_a_lock_the_gap_is_told_and_there_is_no_total() -> None:
    image = estimate(git_bytes=0)
    assert image.bytes_compressed is None
    assert any(
        "No lock file gives its wheel sizes" in gap for gap in image.gaps("bytes compressed")
    )
    assert any("draw in" in gap for gap in image.gaps("bytes compressed"))


@pytest.mark.parametrize(
    ("line", "gap"),
    [
        ("RUN apt-get update && apt-get install -y gcc libpq-dev", "system packages gcc libpq-dev"),
        ("RUN curl -LO https://example.com/model.bin", "what curl makes"),
        ("RUN pip install -U gunicorn uvloop", "packages gunicorn uvloop"),
        ("RUN uv pip install --system gunicorn", "packages gunicorn"),
        ("ADD https://example.com/model.bin /model", "It downloads https://example.com/model.bin"),
        ("COPY --from=example.com/tools:1 /bin/tool /bin/", "from the image example.com/tools:1"),
        ("COPY models/ /models/", "models/ is no file that git tracks"),
    ],
)
def test_what_a_build_downloads_or_makes_is_listed_as_unknown(line: str, gap: str) -> None:
    image = estimate(f"{DOCKERFILE}{line}\n", resolved=RESOLVED, git_bytes=0)
    assert image.bytes_compressed is None
    assert [told for told in image.gaps("bytes compressed") if gap in told], image.unknown


@pytest.mark.parametrize(
    "line",
    [
        "RUN mkdir -p /data && useradd app && ln -s /data /srv/data",
        "ENV A=1",
        "RUN apt-get update && rm -rf /var/lib/apt/lists/*",
    ],
)
def test_what_leaves_nothing_behind_is_no_gap(line: str) -> None:
    image = estimate(f"{DOCKERFILE}{line}\n", resolved=RESOLVED, git_bytes=0)
    assert image.bytes_compressed is not None


def test_a_pip_cache_weighs_what_the_wheels_weigh() -> None:
    before = estimate(DOCKERFILE.replace(" --no-cache-dir", ""), resolved=RESOLVED, git_bytes=0)
    after = estimate(resolved=RESOLVED, git_bytes=0)
    assert Difference("pip's cache", -224_000, -224_000) in differences(before, after)


@pytest.mark.parametrize(
    "run",
    [
        "RUN --mount=type=cache,target=/root/.cache pip install -r requirements.txt",
        "RUN pip install -r requirements.txt && rm -rf /root/.cache",
        "ENV PIP_NO_CACHE_DIR=1\nRUN pip install -r requirements.txt",
    ],
)
def test_a_cache_that_does_not_stay_in_the_image_is_no_part_of_it(run: str) -> None:
    written = DOCKERFILE.replace("RUN pip install --no-cache-dir -r requirements.txt", run)
    assert "pip's cache" not in sizes(estimate(written, resolved=RESOLVED))


def test_an_unknown_part_does_not_hide_what_a_known_one_wins() -> None:
    dockerfile = DOCKERFILE.replace("python:3.12-slim", "python:3.12.1-slim")
    before = estimate(dockerfile, git_bytes=7_000_000)
    after = estimate(dockerfile, git_bytes=7_000_000, others={".dockerignore": b".git\n"})
    assert before.bytes_compressed is after.bytes_compressed is None
    changed = {each.name: each.on_disk for each in differences(before, after)}
    # The ignore file itself takes two blocks of 512 bytes.
    assert changed == {".git": -7_000_000, "build context": 1024}
    assert known_difference(before, after, "bytes on disk") == -6_998_976


def test_a_context_below_the_root_holds_no_history() -> None:
    assert ".git" not in sizes(estimate(root="services/api", git_bytes=9))


def test_what_the_ignore_file_keeps_out_is_not_counted() -> None:
    ignored = {".dockerignore": b".git\n*.csv\n.dockerignore\n", "data.csv": b"1,2\n" * 500}
    assert sizes(estimate(others=ignored))["build context"] == sizes(estimate())["build context"]


def test_only_what_ships_counts_and_packages_may_come_from_a_builder() -> None:
    dockerfile = """\
FROM python:3.12 AS builder
RUN apt-get install -y gcc
COPY requirements.txt .
RUN python -m venv /opt/venv && /opt/venv/bin/pip install -r requirements.txt
FROM python:3.12-slim
COPY --from=builder /opt/venv /opt/venv
COPY main.py .
"""
    image = estimate(dockerfile, resolved=RESOLVED)
    assert set(sizes(image)) == {
        "base image",
        "package fastapi",
        "package orjson",
        "pip in the virtual environment",
        "build context",
    }
    without = dockerfile.replace("-m venv", "-m venv --without-pip")
    assert "pip in the virtual environment" not in sizes(estimate(without, resolved=RESOLVED))
    assert sizes(image)["build context"][1] == 8192 + 512


def test_a_broken_dockerfile_is_a_gap() -> None:
    image = estimate("RUN no from\n")
    assert image.bytes_compressed is None
    assert image.gaps("bytes compressed")


def test_a_service_without_dockerfile_has_no_image() -> None:
    context = Context(Service("worker", ""), MemoryFiles({}))
    image = estimate_image(context, context.dependencies)
    assert image.unknown[0] == "image, compressed: The service has no Dockerfile"
