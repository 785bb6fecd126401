"""Read one Python file: screen its bytes, parse it with ``ast``, walk the tree once."""

from __future__ import annotations

import ast
import re
import sys
import warnings

from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.python.build import build_facts
from mega_optimizer.repository.python.facts import PythonFacts
from mega_optimizer.repository.python.names import NameTable
from mega_optimizer.repository.python.walk import Walk

# Cookiecutter, copier and Jinja sources: some of them parse and mean something else.
COOKIECUTTER = re.compile(rb"\{[{%][^\n}]{0,200}\bcookiecutter\b")
JINJA_COMMENT = re.compile(rb"(?m)^[ \t]*#[^\n]*\{%[-+]?\s*\w")
JINJA = re.compile(rb"\{%|\{\{")
# Bytes that ast reads otherwise than libcst, or that libcst cannot give back (FACTS, libcst).
FORM_FEED_BEFORE_CODE = re.compile(rb"(?m)^(?:[ \t]+\x0c|\x0c[ \t]+[^\s#])")
BARE_CARRIAGE_RETURN = re.compile(rb"\r(?!\n)")


@by_content(size=8192)
def python_facts(path: str, content: bytes) -> PythonFacts | Problem:
    """Return the facts about a Python file, or the Problem that keeps it from being understood.

    Codes: ``control-character``, ``form-feed``, ``carriage-return``, ``templated``,
    ``syntax-error``, ``too-deep``.
    """
    problem = _screened(path, content)
    if problem is not None:
        return problem
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes of the target are not our output
            tree = ast.parse(content)
        walk = Walk(tree)
        if walk.is_template:
            return Problem(path, "templated", "is a template of Python source")
        return build_facts(path, walk, NameTable(walk))
    except SyntaxError as error:
        return _syntax_problem(path, content, error)
    except ValueError as error:  # undecodable source, null bytes
        return Problem(path, "syntax-error", str(error))
    except (RecursionError, MemoryError):
        return Problem(path, "too-deep", "is nested too deeply to be read safely")


def _screened(path: str, content: bytes) -> Problem | None:
    for character, name in ((b"\0", "a NUL byte"), (b"\x1a", "a Ctrl-Z")):
        if character in content:
            line = content.count(b"\n", 0, content.index(character)) + 1
            return Problem(path, "control-character", f"holds {name}", line)
    if b"\x0c" in content and (match := FORM_FEED_BEFORE_CODE.search(content)):
        line = content.count(b"\n", 0, match.start()) + 1
        return Problem(path, "form-feed", "holds a form feed before an indent", line)
    if b"\r" in content and (match := BARE_CARRIAGE_RETURN.search(content)):
        line = content.count(b"\n", 0, match.start()) + 1
        return Problem(path, "carriage-return", "ends lines with a bare carriage return", line)
    if "{{" in path or COOKIECUTTER.search(content) or JINJA_COMMENT.search(content):
        return Problem(path, "templated", "is a template of Python source")
    return None


def _syntax_problem(path: str, content: bytes, error: SyntaxError) -> Problem:
    if "too many nested" in error.msg or "too many statically nested" in error.msg:
        return Problem(path, "too-deep", f"line {error.lineno}: {error.msg}", error.lineno or 1)
    if JINJA.search(content):
        return Problem(path, "templated", "is a template of Python source", error.lineno or 1)
    host = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    message = f"{host} cannot read line {error.lineno or 1}: {error.msg}"
    return Problem(path, "syntax-error", message, error.lineno or 1)
