"""Examples: whole little repositories in one text file, before and after a rule.

They are the tests of a rule, its documentation, and what ``explain`` shows. The format follows
txtar: a head of ``key: value`` lines, then sections that begin with ``-- before/PATH --`` or
``-- after/PATH --``. A section header may end in ``(crlf)``, ``(bom)``, ``(no-final-newline)`` or
``(link: TARGET)`` to say what plain text cannot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.errors import RuleFolderError
from mega_optimizer.repository.files import MemoryFiles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SECTION = re.compile(r"^-- (before|after)/(.+?)((?: \([^()]+\))*) --$", re.MULTILINE)
EXPECTATIONS = ("applied", "advised", "skipped", "suppressed", "nothing")


@dataclass(frozen=True, slots=True)
class Example:
    """One example: ``expect`` is ``applied``, ``advised`` (a finding without a patch), ``skipped``
    (with ``code``), ``suppressed`` or ``nothing``. ``after`` holds the files that the rule changes
    or creates; those of a rule of level advice are its patch.
    """

    name: str
    shows: str
    expect: str
    code: str
    before: Mapping[str, bytes]
    links: Mapping[str, str]
    after: Mapping[str, bytes]
    options: Mapping[str, str]

    @property
    def files(self) -> MemoryFiles:
        """The little repository before the rule runs."""
        return MemoryFiles(dict(self.before), {path: "symlink" for path in self.links})


def read_examples(folder: Path) -> Iterator[Example]:
    """Yield the examples of a rule folder, by name."""
    for path in sorted((folder / "examples").glob("*.txtar")):
        yield read_example(path)


def read_example(path: Path) -> Example:
    """Read one example; raise :class:`RuleFolderError` where it is not one."""
    text = path.read_text(encoding="utf-8")
    headers = list(SECTION.finditer(text))
    head = dict(_head(path, text[: headers[0].start()] if headers else text))
    sides: dict[str, dict[str, bytes]] = {"before": {}, "after": {}}
    links: dict[str, str] = {}
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        body = text[header.end() + 1 : following.start() if following else len(text)]
        marks = re.findall(r"\(([^()]+)\)", header[3])
        target = next((mark[6:] for mark in marks if mark.startswith("link: ")), None)
        if target is not None:
            links[header[2]] = target
        else:
            sides[header[1]][header[2]] = _encoded(body, marks)
    if head.get("expect") not in EXPECTATIONS or not head.get("shows") or not sides["before"]:
        raise RuleFolderError(f"{path}: an example needs shows, expect and -- before/PATH -- files")
    if (head["expect"] == "applied") != bool(sides["after"]):
        raise RuleFolderError(f"{path}: only what is applied has -- after/PATH -- files")
    if (head["expect"] == "skipped") != ("code" in head):
        raise RuleFolderError(f"{path}: what is skipped names its code, and nothing else does")
    return Example(
        name=path.stem,
        shows=head.pop("shows"),
        expect=head.pop("expect"),
        code=head.pop("code", ""),
        before=sides["before"],
        links=links,
        after=sides["after"],
        options=head,
    )


def _head(path: Path, text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()
        elif line.strip():
            raise RuleFolderError(f"{path}: the head has lines of the form key: value")


def _encoded(body: str, marks: list[str]) -> bytes:
    content = body.encode()
    if "no-final-newline" in marks:
        content = content.removesuffix(b"\n")
    if "crlf" in marks:
        content = content.replace(b"\n", b"\r\n")
    if "bom" in marks:
        content = b"\xef\xbb\xbf" + content
    return content
