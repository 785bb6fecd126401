"""What the planner lets through: levels, guards, shared files, collisions, rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.finding import Edit, Fix, Outcome, Skip
from mega_optimizer.engine.plan import ChangeSet, Options, Plan
from mega_optimizer.engine.planner import make_plan
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.service import Repository, Service, Trait
from mega_optimizer.rules import Rule

Find = Callable[[Context], Iterator[Outcome]]


class Scripted(Rule):
    """A rule whose codemod stands in the test."""

    codemods: dict[str, Find] = {}  # noqa: RUF012 - shared on purpose: rules are frozen

    @property
    def find(self) -> Find:
        return self.codemods[self.id]


def rule(find: Find, name: str = "a", level: str = "safe", **given: object) -> Rule:
    Scripted.codemods[f"test/{name}"] = find
    made = Scripted(
        id=f"test/{name}",
        title="",
        level="safe",
        because="",
        why="",
        folder=Path(),
        artifacts=(),
        gain={},
    )
    return replace(made, level=level, **given)  # type: ignore[arg-type]


def replacing(path: str, old: bytes, new: bytes, message: str = "m") -> Find:
    """A codemod that replaces the first ``old`` in ``path`` for as long as there is one."""

    def find(context: Context) -> Iterator[Outcome]:
        at = context.files.read(path).find(old)
        if at >= 0:
            line = context.files.read(path)[:at].count(b"\n") + 1
            edit = Edit(path, at, at + len(old), new)
            yield Fix(Place(path, line), message, edits=(edit,))

    return find


def plan(
    files: dict[str, bytes], *rules: Rule, services: tuple[Service, ...] = (), **options: object
) -> Plan:
    owners = services or (Service("s", "", modules=tuple(files)),)
    given = Options(propagate_errors=True, **options)  # type: ignore[arg-type]
    return make_plan(MemoryFiles(files), Repository(owners), list(rules), given)


def statuses(made: Plan) -> list[tuple[str, str, str]]:
    return [(each.service, each.status, each.code) for each in made.findings]


def result(made: Plan) -> dict[str, bytes]:
    return {path: after for path, (_, after) in made.changed().items()}


def test_a_later_rule_sees_what_an_earlier_one_made() -> None:
    one = rule(replacing("f.txt", b"one", b"two"), "a")
    two = rule(replacing("f.txt", b"two", b"three"), "b")
    made = plan({"f.txt": b"one\n"}, one, two)
    assert result(made) == {"f.txt": b"three\n"}
    assert [(each.rule, each.before, each.after) for each in made.changes] == [
        ("test/a", {"f.txt": b"one\n"}, {"f.txt": b"two\n"}),
        ("test/b", {"f.txt": b"two\n"}, {"f.txt": b"three\n"}),
    ]


def test_places_are_those_of_the_scanned_file() -> None:
    one = rule(replacing("f.txt", b"x\n", b"1\n2\n3\n"), "a")
    two = rule(replacing("f.txt", b"target", b"done"), "b")
    made = plan({"f.txt": b"x\ntarget\n"}, one, two)
    assert result(made) == {"f.txt": b"1\n2\n3\ndone\n"}
    assert [each.place.line for each in made.findings] == [1, 2]


def test_a_rule_runs_until_it_finds_nothing_more() -> None:
    made = plan({"f.txt": b"old old old\n"}, rule(replacing("f.txt", b"old", b"new")))
    assert result(made) == {"f.txt": b"new new new\n"}
    assert statuses(made) == [("s", "would-apply", "")] * 3


def test_a_rule_that_never_ends_is_withdrawn() -> None:
    made = plan({"f.txt": b"a\n"}, rule(replacing("f.txt", b"a", b"aa")))
    assert result(made) == {}
    assert {status for _, status, _ in statuses(made)} == {"withdrawn"}
    assert {code for _, _, code in statuses(made)} == {"not-idempotent"}


@pytest.mark.parametrize(
    ("level", "options", "status"),
    [
        ("safe", {}, "would-apply"),
        ("review", {}, "above-level"),
        ("review", {"level": "review"}, "would-apply"),
        ("review", {"named": frozenset({"test/a"})}, "would-apply"),
        ("advice", {"level": "review", "named": frozenset({"test/a"})}, "above-level"),
    ],
)
def test_levels(level: str, options: dict[str, Any], status: str) -> None:
    made = plan({"f.txt": b"a\n"}, rule(replacing("f.txt", b"a", b"b"), level=level), **options)
    assert [each.status for each in made.findings] == [status]
    assert bool(made.changes) == (status == "would-apply")


def test_a_missing_trait_is_no_finding_but_is_told() -> None:
    made = plan({"f.txt": b"a"}, rule(replacing("f.txt", b"a", b"b"), traits=("redis",)))
    assert not made.findings
    assert made.idle == {("test/a", "s"): "nothing shows that it uses redis"}


def test_a_forbidden_trait_skips_what_would_have_been_done() -> None:
    service = Service("s", "", traits=(Trait("windows", Place("Dockerfile", 3)),))
    forbidding = rule(replacing("f.txt", b"a", b"b"), not_traits=("windows",))
    made = plan({"f.txt": b"a"}, forbidding, services=(service,))
    assert statuses(made) == [("s", "skipped", "has-windows")]
    assert made.findings[0].reason == "the service uses windows (Dockerfile:3)"


def test_a_fix_lands_whole_or_not_at_all() -> None:
    def find(context: Context) -> Iterator[Outcome]:
        if context.files.read("a.txt") == b"a":
            edits = (Edit("a.txt", 0, 1, b"x"), Edit("b.txt", 0, 1, b"y"))
            yield Fix(Place("a.txt"), "both", edits=edits)

    def read_only(path: str) -> tuple[str, str] | None:
        return ("read-only-file", "no") if path == "b.txt" else None

    files = {"a.txt": b"a", "b.txt": b"b"}
    assert result(plan(files, rule(find))) == {"a.txt": b"x", "b.txt": b"y"}
    made = plan(files, rule(find), obstacle=read_only)
    assert not made.changes
    assert statuses(made) == [("s", "skipped", "read-only-file")]


def test_of_two_fixes_of_the_same_lines_one_waits_for_the_next_round() -> None:
    def find(context: Context) -> Iterator[Outcome]:
        content = context.files.read("f.txt")
        for letter, upper in ((b"a", b"A"), (b"ab", b"AB")):
            if content.startswith(letter):
                edit = Edit("f.txt", 0, len(letter), upper)
                yield Fix(Place("f.txt"), upper.decode(), edits=(edit,))

    made = plan({"f.txt": b"ab"}, rule(find))
    assert result(made) == {"f.txt": b"Ab"}
    assert statuses(made) == [("s", "would-apply", "")]


def test_equal_edits_of_two_fixes_are_made_once() -> None:
    def find(context: Context) -> Iterator[Outcome]:
        if not context.files.read("f.py").startswith(b"import x"):
            added = Edit("f.py", 0, 0, b"import x\n")
            yield Fix(Place("f.py", 1), "one", edits=(added, Edit("f.py", 0, 1, b"1")))
            yield Fix(Place("f.py", 2), "two", edits=(added, Edit("f.py", 2, 3, b"2")))

    made = plan({"f.py": b"a\nb\n"}, rule(find))
    assert result(made) == {"f.py": b"import x\n1\n2\n"}


def test_a_result_that_does_not_parse_is_not_made() -> None:
    made = plan({"f.py": b"a = 1\n"}, rule(replacing("f.py", b"1", b"(")))
    assert not made.changes
    assert statuses(made) == [("s", "skipped", "result-does-not-parse")]


def shared(*qualifying: str) -> Plan:
    """Two services own f.txt; the rule fires for those in ``qualifying``."""

    def find(context: Context) -> Iterator[Outcome]:
        if context.service.name in qualifying and context.files.read("f.txt") == b"a":
            yield Fix(Place("f.txt"), "m", edits=(Edit("f.txt", 0, 1, b"b"),))
        elif context.service.name not in qualifying:
            yield Skip(Place("f.txt"), "no", "no")

    services = (Service("one", "", modules=("f.txt",)), Service("two", "", modules=("f.txt",)))
    return plan({"f.txt": b"a"}, rule(find), services=services)


def test_a_shared_file_changes_when_every_owner_qualifies() -> None:
    made = shared("one", "two")
    assert result(made) == {"f.txt": b"b"}
    assert statuses(made) == [("one", "would-apply", ""), ("two", "would-apply", "")]
    assert [each.service for each in made.changes] == ["one"]


def test_a_shared_file_stays_when_one_owner_does_not_qualify() -> None:
    made = shared("one")
    assert not made.changes
    assert ("one", "skipped", "shared-file") in statuses(made)


def agreeing(*skips: Skip, not_traits: tuple[str, ...] = ()) -> Plan:
    """Two services own f.txt; the rule fires for one, and ``skips`` are found in the other."""

    def find(context: Context) -> Iterator[Outcome]:
        if context.service.name == "two":
            yield from skips
        elif context.files.read("f.txt") == b"a":
            yield Fix(Place("f.txt"), "m", edits=(Edit("f.txt", 0, 1, b"b"),))

    torch = Trait("torch", Place("f.txt"))
    services = (
        Service("one", "", modules=("f.txt",)),
        Service("two", "", modules=("f.txt",), traits=(torch,)),
    )
    return plan({"f.txt": b"a"}, rule(find, not_traits=not_traits), services=services)


AGREES = Skip(Place("f.txt"), "nothing-to-win", "", agrees_to="f.txt")


def test_a_shared_file_changes_when_the_other_owner_has_no_objection() -> None:
    made = agreeing(AGREES)
    assert result(made) == {"f.txt": b"b"}
    assert statuses(made) == [("two", "skipped", "nothing-to-win"), ("one", "would-apply", "")]


def test_an_objection_elsewhere_in_the_file_outweighs_agreement() -> None:
    assert not agreeing(AGREES, Skip(Place("f.txt", 2), "hazard", "")).changes


def test_agreement_does_not_count_where_a_precondition_fails() -> None:
    assert not agreeing(AGREES, not_traits=("torch",)).changes


def test_agreement_holds_for_the_named_file_only() -> None:
    assert not agreeing(Skip(Place("f.txt"), "no", "", agrees_to="g.txt")).changes


def test_what_a_later_round_fixes_is_not_reported_as_skipped() -> None:
    def find(context: Context) -> Iterator[Outcome]:
        content = context.files.read("f.txt")
        if content == b"a\nx\n":
            yield Fix(Place("f.txt", 1), "first", edits=(Edit("f.txt", 0, 1, b"b"),))
            yield Skip(Place("f.txt", 2), "later", "")
        elif content == b"b\nx\n":
            yield Fix(Place("f.txt", 2), "second", edits=(Edit("f.txt", 2, 3, b"y"),))

    made = plan({"f.txt": b"a\nx\n"}, rule(find))
    assert result(made) == {"f.txt": b"b\ny\n"}
    assert [each.status for each in made.findings] == ["would-apply", "would-apply"]


def test_an_included_manifest_belongs_to_every_service_that_includes_it() -> None:
    files = {"base.txt": b"uvicorn\n", "a.txt": b"-r base.txt\n", "b.txt": b"-r base.txt\n"}
    services = (Service("a", "", manifests=("a.txt",)), Service("b", "", manifests=("b.txt",)))

    def find(context: Context) -> Iterator[Outcome]:
        if context.service.name == "a":
            yield Fix(Place("base.txt"), "m", edits=(Edit("base.txt", 0, 0, b"httptools\n"),))

    made = plan(files, rule(find), services=services)
    assert statuses(made) == [("a", "skipped", "shared-file")]


@pytest.mark.parametrize(("image", "code"), [("3.7-slim", "version-excluded"), ("3.12", "")])
def test_the_python_of_the_image_is_a_precondition(image: str, code: str) -> None:
    files = {"f.txt": b"a", "Dockerfile": f"FROM python:{image}\nRUN true\n".encode()}
    service = Service("s", "", dockerfile="Dockerfile", modules=("f.txt",))
    needy = rule(replacing("f.txt", b"a", b"b"), versions=(("python", ">=3.8"),))
    assert statuses(plan(files, needy, services=(service,)))[0][2] == code


def test_suppression_and_exclusion_are_findings() -> None:
    files = {"f.txt": b"a  # mega-optimize: ignore[test/a]\n"}
    made = plan(files, rule(replacing("f.txt", b"a ", b"b ")))
    assert statuses(made) == [("s", "suppressed", "suppressed")]

    made = plan(
        {"f.txt": b"a"}, rule(replacing("f.txt", b"a", b"b")), excluded=lambda path, rule: True
    )
    assert statuses(made) == [("s", "suppressed", "excluded")]


def test_what_was_withdrawn_is_not_made_again() -> None:
    made = plan(
        {"f.txt": b"a"},
        rule(replacing("f.txt", b"a", b"b")),
        withdrawn={("test/a", "s"): ("proof-failed", "the image does not start")},
    )
    assert not made.changes
    assert statuses(made) == [("s", "withdrawn", "proof-failed")]


def test_only_named_services_are_looked_at() -> None:
    repository = Repository((Service("one", ""), Service("two", "")))
    options = Options(services=frozenset({"two"}), propagate_errors=True)
    only = [rule(replacing("f.txt", b"a", b"b"))]
    made = make_plan(MemoryFiles({"f.txt": b"a"}), repository, only, options)
    assert [each.service for each in made.findings] == ["two"]
    assert made.idle["test/a", "one"] == "this service was not selected"


def test_a_defect_of_one_rule_costs_that_rule_only() -> None:
    def broken(context: Context) -> Iterator[Outcome]:
        raise KeyError("oops")
        yield

    files = MemoryFiles({"f.txt": b"a"})
    good = rule(replacing("f.txt", b"a", b"b"), "good")
    repository = Repository((Service("s", "", modules=("f.txt",)),))
    made = make_plan(files, repository, [rule(broken, "bad"), good], Options())
    assert result(made) == {"f.txt": b"b"}
    assert [problem.code for problem in made.problems] == ["internal-error"]
    assert "test/bad failed on service s: KeyError('oops')" in made.problems[0].message


def test_fingerprints_survive_lines_above_and_tell_equal_lines_apart() -> None:
    def every(context: Context) -> Iterator[Outcome]:
        for number, line in enumerate(context.files.read("f.txt").splitlines(), start=1):
            if line == b"x":
                yield Skip(Place("f.txt", number), "c", "r")

    first = plan({"f.txt": b"x\nx\n"}, rule(every))
    later = plan({"f.txt": b"new\nx\nx\n"}, rule(every))
    prints = [each.fingerprint for each in first.findings]
    assert prints == [each.fingerprint for each in later.findings]
    assert len(set(prints)) == 2


def test_a_change_set_names_its_files() -> None:
    change = ChangeSet("r", "safe", "s", {}, {"b": b"", "a": b""})
    assert change.paths == ["a", "b"]
