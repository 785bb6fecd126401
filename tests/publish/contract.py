"""GitHub's published description of its REST API, cut down to what is used, as a judge.

It is fetched with npm when the tests are set up, and the trimmed copy is kept in the cache folder.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
from openapi_core import Config, OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

PACKAGE = "@octokit/openapi@23.0.2"
MEMBER = "package/generated/api.github.com.json"
HOST = "https://api.github.com"
OPERATIONS = {
    "/user": ["get"],
    "/repos/{owner}/{repo}": ["get"],
    "/repos/{owner}/{repo}/forks": ["post"],
    "/repos/{owner}/{repo}/git/ref/{ref}": ["get"],
    "/repos/{owner}/{repo}/compare/{basehead}": ["get"],
    "/repos/{owner}/{repo}/pulls": ["get", "post"],
    "/repos/{owner}/{repo}/pulls/{pull_number}": ["get", "patch"],
    "/repos/{owner}/{repo}/issues/{issue_number}/comments": ["get", "post"],
}
# Answered by GitHub wherever they fit, but declared for some operations only.
ANYWHERE = {"401": "requires_authentication", "403": "forbidden", "404": "not_found"}
LIMITED = {"429": "forbidden", "502": "service_unavailable"}

Json = dict[str, Any]


class NotFetched(Exception):
    """npm, or the registry that it asks, does not answer."""


def trimmed() -> Json:
    """Return the description of ``OPERATIONS`` with all that they refer to."""
    folder = platformdirs.user_cache_path("mega-optimizer-tests")
    kept = folder / f"{PACKAGE.rpartition('@')[2]}-{len(json.dumps(OPERATIONS))}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text("utf-8")))
    description = _trim(_fetched())
    folder.mkdir(parents=True, exist_ok=True)
    beside = kept.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(description), "utf-8")
    beside.replace(kept)
    return description


def _fetched() -> Json:
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                ["npm", "pack", "--silent", PACKAGE],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotFetched(f"npm does not answer: {error}") from error
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            raise NotFetched(f"npm pack {PACKAGE}: {done.stderr.strip()[-300:]}")
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile(MEMBER)
            assert member is not None
            return dict(json.load(io.TextIOWrapper(member, "utf-8")))


def _trim(whole: Json) -> Json:
    paths: Json = {}
    for path, methods in OPERATIONS.items():
        item = whole["paths"][path]
        paths[path] = {key: item[key] for key in ("parameters", *methods) if key in item}
        for method in methods:
            _make_strict(paths[path][method])
    small: Json = {
        "openapi": whole["openapi"],
        "info": whole["info"],
        "servers": [{"url": HOST}],
        "paths": paths,
        "components": {},
    }
    _without_examples(small)
    queue = [small]
    while queue:
        for reference in _references(queue.pop()):
            _, _, kind, name = reference.split("/")
            held = small["components"].setdefault(kind, {})
            if name not in held:
                held[name] = whole["components"][kind][name]
                _without_examples(held[name])
                queue.append(held[name])
    return small


def _make_strict(operation: Json) -> None:
    """Refuse unknown keys in request bodies, and declare the refusals that happen anywhere."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["schema"]["additionalProperties"] = False
    for status, name in (ANYWHERE | LIMITED).items():
        operation["responses"].setdefault(status, {"$ref": f"#/components/responses/{name}"})


def _without_examples(node: object) -> None:
    if isinstance(node, dict):
        if "properties" not in node:
            node.pop("examples", None)
        if isinstance(node.get("properties"), dict):
            node.pop("example", None)
        for value in node.values():
            _without_examples(value)
    elif isinstance(node, list):
        for value in node:
            _without_examples(value)


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []


class Contract:
    """Judges requests and answers, and makes answers that hold what the description requires."""

    def __init__(self, description: Json) -> None:
        self._schemas = description["components"]["schemas"]
        self._openapi = OpenAPI.from_dict(description, config=Config())

    def violations(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        sent: bytes,
        status: int,
        answered: bytes,
    ) -> list[str]:
        """Say what in a request, and in the answer to it, GitHub's description does not allow."""
        request = MockRequest(
            HOST,
            method.lower(),
            path,
            args=query,
            data=sent or None,
            content_type="application/json",
        )
        response = MockResponse(answered, status, content_type="application/json")
        found = []
        try:
            # A refused request may well be wrong: that is what it was refused for.
            if status != 422:
                self._openapi.validate_request(request)
        except OpenAPIError as error:
            found.append(f"{method} {path}: request: {_told(error)}")
        try:
            self._openapi.validate_response(request, response)
        except OpenAPIError as error:
            found.append(f"{method} {path}: answer {status}: {_told(error)}")
        return found

    def example(self, name: str) -> Json:
        """Return the least that the schema ``name`` allows."""
        return dict(self._example(self._schemas[name]))

    def _example(self, schema: Json) -> Any:  # noqa: ANN401 (any JSON value)
        if "$ref" in schema:
            return self._example(self._schemas[schema["$ref"].rpartition("/")[2]])
        if schema.get("nullable"):
            return None
        if "enum" in schema:
            return schema["enum"][0]
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self._example(schema[several][0])
        if "allOf" in schema:
            return {k: v for part in schema["allOf"] for k, v in self._example(part).items()}
        kind = schema.get("type", "object")
        if kind == "object":
            properties = schema.get("properties", {})
            return {key: self._example(properties[key]) for key in schema.get("required", ())}
        if kind == "string":
            formats = {"date-time": "2026-11-23T10:00:00Z", "uri": "https://example.invalid/x"}
            return formats.get(schema.get("format", ""), "x")
        return {"array": [], "integer": 1, "number": 1, "boolean": False}[kind]


def _told(error: BaseException) -> str:
    causes = getattr(error.__cause__, "schema_errors", ()) or ()
    told = [f"{'/'.join(map(str, each.path))}: {each.message[:200]}" for each in causes]
    return "; ".join(told) or str(error)[:300]


@cache
def contract() -> Contract:
    """Return the judge; raise :class:`NotFetched` where the description cannot be had."""
    return Contract(trimmed())
