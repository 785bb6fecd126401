from __future__ import annotations

import libcst as cst
import pytest

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.imports import ensure_import, without_import
from mega_optimizer.repository.python import PythonFacts, python_facts


def facts_of(source: str, path: str = "app/main.py") -> PythonFacts:
    facts = python_facts(path, source.encode())
    assert isinstance(facts, PythonFacts), facts
    return facts


def added(source: str, module: str = "fastapi.responses", name: str = "ORJSONResponse") -> str:
    result = ensure_import(cst.parse_module(source), facts_of(source), module, name, 100)
    if isinstance(result, Skip):
        return result.code
    tree, local = result
    return tree.code if local == name else f"{local}: {tree.code}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (  # its own line, behind the nearest of the family
            "import os\n\nfrom fastapi import FastAPI\nfrom pydantic import BaseModel\n",
            "import os\n\nfrom fastapi import FastAPI\n"
            "from fastapi.responses import ORJSONResponse\nfrom pydantic import BaseModel\n",
        ),
        (  # in isort's order among the names
            "from fastapi.responses import JSONResponse, RedirectResponse\n",
            "from fastapi.responses import JSONResponse, ORJSONResponse, RedirectResponse\n",
        ),
        (  # at the end of an unordered list
            "from fastapi.responses import RedirectResponse, JSONResponse\n",
            "from fastapi.responses import RedirectResponse, JSONResponse, ORJSONResponse\n",
        ),
        (  # one name per line, with comments and trailing comma
            "from fastapi.responses import (\n    JSONResponse,  # a\n    Response,\n)\n",
            "from fastapi.responses import (\n    JSONResponse,  # a\n    ORJSONResponse,\n"
            "    Response,\n)\n",
        ),
        (  # one name per line, at the end, without trailing comma
            "from fastapi.responses import (\n    FileResponse,\n    JSONResponse\n)\n",
            "from fastapi.responses import (\n    FileResponse,\n    JSONResponse,\n"
            "    ORJSONResponse\n)\n",
        ),
        (  # the line would get too long
            "from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response\n",
            "from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response\n"
            "from fastapi.responses import ORJSONResponse\n",
        ),
        (  # a line that isort must not touch
            "from fastapi.responses import JSONResponse  # isort: skip\n",
            "from fastapi.responses import JSONResponse  # isort: skip\n"
            "from fastapi.responses import ORJSONResponse\n",
        ),
        (  # one import per name is the style of the file
            "from fastapi.responses import FileResponse\nfrom fastapi.responses import Response\n",
            "from fastapi.responses import FileResponse\nfrom fastapi.responses import Response\n"
            "from fastapi.responses import ORJSONResponse\n",
        ),
        (  # docstring and __future__ first
            '"""Doc."""\n\nfrom __future__ import annotations\n\nx = 1\n',
            '"""Doc."""\n\nfrom __future__ import annotations\n\n'
            "from fastapi.responses import ORJSONResponse\n\nx = 1\n",
        ),
        (  # before the relative imports
            "from .db import engine\n",
            "from fastapi.responses import ORJSONResponse\n\nfrom .db import engine\n",
        ),
        (  # there already
            "from fastapi.responses import ORJSONResponse\n",
            "from fastapi.responses import ORJSONResponse\n",
        ),
        (  # there already, under another name
            "from fastapi.responses import ORJSONResponse as Fast\n",
            "Fast: from fastapi.responses import ORJSONResponse as Fast\n",
        ),
        ("from fastapi import *\n", "star-import"),
        ("import fastapi\nORJSONResponse = 1\n", "name-taken"),
        ("import fastapi\ndef f(ORJSONResponse): ...\n", "name-taken"),
        ("import fastapi\nfrom other import ORJSONResponse\n", "name-taken"),
        (
            "try:\n    from fastapi.responses import ORJSONResponse\nexcept ImportError: ...\n",
            "conditional-import",
        ),
        (
            "if TYPE_CHECKING:\n    from fastapi.responses import ORJSONResponse\n",
            "conditional-import",
        ),
        ("x = 1\n", "no-place-for-import"),
    ],
)
def test_import_is_added_as_a_person_would(before: str, after: str) -> None:
    assert added(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "from sqlalchemy import create_engine\n",
            "from functools import lru_cache\n\nfrom sqlalchemy import create_engine\n",
        ),
        (
            "import os\nimport sys\n\nimport sqlalchemy\n",
            "import os\nimport sys\nfrom functools import lru_cache\n\nimport sqlalchemy\n",
        ),
        (
            '"""Doc."""\n\nfrom typing import Any\n\nimport sqlalchemy\n',
            '"""Doc."""\n\nfrom functools import lru_cache\nfrom typing import Any\n\n'
            "import sqlalchemy\n",
        ),
        (
            "from functools import wraps\n",
            "from functools import lru_cache, wraps\n",
        ),
        (
            "# Licence\nimport sqlalchemy\n",
            "# Licence\nfrom functools import lru_cache\n\nimport sqlalchemy\n",
        ),
    ],
)
def test_standard_library_comes_first(before: str, after: str) -> None:
    assert added(before, "functools", "lru_cache") == after


