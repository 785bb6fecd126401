"""Run rules over services in a workspace: what is fixed, what is skipped, and why.

Rules run one after another; each sees what the earlier ones made. A rule runs in rounds until it
finds nothing more to do, so a plan that ends has shown that its rules are idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.finding import Fix, Skip, apply_edits
from mega_optimizer.engine.fingerprint import fingerprints
from mega_optimizer.engine.gate import closed_gate
from mega_optimizer.engine.owners import owners_of
from mega_optimizer.engine.plan import ChangeSet, Finding, Options, Plan
from mega_optimizer.engine.requirements import with_requirements
from mega_optimizer.engine.suppressions import suppressions
from mega_optimizer.engine.syntax import still_parses
from mega_optimizer.engine.workspace import Workspace
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mega_optimizer.codemods.finding import Edit, Outcome
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.place import Place
    from mega_optimizer.repository.service import Repository, Service
    from mega_optimizer.rules import Rule

# A rule that still finds work after this many rounds would never end.
ROUNDS = 16
NOT_IDEMPOTENT = ("not-idempotent", "a second run would change its result again")


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A fix on its way through the guards, with the finding that it becomes."""

    service: Service
    fix: Fix
    finding: Finding
    edits: tuple[Edit, ...] = ()


def make_plan(
    files: Files, repository: Repository, rules: Sequence[Rule], options: Options
) -> Plan:
    """Run ``rules`` (already in order) over the services and return what they would change."""
    return _Planner(files, repository, options).run(rules)


