"""pyproject.toml, Pipfile, setup.cfg and environment.yml."""

from __future__ import annotations

import pytest

from mega_optimizer.repository.dependencies.model import Manifest
from mega_optimizer.repository.dependencies.poetry import poetry_specifier
from mega_optimizer.repository.dependencies.read import read_manifest
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.place import Problem


def manifest(path: str, text: str) -> Manifest:
    found = read_manifest(MemoryFiles({path: text.encode()}), path)
    assert isinstance(found, Manifest), found
    return found


def words(found: Manifest) -> list[str]:
    return [
        f"{entry.group or 'run'}: {entry.name}{entry.specifier} {entry.origin} {entry.place.line}"
        for entry in found.dependencies
    ]


def test_reads_pep_621_groups_and_sources() -> None:
    found = manifest(
        "pyproject.toml",
        """\
[project]
name = "x"
requires-python = ">=3.11"
dependencies = [
  "FastAPI>=0.110",  # web
  "mine", "torch>=2",
]
[project.optional-dependencies]
postgres = ["asyncpg"]
[dependency-groups]
test = ["pytest", {include-group = "lint"}]
lint = ["ruff"]
[tool.uv.sources]
mine = { git = "https://example.org/mine" }
torch = { index = "pytorch" }
[[tool.uv.index]]
name = "pytorch"
url = "https://example.org/whl"
explicit = true
""",
    )
    assert found.kind == "pep621"
    assert words(found) == [
        "run: fastapi>=0.110 index 5",
        "run: mine vcs 6",
        "run: torch>=2 url 6",
        "postgres: asyncpg index 9",
        "test: pytest index 11",
        "lint: ruff index 12",
    ]
    assert not found.own_index
    assert str(found.requires_python) == ">=3.11"


def test_reads_poetry_tables() -> None:
    found = manifest(
        "pyproject.toml",
        """\
[tool.poetry.dependencies]
python = "^3.11"
fastapi = "^0.109.1"
uvicorn = { extras = ["standard"], version = "~0.27" }
psycopg2 = { version = "*", optional = true }
mine = { path = "../mine" }
odd = "1.0 || 2.0"
[tool.poetry.group.dev.dependencies]
pytest = "*"
""",
    )
    assert found.kind == "poetry"
    assert words(found) == [
        "run: fastapi<0.110,>=0.109.1 index 3",
        "run: uvicorn<0.28,>=0.27 index 4",
        "optional: psycopg2 index 5",
        "run: mine path 6",
        "dev: pytest index 9",
    ]
    assert [(problem.code, problem.line) for problem in found.problems] == [("bad-requirement", 7)]
    assert str(found.requires_python) == "<4,>=3.11"


def test_project_dependencies_come_before_poetrys() -> None:
    text = (
        "[project]\nname='x'\ndependencies=['a']\n[tool.poetry.dependencies]\na={source='mine'}\n"
    )
    assert manifest("pyproject.toml", text).kind == "pep621"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("^1.2.3", "<2,>=1.2.3"),
        ("^0.2.3", "<0.3,>=0.2.3"),
        ("^0.0.3", "<0.0.4,>=0.0.3"),
        ("^0", "<1,>=0"),
        ("^0.0", "<0.1,>=0.0"),
        ("~1.2.3", "<1.3,>=1.2.3"),
        ("~1", "<2,>=1"),
        ("*", ""),
        ("1.2.*", "==1.2.*"),
        ("9.0.1", "==9.0.1"),
        (">=1.0 <2.0", "<2.0,>=1.0"),
        (">= 1.0, < 2.0", "<2.0,>=1.0"),
        ("~=1.4", "~=1.4"),
        ("^1 || ^2", None),
        ("dev", None),
    ],
)
def test_poetry_constraints_become_specifiers(text: str, meaning: str | None) -> None:
    found = poetry_specifier(text)
    assert (None if found is None else str(found)) == meaning


def test_reads_a_pipfile() -> None:
    found = manifest(
        "Pipfile",
        """\
[[source]]
name = "pypi"
url = "https://example.org/simple"
[packages]
flask = "*"
uvicorn = {extras = ["standard"], version = ">=0.20", markers = "sys_platform != 'win32'"}
[dev-packages]
pytest = "*"
[requires]
python_version = "3.11"
""",
    )
    assert words(found) == [
        "run: flask index 5",
        "run: uvicorn>=0.20 index 6",
        "dev: pytest index 8",
    ]
    assert str(found.requires_python) == "==3.11.*"
    assert not found.own_index


def test_reads_a_setup_cfg() -> None:
    found = manifest(
        "setup.cfg",
        "[options]\npython_requires = >=3.8\ninstall_requires =\n    flask>=2  # web\n"
        "    redis; python_version > '3'\n[options.extras_require]\ntest = pytest; tox\n",
    )
    assert words(found) == [
        "run: flask>=2 index 4",
        "run: redis index 5",
        "test: pytest index 7",
        "test: tox index 7",
    ]


def test_reads_a_conda_environment() -> None:
    found = manifest(
        "environment.yml",
        "name: x\nchannels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - numpy=1.26\n"
        "  - conda-forge::pandas>=2\n  - pip\n  - pip:\n    - fastapi==0.115.0\n"
        "    - -r more.txt\n",
    )
    assert words(found) == [
        "run: numpy==1.26.* url 6",
        "run: pandas>=2 url 7",
        "run: pip url 8",
        "run: fastapi==0.115.0 index 10",
    ]
    assert str(found.requires_python) == "==3.11.*"


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("[[tool.uv.index]]\nurl = 'https://example.org'\n", True),
        ("[tool.uv]\nindex-url = 'https://example.org'\n", True),
        ("[[tool.poetry.source]]\nname = 'x'\nurl = 'https://example.org'\n", True),
        ("[[tool.poetry.source]]\nname = 'x'\nurl = 'u'\npriority = 'explicit'\n", False),
        ("[tool.uv]\npackage = true\n", False),
    ],
)
def test_an_index_of_its_own_is_noticed(text: str, own: bool) -> None:
    found = manifest("pyproject.toml", f"[project]\nname = 'x'\ndependencies = ['a']\n{text}")
    assert found.own_index is own


@pytest.mark.parametrize(
    ("path", "text", "code"),
    [
        ("pyproject.toml", "[project\n", "toml-error"),
        ("pyproject.toml", "name = {{ x }}\n", "templated"),
        ("pyproject.toml", "x = " + "[" * 20_000, "too-deep"),
        ("pyproject.toml", "x = " + "{a=" * 20_000, "too-deep"),
        ("pyproject.toml", "#" * 1_100_000, "too-large"),
        ("pyproject.toml", "[tool.ruff]\n", "no-dependencies"),
        ("Pipfile", "a = [1, 2\n", "toml-error"),
        ("pyproject.toml", "x = " + "1" * 5_000, "toml-error"),
        ("setup.cfg", "install_requires\n", "syntax-error"),
        ("setup.cfg", "[flake8]\nx = 1\n", "no-dependencies"),
        ("environment.yml", "dependencies:\n  - {{ x }}\n", "templated"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem(path: str, text: str, code: str) -> None:
    found = read_manifest(MemoryFiles({path: text.encode()}), path)
    assert isinstance(found, Problem)
    assert found.code == code


def test_values_of_unexpected_types_do_not_stop_the_run() -> None:
    text = "[project]\nname='x'\ndependencies='flask'\noptional-dependencies=3\n[tool]\nuv=1\n"
    assert manifest("pyproject.toml", text).dependencies == ()
