"""The result for a person at a terminal: what changes and where, what was skipped and why."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mega_optimizer.report.diff import patch_of
from mega_optimizer.report.words import printable
from mega_optimizer.verify.stated import stated_differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from mega_optimizer.engine.plan import Finding
    from mega_optimizer.measure.images import ImagePair
    from mega_optimizer.pipeline import Result
    from mega_optimizer.publish.outcome import Published
    from mega_optimizer.repository.place import Problem

# How many services, or places of one reason, are shown before the rest is only counted.
SHOWN = 12
PLACES_SHOWN = 4
# The width from which a line has room for the traits of a service.
WIDE = 120
# A change of fewer bytes (an ignore file of a few lines) is not worth a line.
NOTEWORTHY_BYTES = 1000
INDENT = (0, 0, 0, 2)
# The width of a report that no terminal limits.
PLAIN_WIDTH = 160


def print_result(result: Result, console: Console, verbose: bool = False) -> None:
    """Print ``result``; ``verbose`` unfolds every skip and service."""
    commit = f" at {result.commit[:10]}" if result.commit else ""
    services = result.plan.repository.services
    head = f"{result.root}{commit}: {_count(len(services), 'service')}"
    console.print(_Printable(Text(head, style="bold")))
    for part in _parts(result, verbose):
        console.print()
        console.print(_Printable(part))
    console.print()
    console.print(_Printable(_closing(result)))


@dataclass(frozen=True, slots=True)
class _Printable:
    """What is shown, with the control characters that words of the target hold escaped."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.shown, options):
            yield segment._replace(text=printable(segment.text))


def as_text(result: Result, verbose: bool = False) -> str:
    """Return what :func:`print_result` prints, without colours and without a limit of width."""
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    print_result(result, Console(file=text, width=PLAIN_WIDTH, highlight=False), verbose)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _parts(result: Result, verbose: bool) -> Iterator[RenderableType]:
    findings = result.plan.findings
    if result.plan.repository.services:
        yield _Services(result, verbose)
    changed = [finding for finding in findings if finding.status == "would-apply"]
    if changed:
        yield _section("Changed" if result.written else "Would change", _by_rule(changed, result))
    answers = _answers(result)
    if answers:
        yield _section("Answers that may change", Group(*answers))
    above = [finding for finding in findings if finding.status == "above-level"]
    held_back = [finding for finding in above if finding.level != "advice"]
    if held_back:
        first = "commit, then " if result.written else ""
        title = f"Left for you to decide ({first}--level review applies them)"
        yield _section(title, _by_rule(held_back, result))
    advice = [finding for finding in above if finding.level == "advice"]
    if advice:
        shown = "" if verbose else " (--verbose shows the patches)"
        yield _section(f"Advice{shown}", _by_rule(advice, result))
    if verbose:
        yield from (Text(patch_of(finding)) for finding in advice if finding.advised)
    withdrawn = [finding for finding in findings if finding.status == "withdrawn"]
    if withdrawn:
        yield _section("Withdrawn", _reasons(withdrawn, verbose))
    skipped = [finding for finding in findings if finding.status == "skipped"]
    if skipped:
        yield _section("Skipped, because", _reasons(skipped, verbose))
    suppressed = [each for each in findings if each.status == "suppressed"]
    if suppressed and verbose:
        yield _section("Suppressed", _reasons(suppressed, verbose))
    elif suppressed:
        yield Text(f"Suppressed: {_count(len(suppressed), 'finding')}", style="dim")
    if result.images and result.settings.sizes == "build":
        from mega_optimizer.report.measured import measured_images

        yield measured_images(result.images)
    elif result.images:
        yield _images(result.images)
    if result.plan.problems:
        yield _section("Not read", _problems(result.plan.problems, verbose))


def _section(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(title, style="bold"), Padding(body, INDENT, expand=False))


@dataclass(frozen=True, slots=True)
class _Services:
    """The services, those that change first; traits are shown where the line has room for them."""

    result: Result
    verbose: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        changed = {change.service for change in self.result.plan.changes}
        every = sorted(
            self.result.plan.repository.services, key=lambda service: service.name not in changed
        )
        shown = every if self.verbose else every[:SHOWN]
        table = Table(box=None, pad_edge=False, show_header=False)
        for service in shown:
            launch = service.launch[0].command if service.launch else "no launch command found"
            traits = ", ".join(dict.fromkeys(trait.name for trait in service.traits))
            cells = [
                Text(service.name, style="cyan"),
                Text(service.dockerfile or service.root or ".", overflow="fold"),
                Text(launch, overflow="ellipsis", no_wrap=True),
            ]
            if options.max_width >= WIDE:
                cells.append(Text(traits, style="dim"))
            table.add_row(*cells)
        yield _section("Services", table)
        if len(every) > len(shown):
            more = f"  and {len(every) - len(shown)} more (--verbose shows them)"
            yield Text(more, style="dim")