class _Planner:
    """The state of one planning run: the snapshot reached and what was found on the way."""

    def __init__(self, files: Files, repository: Repository, options: Options) -> None:
        self.snapshot = Workspace(files)
        self._contexts: dict[str, Context] = {}
        self._contexts_of = self.snapshot
        self.repository = repository
        self.options = options
        self.owners = owners_of(repository, files)
        self.agreed: set[tuple[str, str]] = set()  # (service, path) of the rule that runs
        self.findings: list[Finding] = []
        self.changes: list[ChangeSet] = []
        self.problems: list[Problem] = list(repository.problems)
        self.idle: dict[tuple[str, str], str] = {}

    def run(self, rules: Sequence[Rule]) -> Plan:
        for rule in rules:
            self._run_rule(rule)
        return Plan(
            repository=self.repository,
            findings=tuple(fingerprints(self.findings, self.snapshot.base)),
            changes=tuple(self.changes),
            problems=tuple(dict.fromkeys(self.problems)),
            result=self.snapshot,
            idle=self.idle,
        )

    def _run_rule(self, rule: Rule) -> None:
        start = self.snapshot
        changes: list[ChangeSet] = []
        self.agreed.clear()
        services = [each for each in self.repository.services if self._considers(rule, each)]
        candidates, found = self._gather(rule, services)
        for _ in range(ROUNDS):
            landed, refused = self._land(rule, candidates, changes)
            found += [*landed, *(finding for finding in refused if finding.code != "conflict")]
            if not landed:
                self.findings += _without_overtaken(found)
                self.changes += changes
                return
            again = {finding.service for finding in [*landed, *refused]}
            services = [service for service in services if service.name in again]
            candidates, _ = self._gather(rule, services)
            known = {(each.service, each.place.path, each.message) for each in found if each.code}
            candidates = [
                each
                for each in candidates
                if (each.service.name, each.fix.place.path, each.fix.message) not in known
            ]
        self.snapshot = start
        self.findings += [
            _withdrawn(finding, *NOT_IDEMPOTENT) if finding.status == "would-apply" else finding
            for finding in found
        ]

    def _considers(self, rule: Rule, service: Service) -> bool:
        if self.options.services and service.name not in self.options.services:
            self.idle[rule.id, service.name] = "this service was not selected"
            return False
        absent = [name for name in rule.traits if service.trait(name) is None]
        if absent:
            self.idle[rule.id, service.name] = f"nothing shows that it uses {', '.join(absent)}"
            return False
        return True

    def _gather(
        self, rule: Rule, services: Iterable[Service]
    ) -> tuple[list[_Candidate], list[Finding]]:
        """Ask the codemod for its fixes and drop those that a guard excludes."""
        candidates: list[_Candidate] = []
        declined: list[Finding] = []
        for service in services:
            context = self._context(rule, service)
            outcomes = self._outcomes(rule, context)
            if not outcomes:
                self.idle.setdefault((rule.id, service.name), "nothing to do was found")
            gate = self._gate(rule, context, outcomes)
            findings = [self._finding(rule, service, outcome) for outcome in outcomes]
            if not gate:
                self.agreed |= _agreed(service, outcomes, findings)
            for outcome, finding in zip(outcomes, findings, strict=True):
                if finding.status == "suppressed":
                    declined.append(finding)
                elif gate and (isinstance(outcome, Fix) or gate[0] == "version-excluded"):
                    # Where the version excludes the rule, nothing else about the place matters.
                    declined.append(_skipped(finding, *gate))
                elif isinstance(outcome, Skip) or finding.status == "withdrawn":
                    declined.append(finding)
                elif finding.status == "above-level":
                    is_advice = rule.level == "advice"
                    declined.append(
                        self._advice(finding, outcome, context) if is_advice else finding
                    )
                else:
                    candidates.append(_Candidate(service, outcome, finding))
        return candidates, declined

    def _context(self, rule: Rule, service: Service) -> Context:
        """Return the context of ``rule``; rules share what they read of a snapshot."""
        if self._contexts_of is not self.snapshot:
            self._contexts_of = self.snapshot
            self._contexts.clear()
        if service.name not in self._contexts:
            self._contexts[service.name] = Context(
                service, self.snapshot, index=self.options.resolver
            )
        given = self.options.parameters.get(rule.id, {})
        return self._contexts[service.name].with_parameters(rule.settings(given))

    def _outcomes(self, rule: Rule, context: Context) -> list[Outcome]:
        try:
            return list(dict.fromkeys(rule.find(context)))
        except Exception as error:
            # The one boundary around rules: a defect in one costs its findings in one service.
            if self.options.propagate_errors:
                raise
            message = f"{rule.id} failed on service {context.service.name}: {error!r}"
            where = context.service.dockerfile or context.service.root
            self.problems.append(Problem(where, "internal-error", message))
            return []

    def _gate(
        self, rule: Rule, context: Context, outcomes: Iterable[Outcome]
    ) -> tuple[str, str] | None:
        """Say which precondition of ``rule`` does not hold; an index is asked if it matters."""
        if not outcomes:
            return None
        matters = any(isinstance(outcome, Fix) or outcome.agrees_to for outcome in outcomes)
        return closed_gate(rule, context, self.options.resolver if matters else None)

    def _finding(self, rule: Rule, service: Service, outcome: Outcome) -> Finding:
        place = self._place_before_the_plan(outcome.place)
        finding = Finding(rule.id, rule.level, service.name, place, "would-apply")
        if isinstance(outcome, Skip):
            finding = _skipped(finding, outcome.code, outcome.reason)
        else:
            finding = replace(finding, message=outcome.message)
        if self._is_suppressed(rule, outcome.place):
            return replace(finding, status="suppressed", code="suppressed", reason="by a comment")
        if self.options.excluded(outcome.place.path, rule.id):
            return replace(finding, status="suppressed", code="excluded", reason="by configuration")
        if self.options.only is not None and place.path not in self.options.only:
            return replace(finding, status="suppressed", code="not-named", reason="not asked for")
        if isinstance(outcome, Fix) and not self._allows(rule):
            return replace(finding, status="above-level")
        if isinstance(outcome, Fix) and (rule.id, service.name) in self.options.withdrawn:
            return _withdrawn(finding, *self.options.withdrawn[rule.id, service.name])
        return finding

    def _advice(self, finding: Finding, fix: Fix, context: Context) -> Finding:
        """Return ``finding`` with what it would have a person do, as far as that can be shown."""
        edits = with_requirements(fix, context, resolver=None, stale_locks=True)
        if isinstance(edits, Skip):
            return _skipped(finding, edits.code, edits.reason)
        advised = []
        for path in sorted({edit.path for edit in edits}):
            before = _content(self.snapshot, path)
            mine = [edit for edit in edits if edit.path == path]
            advised.append((path, before, apply_edits(before or b"", mine)))
        return replace(finding, advised=tuple(advised))

    def _place_before_the_plan(self, place: Place) -> Place:
        """Return the place in the files as they were scanned: earlier rules may have moved it."""
        if place.path not in self.snapshot.overlay or place.path not in self.snapshot.base:
            return place
        before = self.snapshot.base.read(place.path).splitlines()
        now = self.snapshot.overlay[place.path].splitlines()
        shift = 0
        for _, old, old_end, new, new_end in SequenceMatcher(
            None, before, now, False
        ).get_opcodes():
            if new <= place.line - 1 < new_end:
                shift = min(old + (place.line - 1 - new), max(old_end - 1, old)) + 1 - place.line
        last = place.end_line + shift if place.end_line else None
        return replace(place, line=place.line + shift, end_line=last)

    def _allows(self, rule: Rule) -> bool:
        if rule.level == "advice":
            return False
        return (
            rule.level == "safe" or self.options.level == "review" or rule.id in self.options.named
        )

    def _is_suppressed(self, rule: Rule, place: Place) -> bool:
        if place.path not in self.snapshot:
            return False
        comments = suppressions(place.path, self.snapshot.read(place.path))
        return any(comment.covers(rule.id, place) for comment in comments)

    def _land(
        self, rule: Rule, candidates: Sequence[_Candidate], changes: list[ChangeSet]
    ) -> tuple[list[Finding], list[Finding]]:
        """Lay the fixes that may land over the snapshot; return (landed, refused)."""
        refused: list[Finding] = []
        admitted = self._admitted(rule, self._completed(rule, candidates, refused), refused)
        start = self.snapshot
        laid: dict[str, set[Edit]] = {}
        for service in dict.fromkeys(candidate.service.name for candidate in admitted):
            fresh = {
                edit
                for candidate in admitted
                if candidate.service.name == service
                for edit in candidate.edits
                if edit not in laid.get(edit.path, ())
            }
            if not fresh:
                continue
            for edit in fresh:
                laid.setdefault(edit.path, set()).add(edit)
            paths = sorted({edit.path for edit in fresh})
            before = {path: _content(self.snapshot, path) for path in paths}
            after = {path: apply_edits(_content(start, path) or b"", laid[path]) for path in paths}
            changes.append(ChangeSet(rule.id, rule.level, service, before, after))
            self.snapshot = self.snapshot.with_changes(after)
        return [candidate.finding for candidate in admitted], refused

    def _completed(
        self, rule: Rule, candidates: Iterable[_Candidate], refused: list[Finding]
    ) -> list[_Candidate]:
        """Make the edits of ``candidates``, with those of manifests and locks that they need."""
        completed: list[_Candidate] = []
        for candidate in candidates:
            context = self._context(rule, candidate.service)
            edits = with_requirements(
                candidate.fix, context, self.options.resolver, self.options.stale_locks
            )
            if isinstance(edits, Skip):
                refused.append(_skipped(candidate.finding, edits.code, edits.reason))
            elif not edits:
                refused.append(_skipped(candidate.finding, "no-edit", "the rule made no edit"))
            else:
                completed.append(replace(candidate, edits=edits))
        return completed

    def _admitted(
        self, rule: Rule, candidates: list[_Candidate], refused: list[Finding]
    ) -> list[_Candidate]:
        """Return the candidates that nothing hinders; of two that collide, the first."""
        while True:
            hindered = {
                id(candidate): why
                for candidate in candidates
                if (why := self._hindrance(rule, candidate, candidates))
            }
            if not hindered:
                break
            # A file that services share needs all of them: one that fell may take others along.
            refused += [
                _skipped(candidate.finding, *hindered[id(candidate)])
                for candidate in candidates
                if id(candidate) in hindered
            ]
            candidates = [each for each in candidates if id(each) not in hindered]
        admitted: list[_Candidate] = []
        taken: dict[str, set[Edit]] = {}
        for candidate in candidates:
            if any(_collides(edit, taken.get(edit.path, set())) for edit in candidate.edits):
                reason = "another fix of this rule changes the same lines"
                refused.append(_skipped(candidate.finding, "conflict", reason))
                continue
            for edit in candidate.edits:
                taken.setdefault(edit.path, set()).add(edit)
            admitted.append(candidate)
        return admitted

    def _hindrance(
        self, rule: Rule, candidate: _Candidate, candidates: Iterable[_Candidate]
    ) -> tuple[str, str] | None:
        """Say why the edits of ``candidate`` must not land, else None."""
        for path in sorted({edit.path for edit in candidate.edits}):
            mine = {edit for edit in candidate.edits if edit.path == path}
            if self.options.excluded(path, rule.id):
                return "excluded", f"{path} is excluded by configuration"
            if obstacle := self.options.obstacle(path):
                return obstacle
            for owner in self.owners.get(path, ()):
                if owner == candidate.service.name or (owner, path) in self.agreed:
                    continue
                if not _asks_for(owner, mine, candidates):
                    reason = f"{path} also belongs to service {owner}, to which this does not apply"
                    return "shared-file", reason
            before = _content(self.snapshot, path)
            if not still_parses(path, before, apply_edits(before or b"", mine)):
                return "result-does-not-parse", f"{path} would not parse after the edit"
        return None


