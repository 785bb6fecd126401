from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.dependencies import add_requirements
from mega_optimizer.codemods.finding import Skip, apply_edits
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.service import Service

ORJSON = "orjson>=3.10"
UVLOOP = "uvloop>=0.17; sys_platform != 'win32'"


def context(files: dict[str, bytes], *manifests: str) -> Context:
    return Context(Service("x", "", manifests=manifests or tuple(files)[:1]), MemoryFiles(files))


def added(
    files: dict[str, bytes], *requirements: str, beside: str | None = None
) -> dict[str, bytes]:
    """Return the files that change, after checking that a second run changes nothing."""
    edits = add_requirements(context(files), requirements or (ORJSON,), beside)
    assert not isinstance(edits, Skip), edits
    changed = {
        edit.path: apply_edits(files[edit.path], [one for one in edits if one.path == edit.path])
        for edit in edits
    }
    assert add_requirements(context(files | changed), requirements or (ORJSON,), beside) == ()
    return changed


def skip(files: dict[str, bytes], *requirements: str) -> Skip:
    answer = add_requirements(context(files), requirements or (ORJSON,))
    assert isinstance(answer, Skip), answer
    return answer


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"redis\nflask\n", b"redis\nflask\norjson>=3.10\n"),
        (b"redis\nflask", b"redis\nflask\norjson>=3.10"),
        (b"redis\r\nflask\r\n", b"redis\r\nflask\r\norjson>=3.10\r\n"),
        (b"", b"orjson>=3.10\n"),
        (b"# nothing yet\n", b"# nothing yet\norjson>=3.10\n"),
        (b"\xef\xbb\xbfflask\n", b"\xef\xbb\xbfflask\norjson>=3.10\n"),
        (b"flask\nredis\n", b"flask\norjson>=3.10\nredis\n"),  # sorted
        (b"A==1\nFlask==2\nZope==3\n", b"A==1\nFlask==2\norjson>=3.10\nZope==3\n"),
        (b"p\nq\nr\n", b"orjson>=3.10\np\nq\nr\n"),
        (b"# web\np\nq\n# z\nr\n", b"# web\norjson>=3.10\np\nq\n# z\nr\n"),
        (b"redis\nflask\nx  # y\n\n# end\n", b"redis\nflask\nx  # y\norjson>=3.10\n\n# end\n"),
        (b"-r more.txt\nb\n", b"-r more.txt\nb\norjson>=3.10\n"),
    ],
)
def test_requirements_keep_their_style(before: bytes, after: bytes) -> None:
    files = {"requirements.txt": before, "more.txt": b"c\n"}
    assert added(files) == {"requirements.txt": after}


def test_several_requirements_are_added_at_once() -> None:
    files = {"requirements.txt": b"uvicorn==0.30.0\napp\n"}
    assert added(files, UVLOOP, "httptools>=0.6") == {
        "requirements.txt": b"uvicorn==0.30.0\napp\n"
        b'uvloop>=0.17; sys_platform != "win32"\nhttptools>=0.6\n'
    }


def test_bounds_are_worded_with_the_lower_one_first() -> None:
    assert added({"requirements.txt": b"x\n"}, "orjson>=3.10,<4") == {
        "requirements.txt": b"x\norjson>=3.10,<4\n"
    }


def test_the_neighbour_decides_file_and_line() -> None:
    files = {
        "requirements.txt": b"-r web.txt\nredis\n",
        "web.txt": b"# server\nuvicorn[standard]\n\n# rest\napp\n",
    }
    assert added(files, beside="uvicorn") == {
        "web.txt": b"# server\nuvicorn[standard]\norjson>=3.10\n\n# rest\napp\n"
    }


