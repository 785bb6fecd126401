"""Does a rewritten file still parse? Each kind of file is asked of a parser that is not ours."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def still_parses(path: str, before: bytes | None, after: bytes) -> bool:
    """Whether ``after`` parses as what ``path`` is; what did not parse ``before`` is not judged."""
    parses = _parser_of(path)
    return parses is None or (before is not None and not parses(before)) or parses(after)


def _parser_of(path: str) -> Callable[[bytes], bool] | None:
    name = PurePosixPath(path).name.lower()
    if name.endswith(".py"):
        return _is_python
    if name.endswith((".yaml", ".yml")):
        return _is_yaml
    if name.endswith((".toml", ".lock")) or name == "pipfile":
        return _is_toml if name != "pipfile.lock" else _is_json
    if name.endswith(".json"):
        return _is_json
    if "dockerfile" in name and not name.endswith(".dockerignore"):
        return _is_dockerfile
    return None


def _is_python(content: bytes) -> bool:
    import ast

    try:
        ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _is_yaml(content: bytes) -> bool:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        for _ in YAML(typ="rt", pure=True).parse(content):
            pass
    except (YAMLError, ValueError, RecursionError):
        return False
    return True


def _is_toml(content: bytes) -> bool:
    import tomllib

    try:
        tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # ValueError: also an integer of over 4,300 digits
        return False
    return True


def _is_json(content: bytes) -> bool:
    import json

    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _is_dockerfile(content: bytes) -> bool:
    import dockerfile

    try:
        return bool(dockerfile.parse_string(content.decode("utf-8-sig")))
    except (dockerfile.GoParseError, UnicodeDecodeError):
        return False