def _by_rule(findings: Iterable[Finding], result: Result) -> RenderableType:
    titles = {rule.id: rule.title for rule in result.rules}
    grouped: dict[tuple[str, str], dict[tuple[str, str], dict[int, None]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for finding in findings:
        # A file that services share is named once, and so is what is said of several lines.
        lines = grouped[finding.rule, finding.level][finding.place.path, finding.message]
        lines[finding.place.line] = None
    shown: list[RenderableType] = []
    for (rule, level), places in grouped.items():
        shown.append(Text.assemble((rule, "green"), f"  {level}  ", (titles.get(rule, ""), "dim")))
        for (path, message), numbers in places.items():
            told = Text(f"{path}:{','.join(map(str, numbers))}  {message}")
            shown.append(Padding(told, INDENT, expand=False))
    return Group(*shown)


def _answers(result: Result) -> list[RenderableType]:
    """Say how the answers of services differ after rules that change some, or why not known."""
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for rule, service, stated in stated_differences(result):
        told[service, stated.words].append(rule.id)
    return [
        Text.assemble((service, "cyan"), f"  {', '.join(rules)}: {words}")
        for (service, words), rules in told.items()
    ]


def _reasons(findings: Iterable[Finding], verbose: bool) -> RenderableType:
    grouped: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for finding in findings:
        grouped[finding.code, finding.rule][f"{finding.place}  {finding.reason}"] = None
    lines: list[RenderableType] = []
    for (code, rule), places in sorted(grouped.items(), key=lambda item: -len(item[1])):
        lines.append(Text.assemble((code, "yellow"), f"  {rule}  {_count(len(places), 'place')}"))
        shown = list(places) if verbose else list(places)[:PLACES_SHOWN]
        lines += [Padding(Text(place), INDENT, expand=False) for place in shown]
        if len(places) > len(shown):
            more = f"and {len(places) - len(shown)} more (--verbose shows them)"
            lines.append(Padding(Text(more, style="dim"), INDENT, expand=False))
    return Group(*lines)


def _images(images: Iterable[ImagePair]) -> RenderableType:
    lines: list[RenderableType] = []
    for pair in images:
        before, after = pair.before.bytes_compressed, pair.after.bytes_compressed
        if before is None or after is None:
            told = f"known changes {_signed(pair.known_difference)}, the total is not known"
        else:
            told = f"{_human(before)} → {_human(after)} ({_signed(after - before)})"
        lines.append(Text.assemble((pair.service, "cyan"), f"  {told}"))
        parts = [
            f"{each.name} {_signed(each.compressed)}"
            for each in pair.differences
            if each.compressed is None or abs(each.compressed) >= NOTEWORTHY_BYTES
        ]
        if parts:
            lines.append(Padding(Text(f"changed: {'; '.join(parts)}"), INDENT, expand=False))
        gaps = [gap.partition(", compressed: ")[0] for gap in pair.after.gaps("bytes compressed")]
        if gaps:
            missing = f"not known: {'; '.join(dict.fromkeys(gaps))}"
            lines.append(Padding(Text(missing, style="dim"), INDENT, expand=False))
    note = "Estimates; --format json says what they rest on. --sizes build measures."
    return _section(
        "Image sizes, compressed, before → after", Group(*lines, Text(note, style="dim"))
    )


def _problems(problems: Iterable[Problem], verbose: bool) -> RenderableType:
    every = list(problems)
    shown = every if verbose else every[:SHOWN]
    lines = [
        Text(f"{problem.path}:{problem.line}  {problem.code}: {problem.message}")
        for problem in shown
    ]
    if len(every) > len(shown):
        lines.append(
            Text(f"and {len(every) - len(shown)} more (--verbose shows them)", style="dim")
        )
    return Group(*lines)


def _closing(result: Result) -> RenderableType:
    changed = result.plan.changed()
    if not changed:
        return Text("Nothing to change.", style="bold")
    rules = {change.rule for change in result.plan.changes}
    what = f"{_count(len(changed), 'file')} by {_count(len(rules), 'rule')}"
    if result.pull_request is not None:
        return Text(_published(result.pull_request, what), style="bold")
    told = f"Changed {what}:" if result.written else f"Would change {what}. Nothing was written."
    if not result.written:
        return Text(told, style="bold")
    files = [
        Text(f"  {'new     ' if before is None else 'changed '} {path}")
        for path, (before, _) in changed.items()
    ]
    return Group(Text(told, style="bold"), *files)


def _published(published: Published, what: str) -> str:
    if published.operation == "blocked":
        where = f" ({published.url})" if published.url else ""
        return f"Would change {what}. No pull request was written{where}: {published.reason}."
    return f"Pull request {published.operation}: {published.url} ({what})."


def _signed(count: int | None) -> str:
    if count is None:
        return "change unknown"
    return "no change" if count == 0 else f"{'+' if count > 0 else '−'}{_human(abs(count))}"  # noqa: RUF001


def _human(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1000:.1f} kB"
    return f"{count / 1_000_000:.1f} MB"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