PROJECT = b"[project]\nname = 'x'\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'dependencies = ["b"]', b'dependencies = ["b", "orjson>=3.10"]'),
        (b"dependencies = ['b']", b"dependencies = ['b', 'orjson>=3.10']"),
        (b"dependencies = []", b'dependencies = ["orjson>=3.10"]'),
        (b"dependencies = [\n]", b'dependencies = ["orjson>=3.10"\n]'),
        (b'dependencies = ["b",]', b'dependencies = ["b", "orjson>=3.10",]'),
        (
            b'dependencies = [\n    "b",\n    "z",\n    "c",\n]',
            b'dependencies = [\n    "b",\n    "z",\n    "c",\n    "orjson>=3.10",\n]',
        ),
        (
            b'dependencies = [\n  "z",\n  "b" # last\n]',
            b'dependencies = [\n  "z",\n  "b", # last\n  "orjson>=3.10"\n]',
        ),
        (
            b'dependencies = [\r\n\t"b", # first\r\n\t"c", # 2\r\n\t"p",\r\n]',
            b'dependencies = [\r\n\t"b", # first\r\n\t"c", # 2\r\n\t"orjson>=3.10",\r\n\t"p",\r\n]',
        ),
        (b'dependencies = ["p",\n "q", "r"]', b'dependencies = ["orjson>=3.10", "p",\n "q", "r"]'),
        (b'dependencies = [\n "p",\n "q",\n "r"]',
         b'dependencies = [\n "orjson>=3.10",\n "p",\n "q",\n "r"]'),
        (b'dependencies = [\n   "b"\n , "c"\n]',
         b'dependencies = [\n   "b"\n , "c", "orjson>=3.10"\n]'),
    ],
)  # fmt: skip
def test_arrays_keep_their_style(before: bytes, after: bytes) -> None:
    tail = b"\n[tool.x] # end\nz = 1"
    files = {"pyproject.toml": PROJECT + before + tail}
    assert added(files) == {"pyproject.toml": PROJECT + after + tail}


def test_quotes_of_a_marker_fit_into_those_of_the_array() -> None:
    for quote, other in ((b'"', b"'"), (b"'", b'"')):
        before = PROJECT + b"dependencies = [" + quote + b"b" + quote + b"]\n"
        item = b"uvloop>=0.17; sys_platform != " + other + b"win32" + other
        (after,) = added({"pyproject.toml": before}, UVLOOP).values()
        assert quote + item + quote in after


def test_an_extra_that_holds_the_neighbour_gets_the_requirement() -> None:
    text = PROJECT + b'dependencies = ["a"]\n[project.optional-dependencies]\nweb = ["uvicorn"]\n'
    edits = add_requirements(context({"pyproject.toml": text}), [ORJSON], "uvicorn")
    assert not isinstance(edits, Skip)
    after = apply_edits(text, edits)
    assert after == text.replace(b'["uvicorn"]', b'["uvicorn", "orjson>=3.10"]')


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (
            "pyproject.toml",
            b'[tool.poetry.dependencies]\npython = "^3.11"\nflask = "*"\n\n[x]\n',
            b'[tool.poetry.dependencies]\npython = "^3.11"\nflask = "*"\n'
            b'uvloop = { version = ">=0.17", markers = "sys_platform != \'win32\'" }\n\n[x]\n',
        ),
        (
            "pyproject.toml",
            b'[tool.poetry.dependencies]\npython = "^3.11"\na = "*"\nx = {version="1"}\nz = "*"',
            b'[tool.poetry.dependencies]\npython = "^3.11"\na = "*"\n'
            b'uvloop = { version = ">=0.17", markers = "sys_platform != \'win32\'" }\n'
            b'x = {version="1"}\nz = "*"',
        ),
        (
            "Pipfile",
            b'[packages]\r\nflask = "*"\r\n[dev-packages]\r\n',
            b'[packages]\r\nflask = "*"\r\n'
            b'uvloop = { version = ">=0.17", markers = "sys_platform != \'win32\'" }\r\n'
            b"[dev-packages]\r\n",
        ),
        (
            "setup.cfg",
            b"[options]\nzip_safe = false\ninstall_requires =\n    flask>=2\n    redis\n\n[x]\n",
            b"[options]\nzip_safe = false\ninstall_requires =\n    flask>=2\n    redis\n"
            b'    uvloop>=0.17; sys_platform != "win32"\n\n[x]\n',
        ),
    ],
)
def test_tables_keep_their_style(path: str, before: bytes, after: bytes) -> None:
    assert added({path: before}, UVLOOP) == {path: after}


def test_a_compiled_file_is_edited_at_its_source() -> None:
    files = {
        "requirements.txt": b"# This file is autogenerated by pip-compile\nflask==3 \\\n"
        b"    --hash=sha256:00\n",
        "requirements.in": b"flask\n",
    }
    assert added(files) == {"requirements.in": b"flask\norjson>=3.10\n"}


