from __future__ import annotations

import json
from importlib.resources import files

import pytest

from mega_optimizer.measure.bases import base_size


@pytest.mark.parametrize(
    "image",
    ["python:3.12-slim", "docker.io/library/python:3.12-slim", "python:3.12-slim-trixie"],
)
def test_an_official_image_has_a_size_under_all_its_names(image: str) -> None:
    size = base_size(image)
    assert size.compressed.value == 43_188_023
    assert size.on_disk.value == 119_200_000
    assert size.compressed.source.startswith("docker-library/repo-info@")


@pytest.mark.parametrize(
    "image",
    ["python:3.12.1-slim", "python:3.12-slim@sha256:00", "example.com/python:3.12-slim", "python"],
)
def test_no_figure_is_guessed_for_what_the_table_does_not_name(image: str) -> None:
    size = base_size(image)
    assert size.compressed.value is None
    assert image in size.compressed.why_unknown
    assert size.on_disk.value is None


def test_scratch_is_empty() -> None:
    assert base_size("scratch").on_disk.value == 0


def test_every_figure_of_the_table_has_a_source_and_a_date() -> None:
    text = files("mega_optimizer.measure").joinpath("bases.json").read_text(encoding="utf-8")
    for entry in json.loads(text)["images"]:
        for record in (entry["compressed"], entry.get("on_disk", entry["compressed"])):
            assert record["bytes"] > 0
            assert record["source"].endswith(f"{entry['tags'][0]}.md")
            assert record["date"].startswith("2026-")
