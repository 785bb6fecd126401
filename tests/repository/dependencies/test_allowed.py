from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mega_optimizer.repository.dependencies.allowed import holds
from mega_optimizer.repository.dependencies.intervals import relation
from mega_optimizer.repository.dependencies.model import Dependencies, LockedPackage
from mega_optimizer.repository.dependencies.read import read_dependencies
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.service import Service

WITHIN = [
    (">=0.110,<0.120", "<0.131"),
    (">=0.139,<1", ">=0.131"),
    (">=0.131", ">=0.131"),
    ("==0.109.0", "<0.131"),
    ("==0.109.*", "<0.131"),
    ("~=0.109.1", ">=0.109,<0.131"),
    ("~=0.130", "<1"),
    (">=1,<2,!=1.5", "!=1.5"),
    (">=1,<2", "!=2.5"),
    ("<0.131", "<0.131"),
    ("<0.131", "<=0.131"),
    (">1", ">1"),
    (">1.1", ">1"),
    ("==0.131.0rc1", ">=0.130"),
    (">=1", ""),
    ("", ""),
]
APART = [
    (">=0.139", "<0.131"),
    ("<0.131", ">=0.131"),
    ("==0.109.*", ">=0.131"),
    ("~=0.109.1", ">=0.110"),
    ("==0.131.0rc1", ">=0.131"),
    ("==0.131.0rc1", "<0.131"),
    ("<=1", ">1"),
    ("==1.5", "!=1.5"),
]
UNKNOWN = [
    ("", "<0.131"),
    (">=0.110", "<0.131"),
    (">=1,<2", "!=1.5"),
    ("<=0.131", "<0.131"),
    ("<0.132", "<0.131"),
    (">=1", ">1"),
    (">=1.0.post1", ">1.0"),
    ("===1.5", "<2"),
    (">=2,<1", "<1"),
    ("!=1.5", ">=1"),
]


@pytest.mark.parametrize(
    ("allowed", "wanted", "answer"),
    [(*pair, "within") for pair in WITHIN]
    + [(*pair, "apart") for pair in APART]
    + [(*pair, "unknown") for pair in UNKNOWN],
)
def test_a_range_alone_proves_or_disproves(allowed: str, wanted: str, answer: str) -> None:
    assert relation(SpecifierSet(allowed), SpecifierSet(wanted)) == answer


VERSIONS = [
    Version(f"{major}.{minor}{suffix}")
    for major in (0, 1, 2)
    for minor in (0, 1, 5, 131)
    for suffix in ("", ".dev1", "rc1", ".post1", ".1", "+cpu")
]
CLAUSES = [">=1.1", ">1.1", "<1.5", "<=1.5", "==1.5", "==1.*", "!=1.1", "~=1.1", "<0.131", ">=2"]


@pytest.mark.parametrize("first", CLAUSES)
def test_no_version_contradicts_a_proof(first: str) -> None:
    for second, wanted in product([*CLAUSES, ""], CLAUSES):
        allowed = SpecifierSet(f"{first},{second}".strip(","))
        answer = relation(allowed, SpecifierSet(wanted))
        for version in VERSIONS:
            if answer != "unknown" and allowed.contains(version, prereleases=True):
                fits = SpecifierSet(wanted).contains(version, prereleases=True)
                assert fits == (answer == "within"), (second, wanted, version)


def read(text: str, name: str = "requirements.txt", **more: str) -> Dependencies:
    files = {name: text.encode()} | {
        path.replace("__", "."): content.encode() for path, content in more.items()
    }
    return read_dependencies(MemoryFiles(files), Service("x", "", manifests=(name,)))


def resolves(**versions: str) -> object:
    def resolve(dependencies: Dependencies) -> Mapping[str, LockedPackage]:
        return {name: LockedPackage(name, Version(text)) for name, text in versions.items()}

    return resolve


def test_a_pin_decides_and_says_where_it_stands() -> None:
    verdict = holds(read("x\nfastapi==0.115.6\n"), "FastAPI", SpecifierSet("<0.131"))
    assert verdict.answer == "holds"
    assert verdict.why == "fastapi 0.115.6 (requirements.txt:2)"