@pytest.mark.parametrize(
    "declared",
    [b"orjson", b"orjson==3.11.1", b"orjson>=3.9", b"orjson<4", b"OrJSON[x]~=3.10",
     b"orjson; sys_platform != 'win32'", b"orjson; platform_system == 'Linux'"],
)  # fmt: skip
def test_what_is_declared_and_satisfies_is_left_alone(declared: bytes) -> None:
    assert added({"requirements.txt": declared + b"\n"}) == {}


@pytest.mark.parametrize(
    "declared",
    [b"orjson==3.9.1", b"orjson<3.10", b"orjson~=2.0", b"orjson; python_version < '3.11'",
     b"orjson; sys_platform == 'darwin'"],
)  # fmt: skip
def test_what_is_declared_otherwise_is_a_conflict(declared: bytes) -> None:
    found = skip({"requirements.txt": b"a\n" + declared + b"\n"})
    assert (found.code, found.place.line) == ("dependency-conflict", 2)


def test_an_extra_that_is_not_declared_is_a_conflict() -> None:
    files = {"requirements.txt": b"uvicorn==0.30\n"}
    assert skip(files, "uvicorn[standard]").code == "dependency-conflict"


def test_a_constraint_that_forbids_it_is_a_conflict() -> None:
    files = {"requirements.txt": b"-c c.txt\na\n", "c.txt": b"orjson==3.9\n"}
    assert skip(files).code == "dependency-conflict"


def test_a_lock_that_forbids_it_is_a_conflict() -> None:
    files = {
        "pyproject.toml": b"[tool.poetry.dependencies]\na = '*'\n",
        "poetry.lock": b'[[package]]\nname = "orjson"\nversion = "3.9.0"\n',
    }
    assert skip(files).code == "dependency-conflict"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"requirements.txt": b"a==1 --hash=sha256:00\n"}, "hashed-requirements"),
        (
            {"requirements.txt": b"# autogenerated by pip-compile\na==1 --hash=sha256:00\n"},
            "hashed-requirements",
        ),
        ({"requirements.txt": b"# autogenerated by pip-compile\na==1\n"}, "manifest-not-editable"),
        ({"requirements.txt": b"a\n{% if x %}\nb\n{% endif %}\n"}, "manifest-unreadable"),
        ({"requirements.txt": b"a\nb==\n"}, "manifest-unreadable"),
        ({"requirements.txt": "a\n".encode("utf-16")}, "manifest-not-editable"),
        ({"requirements.txt": b"a \\"}, "manifest-not-editable"),
        ({"environment.yml": b"dependencies:\n  - a\n"}, "manifest-not-editable"),
        ({"pyproject.toml": b"[project]\nname='x'\ndynamic=['dependencies']\n"},
         "manifest-not-editable"),
        ({"pyproject.toml": b"[tool.poetry]\ndependencies = { a = '*' }\n"},
         "manifest-not-editable"),
        ({"pyproject.toml": b"[project\n"}, "manifest-unreadable"),
        ({"setup.cfg": b"[options]\ninstall_requires = a\n"}, "manifest-not-editable"),
        ({"setup.cfg": b"[options]\ninstall_requires = file: r.txt\n", "r.txt": b"\0"},
         "manifest-not-editable"),
    ],
)  # fmt: skip
def test_what_cannot_be_edited_is_skipped(files: dict[str, bytes], code: str) -> None:
    assert skip(files).code == code


def test_a_service_without_a_manifest_is_skipped() -> None:
    answer = add_requirements(Context(Service("x", "app"), MemoryFiles({})), [ORJSON])
    assert isinstance(answer, Skip)
    assert (answer.code, answer.place.path) == ("no-manifest", "app")


LINES = st.lists(
    st.sampled_from(
        ["", "# c", "a==1", "b  # x", "  c", "-r m.txt", "--pre", "z[y]>=1 ; python_version>'3'"]
    ),
    max_size=8,
)


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_one_line_is_inserted_and_nothing_else_changes(
    lines: list[str], ending: str, final: bool
) -> None:
    text = (ending.join(lines) + (ending if final else "")).encode()
    files = {"requirements.txt": text, "m.txt": b""}
    after = added(files, beside="a")["requirements.txt"]
    assert after.count(b"orjson>=3.10") == 1
    new = after.splitlines()
    new.remove(next(line for line in new if line.strip() == b"orjson>=3.10"))
    assert new == text.splitlines()
