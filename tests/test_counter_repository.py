"""Nothing is changed where each place has a reason to be as it is, and every reason has a code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mega_optimizer.rules import load_rules

COUNTER = Path(__file__).resolve().parent.parent / "fixtures" / "counter_repo"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    copy = tmp_path_factory.mktemp("counter") / "repository"
    shutil.copytree(COUNTER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--level", "review", "--check", "--format", "json", "--offline", "--sizes", "off"]
    done = subprocess.run(
        [sys.executable, "-m", "mega_optimizer", "optimize", copy, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stdout + done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def test_nothing_is_changed(result: dict[str, Any]) -> None:
    assert result["changes"] == []
    assert result["errors"] == []


def test_every_skip_has_a_code_and_a_reason(result: dict[str, Any]) -> None:
    advised = {rule.id for rule in load_rules() if rule.level == "advice"}
    findings = [finding for finding in result["findings"] if finding["rule"] not in advised]
    assert findings
    assert [
        finding
        for finding in findings
        if finding["status"] != "skipped" or not finding["code"] or not finding["reason"]
    ] == []


def test_both_services_are_seen_for_what_they_are(result: dict[str, Any]) -> None:
    traits = {
        service["name"]: {trait["name"] for trait in service["traits"]}
        for service in result["services"]
    }
    assert traits["ledger"] >= {"fastapi", "uvicorn", "sqlalchemy", "redis", "httpx", "sklearn"}
    assert traits["reports"] >= {"flask", "gunicorn", "requests"}
