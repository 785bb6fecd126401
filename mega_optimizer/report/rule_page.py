"""The page of a rule, in Markdown: what ``explain`` prints and what ``docs/rules/`` holds."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from mega_optimizer.examples import read_examples
from mega_optimizer.report.diff import diff_of
from mega_optimizer.rules import data_folder

if TYPE_CHECKING:
    from mega_optimizer.examples import Example
    from mega_optimizer.rules import Rule

WIDTH = 96


def rule_page(rule: Rule, shown: int | None = None) -> str:
    """Return the page of ``rule``; ``shown`` limits the examples of either kind."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(data_folder() / "templates"),
        autoescape=False,
        keep_trailing_newline=True,
    )
    environment.filters |= {"wrapped": _wrapped, "diff": _diff}
    examples = list(read_examples(rule.folder))
    page = environment.get_template("rules/page.md.j2").render(
        rule=rule,
        changed=[each for each in examples if each.expect == "applied"][:shown],
        kept=[each for each in examples if each.expect != "applied"][:shown],
    )
    return page.rstrip() + "\n"


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, WIDTH) for line in text.splitlines())


def _diff(example: Example) -> str:
    changes = {path: (example.before.get(path), new) for path, new in example.after.items()}
    return diff_of(changes).replace("\r", "␍")