def test_every_fork_of_a_lock_must_hold() -> None:
    text = "x==1; python_version<'3.11'\nx==2; python_version>='3.11'\n"
    assert holds(read(text), "x", SpecifierSet(">=1")).answer == "holds"
    verdict = holds(read(text), "x", SpecifierSet(">=2"))
    assert (verdict.answer, verdict.why) == ("fails", "x 1 (requirements.txt:1)")


def test_a_locked_pre_release_is_neither_before_nor_after() -> None:
    found = read("x==0.131.0rc1\n")
    assert holds(found, "x", SpecifierSet("<0.131")).answer == "fails"
    assert holds(found, "x", SpecifierSet(">=0.131")).answer == "fails"


def test_a_range_decides_without_a_resolver() -> None:
    found = read("fastapi>=0.110,<0.120\n")
    assert holds(found, "fastapi", SpecifierSet("<0.131")).answer == "holds"
    verdict = holds(found, "fastapi", SpecifierSet(">=0.131"))
    assert (verdict.answer, verdict.why) == (
        "fails",
        "fastapi>=0.110,<0.120 (requirements.txt:1)",
    )


def test_two_declarations_bound_each_other() -> None:
    found = read("x>=1\n-r more.txt\n", more__txt="x<2\n")
    assert holds(found, "x", SpecifierSet(">=1,<2")).answer == "holds"


def test_a_constraint_bounds_a_declaration() -> None:
    found = read("-c bounds.txt\nx>=1\n", bounds__txt="x<2\n")
    assert holds(found, "x", SpecifierSet("<2")).answer == "holds"


def test_markers_are_forks_of_which_each_must_hold() -> None:
    text = "x>=1,<2; python_version<'3.11'\nx>=2,<3; python_version>='3.11'\n"
    assert holds(read(text), "x", SpecifierSet(">=1,<3")).answer == "holds"
    assert holds(read(text), "x", SpecifierSet(">=2")).answer == "fails"


@pytest.mark.parametrize(("version", "answer"), [("0.165.0", "fails"), ("0.130.0", "holds")])
def test_the_resolver_decides_what_a_range_leaves_open(version: str, answer: str) -> None:
    resolve = resolves(fastapi=version)
    verdict = holds(read("fastapi\n"), "fastapi", SpecifierSet("<0.131"), resolve)  # type: ignore[arg-type]
    assert verdict.answer == answer
    assert verdict.why == (
        f"fastapi is not pinned (requirements.txt:1); the resolver would install {version}"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fastapi\n", "no resolver was asked"),
        ("--extra-index-url https://example.org\nfastapi\n", "package index of its own"),
        ("fastapi @ git+https://example.org/x\n", "comes from a vcs"),
    ],
)
def test_what_nobody_can_know_is_unknown(text: str, reason: str) -> None:
    verdict = holds(read(text), "fastapi", SpecifierSet("<0.131"))
    assert verdict.answer == "unknown"
    assert reason in verdict.why


def test_an_index_of_its_own_does_not_matter_to_a_range_that_is_enough() -> None:
    found = read("--extra-index-url https://example.org\nfastapi<0.120\n")
    assert holds(found, "fastapi", SpecifierSet("<0.131")).answer == "holds"


def test_a_resolver_that_fails_leaves_it_unknown() -> None:
    def resolve(dependencies: Dependencies) -> Problem:
        return Problem("", "offline", "working offline")

    verdict = holds(read("fastapi\n"), "fastapi", SpecifierSet("<0.131"), resolve)
    assert verdict.answer == "unknown"
    assert "working offline" in verdict.why


def test_a_package_that_would_not_be_installed_is_unknown() -> None:
    resolve = resolves(x="1")
    verdict = holds(read("x\n"), "fastapi", SpecifierSet("<0.131"), resolve)  # type: ignore[arg-type]
    assert verdict.answer == "unknown"