def _agreed(
    service: Service, outcomes: Sequence[Outcome], findings: Sequence[Finding]
) -> set[tuple[str, str]]:
    """Return (service, path) for the files to whose change ``service`` has no objection."""
    pairs = zip(outcomes, findings, strict=True)
    skips = [(each, found.status) for each, found in pairs if isinstance(each, Skip)]
    agreed = {each.agrees_to for each, status in skips if status == "skipped" and each.agrees_to}
    against = {each.place.path for each, _ in skips if not each.agrees_to}
    return {(service.name, path) for path in agreed - against}


def _without_overtaken(findings: Sequence[Finding]) -> list[Finding]:
    """Leave out what one round skipped and a later one fixed."""
    fixed = {(each.service, each.place) for each in findings if each.status == "would-apply"}
    return [
        each
        for each in findings
        if each.status != "skipped" or (each.service, each.place) not in fixed
    ]


def _withdrawn(finding: Finding, code: str, reason: str) -> Finding:
    return replace(finding, status="withdrawn", code=code, reason=reason)


def _skipped(finding: Finding, code: str, reason: str) -> Finding:
    return replace(finding, status="skipped", code=code, reason=reason)


def _content(files: Files, path: str) -> bytes | None:
    return files.read(path) if path in files else None


def _asks_for(owner: str, edits: set[Edit], candidates: Iterable[_Candidate]) -> bool:
    return any(
        candidate.service.name == owner and edits <= set(candidate.edits)
        for candidate in candidates
    )


def _collides(edit: Edit, taken: set[Edit]) -> bool:
    """Whether ``edit`` touches what another, different edit touches."""
    return edit not in taken and any(
        (edit.start < other.end and other.start < edit.end)
        or (edit.start == other.start and (edit.start == edit.end or other.start == other.end))
        for other in taken
    )
