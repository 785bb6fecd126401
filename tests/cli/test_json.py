"""The JSON result is an interface: it is what schema.json says, key by key."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mega_optimizer.cli.app import run
from tests.repositories import SERVICE, below, changed, committed, mega_optimize, write

SCHEMA = json.loads(files("mega_optimizer.report").joinpath("schema.json").read_text("utf-8"))
SAMPLE = Path(__file__).parents[2] / "fixtures" / "sample_repo"


def validated(text: str) -> dict[str, Any]:
    result = json.loads(text)
    errors = [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(result)]
    assert errors == []
    assert isinstance(result, dict)
    return result


VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_schema_is_one_and_knows_every_key() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for name, definition in SCHEMA["$defs"].items():
        for part in (definition, *definition.get("properties", {}).values()):
            if part.get("type") == "object":
                assert part["additionalProperties"] is False, name
                assert sorted(part["required"]) == sorted(part["properties"]), name


def test_the_keys_are_those_of_the_design(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {**SERVICE, "compose.yaml": "services: ["})
    assert run([str(tmp_path), "--diff", "--format", "json", "--offline"]) == 0
    result = validated(capsys.readouterr().out)
    assert {key: _keys(value) for key, value in result.items()} == {
        "schema": None,
        "tool": {"name", "version"},
        "repository": {"path", "commit"},
        "services": {"name", "root", "dockerfile", "launch", "traits"},
        "findings": {
            *("rule", "level", "service", "path", "line", "column", "end_line", "fingerprint"),
            *("status", "code", "message", "reason", "patch", "answers"),
        },
        "changes": {"rule", "level", "service", "paths", "verified"},
        "images": {"service", "before", "after", "checks", "packages", "samples"},
        "pull_request": None,
        "errors": {"path", "line", "stage", "code", "message"},
        "warnings": set(),
        "timings": {"scan_s", "plan_s", "verify_s", "measure_s"},
    }
    size = {"bytes_on_disk", "bytes_compressed", "kind", "source", "date", "unknown", "layers"}
    assert set(result["images"][0]["before"]) == size
    assert set(result["services"][0]["launch"][0]) == {"path", "line", "command"}
    assert set(result["services"][0]["traits"][0]) == {"name", "path", "line"}


def _keys(value: object) -> set[str] | None:
    """Return the keys of an object, or of the objects in a list, which are all the same."""
    if isinstance(value, list):
        every = {frozenset(each) for each in value if isinstance(each, dict)}
        assert len(every) <= 1
        return set(*every)
    return set(value) if isinstance(value, dict) else None


@pytest.mark.parametrize(
    "arguments",
    [
        ("--diff",),
        ("--check", "--level", "review"),
        ("--diff", "--select", "json", "--sizes", "off"),
        ("--diff", "--service", "orchestrator", "--exclude", "*.txt"),
    ],
)
def test_the_sample_repository_gives_a_valid_result(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    run([str(SAMPLE), *arguments, "--format", "json", "--offline"])
    result = validated(capsys.readouterr().out)
    assert {service["name"] for service in result["services"]} >= {"api-gateway", "orchestrator"}


def test_what_was_written_is_told_as_applied_and_the_second_run_has_nothing_to_do(
    tmp_path: Path,
) -> None:
    target = tmp_path / "target"
    shutil.copytree(SAMPLE, target)
    committed(target, {})
    arguments = (target, "--format", "json", "--level", "review")
    first = validated(mega_optimize(*arguments, status=0).stdout)
    statuses = {finding["status"] for finding in first["findings"]}
    assert "applied" in statuses
    assert "would-apply" not in statuses
    assert {path for change in first["changes"] for path in change["paths"]} == changed(target)
    second = validated(mega_optimize(*arguments, "--allow-dirty", status=0).stdout)
    assert second["changes"] == []


def test_errors_warnings_and_empty_targets_are_valid_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--diff", "--format", "json", "--offline"]
    write(tmp_path, {"empty/README": "x\n"})
    run([str(tmp_path / "empty"), *options])
    result = validated(capsys.readouterr().out)
    assert result["repository"]["commit"] is None
    assert (result["services"], result["findings"]) == ([], [])
    broken = {
        **below("one", SERVICE | {"Dockerfile": "RUN x\nFROM y\n", "main.py": "def (:\n"}),
        **below("two", SERVICE),
        "two/compose.yaml": "services: [",
    }
    broken["two/main.py"] += "# mega-optimize: ignore[nothing]\n"
    write(tmp_path / "broken", broken)
    run([str(tmp_path / "broken"), *options])
    result = validated(capsys.readouterr().out)
    assert len(result["errors"]) == 2
    assert len(result["warnings"]) == 1


def test_a_result_with_an_unknown_key_is_not_valid() -> None:
    assert any(VALIDATOR.iter_errors({"schema": 1, "extra": 1}))
    assert any(VALIDATOR.iter_errors({"schema": 2}))