def test_added_import_keeps_the_line_endings() -> None:
    source = b"from fastapi import FastAPI\r\nx = 1\r\n"
    facts = python_facts("a.py", source)
    assert isinstance(facts, PythonFacts)
    result = ensure_import(cst.parse_module(source), facts, "fastapi.responses", "Response", 9)
    assert not isinstance(result, Skip)
    assert result[0].bytes == (
        b"from fastapi import FastAPI\r\nfrom fastapi.responses import Response\r\nx = 1\r\n"
    )


def test_import_below_its_use_is_no_anchor() -> None:
    source = "app = make()\nfrom fastapi import FastAPI\n"
    result = ensure_import(
        cst.parse_module(source), facts_of(source), "fastapi.responses", "Response", 1
    )
    assert isinstance(result, Skip)


def removed(source: str, path: str = "app/main.py") -> str:
    return without_import(cst.parse_module(source), facts_of(source, path), "X").code


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from a import X\ny = 1\n", "y = 1\n"),
        ("from a import W, X\n", "from a import W\n"),
        ("from a import X, Y\n", "from a import Y\n"),
        ("from a import (\n    W,\n    X,\n)\n", "from a import (\n    W,\n)\n"),
        ("from a import W as X, Y\n", "from a import Y\n"),
        ("import os\n\nfrom a import X\n\nimport b\n", "import os\n\nimport b\n"),
        (
            "import os\n\n# about X\nfrom a import X\nimport b\n",
            "import os\n\n# about X\nimport b\n",
        ),
    ],
)
def test_unused_import_goes(before: str, after: str) -> None:
    assert removed(before) == after


@pytest.mark.parametrize(
    "source",
    [
        "from a import X\nf(X)\n",
        "from a import X  # noqa: F401\n",
        "from a import X  # noqa\n",
        "from a import X  # noqa: E501, F401\n",
        "from a import X as X\n",
        "from a import X\n__all__ = ['X']\n",
        'from a import X\ndef f():\n    """>>> X()"""\n',
        "from a import X\ndef f(x: 'X'): ...\n",
        "try:\n    from a import X\nexcept ImportError:\n    X = None\n",
        "def f():\n    from a import X\n",
    ],
)
def test_import_that_may_be_needed_stays(source: str) -> None:
    assert removed(source) == source


def test_import_of_a_package_interface_stays() -> None:
    assert removed("from a import X\n", "app/__init__.py") == "from a import X\n"


def of_its_own(source: str, module: str) -> str:
    result = ensure_import(
        cst.parse_module(source),
        facts_of(source),
        module,
        "cached",
        100,
        own=lambda dotted: dotted.partition(".")[0] == "app",
    )
    assert not isinstance(result, Skip), result
    return result[0].code


@pytest.mark.parametrize(
    ("before", "module", "after"),
    [
        (  # the first import of the service's own code stands behind those of packages
            "import httpx\nfrom fastapi import FastAPI\n",
            "app.cache",
            "import httpx\nfrom fastapi import FastAPI\n\nfrom app.cache import cached\n",
        ),
        (  # where there is one already, beside it
            "import httpx\nfrom app.settings import settings\nfrom fastapi import FastAPI\n",
            "app.cache",
            "import httpx\nfrom app.cache import cached\nfrom app.settings import settings\n"
            "from fastapi import FastAPI\n",
        ),
        (
            "import httpx\n\nfrom .settings import settings\n",
            ".cache",
            "import httpx\n\nfrom .cache import cached\nfrom .settings import settings\n",
        ),
        (
            "import httpx\n\nfrom .models import Item\n",
            "..cache",
            "import httpx\n\nfrom ..cache import cached\nfrom .models import Item\n",
        ),
    ],
)
def test_own_code_stands_behind_packages(before: str, module: str, after: str) -> None:
    assert of_its_own(before, module) == after
