from __future__ import annotations

import pytest
from packaging.version import Version

from mega_optimizer.measure.wheels import Platform, platform_of, wheel_for
from mega_optimizer.repository.dependencies.model import LockedPackage


@pytest.mark.parametrize(
    ("image", "platform"),
    [
        ("python:3.12-slim", Platform(12, 41)),
        ("python:3.9", Platform(9, 41)),
        ("docker.io/library/python:3.11.4-slim-bullseye", Platform(11, 31)),
        ("python:3.13-bookworm@sha256:00", Platform(13, 36)),
        ("python:3.10-alpine3.20", Platform(10, None)),
        ("python:slim", None),
        ("python:3", None),
        ("node:20", None),
        ("example.com/my-python:3.12", None),
    ],
)
def test_the_tag_of_an_image_says_which_wheels_fit(image: str, platform: Platform | None) -> None:
    assert platform_of(image) == platform


def package(*names: str) -> LockedPackage:
    sizes = {name: position for position, name in enumerate(names, start=1)}
    return LockedPackage("x", Version("1"), sizes)


@pytest.mark.parametrize(
    ("chosen", "platform", "names"),
    [
        # The most specific wheel wins, not the first one.
        (
            "x-1-cp312-cp312-manylinux_2_28_x86_64.whl",
            Platform(12, 41),
            [
                "x-1-py3-none-any.whl",
                "x-1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
                "x-1-cp312-cp312-manylinux_2_28_x86_64.whl",
                "x-1-cp312-cp312-macosx_11_0_arm64.whl",
            ],
        ),
        # An older C library than the wheel asks for.
        (
            "x-1-cp312-cp312-manylinux2014_x86_64.whl",
            Platform(12, 31),
            [
                "x-1-cp312-cp312-manylinux_2_34_x86_64.whl",
                "x-1-cp312-cp312-manylinux2014_x86_64.whl",
            ],
        ),
        (
            "x-1-cp39-abi3-manylinux2014_x86_64.whl",
            Platform(13, 41),
            ["x-1-cp39-abi3-manylinux2014_x86_64.whl", "x-1-cp39-abi3-musllinux_1_2_x86_64.whl"],
        ),
        (
            "x-1-cp39-abi3-musllinux_1_2_x86_64.whl",
            Platform(13, None),
            ["x-1-cp39-abi3-manylinux2014_x86_64.whl", "x-1-cp39-abi3-musllinux_1_2_x86_64.whl"],
        ),
        (None, Platform(11, 41), ["x-1-cp312-cp312-manylinux2014_x86_64.whl", "broken.whl"]),
        (None, Platform(12, 41), ["x-1-cp312-cp312-manylinux2014_aarch64.whl"]),
    ],
)
def test_the_wheel_that_pip_would_install_is_chosen(
    chosen: str | None, platform: Platform, names: list[str]
) -> None:
    found = wheel_for(package(*names), platform)
    assert found == (None if chosen is None else (chosen, names.index(chosen) + 1))
