"""Write ``docs/rules/``: a page for every rule, and their list. Run: python -m docs.generate."""

from __future__ import annotations

from pathlib import Path

from mega_optimizer.report.rule_page import rule_page
from mega_optimizer.rules import load_rules

FOLDER = Path(__file__).resolve().parent / "rules"


def pages() -> dict[Path, str]:
    """Return path → content of all generated pages."""
    rules = sorted(load_rules(), key=lambda rule: rule.id)
    written = {FOLDER / f"{rule.id}.md": rule_page(rule) for rule in rules}
    lines = [f"| [{rule.id}]({rule.id}.md) | {rule.level} | {rule.title} |" for rule in rules]
    head = "# Rules\n\n| rule | level | what it does |\n|---|---|---|\n"
    return {FOLDER / "README.md": head + "\n".join(lines) + "\n", **written}


def main() -> None:
    """Write the pages."""
    for path, content in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
