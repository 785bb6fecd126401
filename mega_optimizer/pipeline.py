"""The way of the data: scan, plan, verify, apply, measure; the result is what reports show."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mega_optimizer.engine.owners import owners_of
from mega_optimizer.engine.plan import Options
from mega_optimizer.engine.planner import NOT_IDEMPOTENT, make_plan
from mega_optimizer.errors import ConfigurationError, UserError
from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.git_index import UnreadableRepository, git_state
from mega_optimizer.repository.scan import open_repository, scan
from mega_optimizer.rules import load_rules, pick, unknown_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pathspec import GitIgnoreSpec

    from mega_optimizer.config import Settings
    from mega_optimizer.engine.plan import Plan
    from mega_optimizer.engine.resolve import Resolver
    from mega_optimizer.measure.images import ImagePair
    from mega_optimizer.publish.outcome import Published
    from mega_optimizer.repository.git_index import GitState
    from mega_optimizer.repository.index import DiskFiles
    from mega_optimizer.repository.place import Problem
    from mega_optimizer.repository.service import Repository
    from mega_optimizer.rules import Level, Rule

Mode = Literal["rewrite", "diff", "check"]


@dataclass(frozen=True, slots=True)
class Request:
    """One run: the target, what is asked of it, and what may be done to it.

    ``only`` limits fixes to findings in these paths (the hook); ``allow_staged`` accepts files
    that are staged as they are, ``allow_dirty`` any file. ``clone_of`` is the folder that the user
    named, where ``root`` is in a clone of it.
    """

    root: Path
    settings: Settings
    mode: Mode = "diff"
    allow_dirty: bool = False
    allow_staged: bool = False
    use_cache: bool = True
    only: frozenset[str] | None = None
    clone_of: Path | None = None
    progress: Callable[[str], None] = lambda step: None


@dataclass(slots=True)
class Result:
    """What a run found, planned and did."""

    root: Path
    mode: Mode
    commit: str | None
    plan: Plan
    rules: tuple[Rule, ...]
    settings: Settings
    images: Sequence[ImagePair] = ()
    verified: Mapping[str, bool | None] = field(default_factory=dict)
    written: bool = False
    pull_request: Published | None = None
    warnings: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)


def check_services(settings: Settings, repository: Repository) -> None:
    """Raise :class:`UserError` where ``settings`` name a service that the repository has not."""
    named = {*settings.services, *(sample.service for sample in settings.samples)}
    unknown = sorted(named - {service.name for service in repository.services})
    if unknown:
        known = ", ".join(service.name for service in repository.services) or "none"
        raise UserError(f"no service is called {', '.join(unknown)} (there are: {known})")


def run(request: Request) -> Result:
    """Do what ``request`` asks; raise :class:`UserError` where the target cannot be read."""
    timings: dict[str, float] = {}
    settings = request.settings
    rules = selected_rules(settings)
    with _timed(timings, "scan_s"):
        request.progress("reading the repository")
        files, repository, state = read_target(request.root)
    if request.mode == "rewrite" and state is None and not request.allow_dirty:
        raise UserError(
            f"{request.root} is not a git checkout, so nothing could bring it back: "
            "use --diff or --check, or --allow-dirty to write all the same"
        )
    check_services(settings, repository)
    with _timed(timings, "plan_s"):
        request.progress("planning")
        options = _options(request, files, state)
        plan = make_plan(files, repository, rules, options)
    with _timed(timings, "verify_s"):
        request.progress("verifying")
        plan = _without_restless_rules(plan, files, rules, options)
    plan = replace(plan, problems=_with_refused(plan.problems, files))
    result = Result(
        root=request.clone_of or files.guard.root,
        mode=request.mode,
        commit=state.commit if state else None,
        plan=plan,
        rules=rules,
        settings=settings,
        warnings=tuple(_warnings(request, plan, files, rules, options.resolver)),
    )
    with _timed(timings, "measure_s"):
        if settings.sizes == "build":
            _build_and_prove(result, request, files, options)
        elif settings.sizes != "off":
            from mega_optimizer.measure.images import estimate_images

            request.progress("estimating image sizes")
            result.images = estimate_images(plan, files, options.resolver, result.root)
    if request.mode == "rewrite" and result.plan.changes:
        from mega_optimizer.engine.apply import apply_changes

        request.progress("writing")
        apply_changes(files.guard, result.plan.changed())
        result.written = True
    result.timings = timings
    return result


def _build_and_prove(result: Result, request: Request, files: DiskFiles, options: Options) -> None:
    """Build the images before and after; leave in the plan what their proof does not refute."""
    from mega_optimizer.measure.builders.choose import NO_BUILDER, answering_builder, build_options
    from mega_optimizer.measure.builders.process import BuilderError, tidying_when_killed
    from mega_optimizer.verify.proven import log_folder, prove_plan
    from mega_optimizer.verify.samples import Asked

    allowed = build_options()
    builder = answering_builder(allowed)
    if builder is None:
        raise BuilderError(NO_BUILDER)
    first = result.plan
    restless = {
        (each.rule, each.service): (each.code, each.reason)
        for each in first.findings
        if each.status == "withdrawn"
    }

    def replan(withdrawn: Mapping[tuple[str, str], tuple[str, str]]) -> Plan:
        again = replace(options, withdrawn={**restless, **withdrawn})
        return replace(
            make_plan(files, first.repository, result.rules, again), problems=first.problems
        )

    asked = Asked(
        request.settings.samples,
        frozenset(rule.id for rule in result.rules if rule.changes_answers),
    )
    with tidying_when_killed(), builder:
        proven = prove_plan(
            first, replan, files, builder, allowed, log_folder(), request.progress, asked
        )
    result.plan, result.images, result.verified = proven.plan, proven.images, proven.verified


def _warnings(
    request: Request,
    plan: Plan,
    files: DiskFiles,
    rules: Sequence[Rule],
    resolver: Resolver | None,
) -> Iterator[str]:
    if not plan.repository.services:
        yield "no Python service was found"
    if resolver is not None and resolver.unanswered:
        from mega_optimizer.engine.resolve import shortened

        yield (
            f"{len(resolver.unanswered)} questions about packages went unanswered, and what hangs "
            f"on the answers was skipped ({shortened(resolver.unanswered[0].message)})"
        )
    if not request.settings.services and request.only is None:
        from mega_optimizer.engine.unused_suppressions import unused_suppressions

        yield from unused_suppressions(plan, files, rules, load_rules())


def _with_refused(problems: Sequence[Problem], files: DiskFiles) -> tuple[Problem, ...]:
    """Add the files that could not be read to ``problems``, which name some of them already."""
    named = {problem.path for problem in problems}
    refused = [problem for path, problem in files.refused.items() if path not in named]
    return tuple(sorted([*problems, *refused], key=lambda problem: (problem.path, problem.line)))


def selected_rules(settings: Settings) -> tuple[Rule, ...]:
    """Return the rules to run, in order; raise for a name that no rule has."""
    rules = load_rules()
    for names in settings.ignore_paths.values():
        pick(rules, [name for name in names if name != "all"])
    for name, parameters in settings.rules.items():
        _check_parameters(name, parameters, rules, settings.source)
    selected = pick(rules, settings.select) if settings.select else rules
    ignored = pick(rules, settings.ignore)
    left = tuple(rule for rule in rules if rule in selected and rule not in ignored)
    if not left:
        raise UserError("no rule is left to run: what is selected is ignored as well")
    return left


def _check_parameters(
    name: str, given: Mapping[str, object], rules: Sequence[Rule], source: str
) -> None:
    rule = next((rule for rule in rules if rule.id == name), None)
    if rule is None:
        raise ConfigurationError(f"{source}: {unknown_rule(name, rules)}")
    known = [parameter for parameter, _ in rule.parameters]
    for parameter in given:
        if parameter not in known:
            there_are = ", ".join(known) or "it has none"
            message = f"{source}: {parameter} is not a parameter of {name} ({there_are})"
            raise ConfigurationError(message)


def target_folder(given: Path) -> Path:
    """Return the real path of the folder ``given``; raise :class:`UserError` if it is none."""
    try:
        root = Path(os.path.realpath(given, strict=True))
        root.stat()
    except FileNotFoundError as error:
        raise UserError(f"{given} does not exist") from error
    except OSError as error:
        raise UserError(f"{given} cannot be read: {error.strerror}") from error
    if not root.is_dir():
        raise UserError(f"{given} is not a folder; name the folder of a repository")
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError(f"{given} cannot be read: permission denied")
    return root


def read_target(root: Path) -> tuple[DiskFiles, Repository, GitState | None]:
    """Return the files of ``root``, its services and what git knows; raise :class:`UserError`."""
    root = target_folder(root)
    try:
        return *open_repository(root), git_state(root)
    except UnreadableRepository as error:
        raise UserError(str(error)) from error


def _options(request: Request, files: DiskFiles, state: GitState | None) -> Options:
    settings = request.settings
    named = {rule.id for rule in pick(load_rules(), settings.select)} if settings.select else set()
    level: Level = "review" if settings.level == "review" else "safe"
    return Options(
        level=level,
        named=frozenset(named & set(settings.select)),
        services=frozenset(settings.services),
        parameters=settings.rules,
        stale_locks=settings.stale_locks,
        resolver=_resolver(request),
        obstacle=_obstacle(request, files, state),
        excluded=_excluded(settings),
        only=request.only,
    )


def _resolver(request: Request) -> Resolver:
    from mega_optimizer.engine.resolve import Resolver, default_cache

    cache = default_cache() if request.use_cache else None
    return Resolver(offline=request.settings.offline, cache=cache)


def _obstacle(
    request: Request, files: DiskFiles, state: GitState | None
) -> Callable[[str], tuple[str, str] | None]:
    """Return a function that says why a path cannot be written."""
    accepted = {"clean", "staged"} if request.allow_staged else {"clean"}
    way_out = "stage it first" if request.allow_staged else "commit it first, or use --allow-dirty"

    def obstacle(path: str) -> tuple[str, str] | None:
        try:
            target = files.guard.resolve_for_writing(path)
        except UnreadableFile as error:
            return error.code, str(error)
        if path not in files and target.exists():
            return "untracked-file", f"{path} exists, but git does not track it: commit it first"
        if request.mode != "rewrite":
            return None
        if not os.access(target.parent, os.W_OK):
            return "read-only-folder", f"the folder of {path} is read-only"
        if path not in files:
            return None
        if not target.stat().st_mode & 0o222 or not os.access(target, os.W_OK):
            return "read-only-file", f"{path} is read-only"
        if request.allow_dirty or state is None:
            return None
        status = state.status(path)
        if status in accepted:
            return None
        return "uncommitted-changes", f"{path} is {status}: {way_out}"

    return obstacle


def _excluded(settings: Settings) -> Callable[[str, str], bool]:
    everywhere = _patterns(settings.exclude)
    by_path = [
        (_patterns([glob]), frozenset(names)) for glob, names in settings.ignore_paths.items()
    ]

    def excluded(path: str, rule: str) -> bool:
        names = {"all", rule, rule.split("/")[0]}
        return everywhere.match_file(path) or any(
            names & ignored and spec.match_file(path) for spec, ignored in by_path
        )

    return excluded


def _patterns(globs: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(globs)
    except (ValueError, re.error) as error:
        raise ConfigurationError(f"not a pattern: {', '.join(globs)} ({error})") from error


def _without_restless_rules(
    plan: Plan, files: DiskFiles, rules: Sequence[Rule], options: Options
) -> Plan:
    """Plan a second time upon the result: a rule that would change it again is withdrawn."""
    if not plan.changes:
        return plan
    after = scan(plan.result, files.guard.root.name)
    owners = owners_of(after, plan.result)
    touched = {name for path in plan.changed() for name in owners.get(path, ())}
    touched |= {change.service for change in plan.changes}
    again = make_plan(plan.result, after, rules, replace(options, services=frozenset(touched)))
    restless = {(change.rule, change.service): NOT_IDEMPOTENT for change in again.changes}
    if not restless:
        return plan
    return make_plan(files, plan.repository, rules, replace(options, withdrawn=restless))


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        timings[name] = round(time.perf_counter() - start, 3)
