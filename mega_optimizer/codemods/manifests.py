"""Insert one requirement into the text of a manifest, by kind; every other byte stays."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.repository.dependencies.toml import load_toml, toml_spans
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.requirements import Requirement

    from mega_optimizer.repository.dependencies.model import Dependency, Manifest
    from mega_optimizer.repository.dependencies.toml import Path, Span

WORDS = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]*")


def insertion(
    manifest: Manifest, content: bytes, requirement: Requirement, neighbour: Dependency | None
) -> bytes | None:
    """Return ``content`` with ``requirement`` added, None where no place for it was found.

    It is sorted in where the list is sorted, else put behind ``neighbour``, else at the end.
    """
    name = neighbour.name if neighbour else None
    group = neighbour.group if neighbour else ""
    if manifest.kind == "requirements":
        return _into_requirements(content, requirement, name)
    if manifest.kind == "setup.cfg":
        return _into_setup_cfg(manifest.path, content, requirement, name, group)
    if manifest.kind == "pipfile":
        return _into_table(manifest.path, content, requirement, name, ("packages",))
    if manifest.kind == "poetry" and group not in ("", "optional"):
        keys: Path = ("tool", "poetry", "group", group, "dependencies")
        return _into_table(manifest.path, content, requirement, name, keys)
    if manifest.kind == "poetry":
        keys = ("tool", "poetry", "dependencies")
        return _into_table(manifest.path, content, requirement, name, keys)
    return _into_array(manifest.path, content, requirement, name, group)


def worded(requirement: Requirement) -> str:
    """Word a requirement as people do: the lower bound first."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{requirement.name}{extras}{_bounds(requirement)}{marker}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def predecessor(names: Sequence[str], new: str, neighbour: str | None) -> int:
    """Return behind which of ``names`` (normalised) ``new`` belongs; -1 is before the first."""
    is_sorted = len(names) > 1 and list(names) == sorted(names)
    if is_sorted:
        return sum(name < new for name in names) - 1
    if neighbour is not None and neighbour in names:
        return len(names) - 1 - list(reversed(names)).index(neighbour)
    return len(names) - 1


def _line_ending(content: bytes) -> bytes:
    return b"\r\n" if b"\r\n" in content else b"\n"


def _behind_line(content: bytes, end: int, line: bytes) -> bytes:
    """Put ``line`` behind the line that ends at ``end``, which may lack its line ending."""
    ending = _line_ending(content)
    if end and not content[:end].endswith((b"\n", b"\r")):
        return content[:end] + ending + line + content[end:]
    return content[:end] + line + ending + content[end:]


def _into_requirements(
    content: bytes, requirement: Requirement, neighbour: str | None
) -> bytes | None:
    from mega_optimizer.repository.dependencies.requirements import UTF16, logical_lines

    if content.startswith(UTF16):
        return None
    lines = [line for line in logical_lines(content) if line.text]
    entries = [line for line in lines if not line.text.startswith("-")]
    names = [
        _normal(found[0].decode()) if (found := WORDS.match(line.text.encode())) else ""
        for line in entries
    ]
    text = worded(requirement).encode()
    at = predecessor(names, _normal(requirement.name), neighbour)
    if not entries:
        edited = _behind_line(content, len(content), text)
    elif at < 0:
        start = entries[0].start
        edited = content[:start] + text + _line_ending(content) + content[start:]
    else:
        indent = re.match(rb"[ \t]*", entries[at].raw)
        edited = _behind_line(content, entries[at].end, (indent[0] if indent else b"") + text)
    old = [line.text for line in lines]
    new = [line.text for line in logical_lines(edited) if line.text]
    return edited if sorted([*old, worded(requirement)]) == sorted(new) else None


def without_lines(content: bytes, names: Sequence[str]) -> bytes:
    """Return a requirements file without the lines that declare one of ``names``."""
    from mega_optimizer.repository.dependencies.requirements import logical_lines

    dropped = {_normal(name) for name in names}
    kept = content
    for line in reversed(list(logical_lines(content))):
        found = WORDS.match(line.text.encode())
        if found and not line.text.startswith("-") and _normal(found[0].decode()) in dropped:
            kept = kept[: line.start] + kept[line.end :]
    return kept


def _into_setup_cfg(
    path: str, content: bytes, requirement: Requirement, neighbour: str | None, group: str
) -> bytes | None:
    from mega_optimizer.repository.dependencies.setup_cfg import parse_config

    section, option = (
        ("options.extras_require", group) if group else ("options", "install_requires")
    )
    head = re.search(
        rb"(?ms)^\["
        + re.escape(section.encode())
        + rb"\][^\n]*\n(?:(?!\[).*?\n)??"
        + re.escape(option.encode())
        + rb"[ \t]*=[ \t]*\r?\n((?:[ \t]+[^\n]*(?:\n|\Z)|[ \t]*\r?\n)+)",
        content,
    )
    if head is None:
        return None
    entries = [
        match for match in re.finditer(rb"(?m)^([ \t]+)([A-Za-z0-9][^\r\n]*)(\r?\n|\Z)", head[1])
    ]
    if not entries:
        return None
    names = [_normal(found[0].decode()) for entry in entries if (found := WORDS.match(entry[2]))]
    at = predecessor(names, _normal(requirement.name), neighbour)
    line = entries[max(at, 0)][1] + worded(requirement).encode()
    if at < 0:
        start = head.start(1) + entries[0].start()
        edited = content[:start] + line + _line_ending(content) + content[start:]
    else:
        edited = _behind_line(content, head.start(1) + entries[at].end(), line)
    before, after = parse_config(path, content), parse_config(path, edited)
    if isinstance(before, Problem) or isinstance(after, Problem):
        return None
    old = before.get(section, option, fallback="").split("\n")
    new = after.get(section, option, fallback="").split("\n")
    return edited if sorted([*old, worded(requirement)]) == sorted(new) else None


def _into_table(
    path: str, content: bytes, requirement: Requirement, neighbour: str | None, keys: Path
) -> bytes | None:
    spans = toml_spans(content)
    entries = sorted(
        (span.key, span, str(found[-1]))
        for found, span in spans.items()
        if found[:-1] == keys and found[-1] != "python"
    ) or sorted(
        (span.key, span, str(found[-1])) for found, span in spans.items() if found[:-1] == keys
    )
    if not entries:
        return None
    names = [_normal(name) for _, _, name in entries]
    at = predecessor(names, _normal(requirement.name), neighbour)
    line = _table_entry(requirement)
    if at < 0:
        start = content.rfind(b"\n", 0, entries[0][0]) + 1
        edited = content[:start] + line + _line_ending(content) + content[start:]
    else:
        edited = _behind_line(content, _end_of_line(content, entries[at][1].end), line)
    old, new = load_toml(path, content), load_toml(path, edited)
    if isinstance(old, Problem) or isinstance(new, Problem):
        return None
    table = old
    for key in keys:
        table = table[str(key)]
    if requirement.name in table:
        return None
    table[requirement.name] = _table_value(requirement)
    return edited if old == new else None


def _table_value(requirement: Requirement) -> str | dict[str, object]:
    version = _bounds(requirement) or "*"
    value: dict[str, object] = {"version": version}
    if requirement.extras:
        value["extras"] = sorted(requirement.extras)
    if requirement.marker:
        value["markers"] = str(requirement.marker).replace('"', "'")
    return value if len(value) > 1 else version


def _table_entry(requirement: Requirement) -> bytes:
    value = _table_value(requirement)
    if isinstance(value, str):
        return f'{requirement.name} = "{value}"'.encode()
    parts = [f'version = "{value["version"]}"']
    if requirement.extras:
        extras = ", ".join(f'"{extra}"' for extra in sorted(requirement.extras))
        parts.append(f"extras = [{extras}]")
    if requirement.marker:
        parts.append(f'markers = "{value["markers"]}"')
    return f"{requirement.name} = {{ {', '.join(parts)} }}".encode()


def _bounds(requirement: Requirement) -> str:
    return ",".join(sorted(map(str, requirement.specifier), key=lambda one: one[0] == "<"))


def _end_of_line(content: bytes, at: int) -> int:
    """Return where the line of ``at`` ends, behind its line ending."""
    end = content.find(b"\n", at)
    return len(content) if end < 0 else end + 1


def _into_array(
    path: str, content: bytes, requirement: Requirement, neighbour: str | None, group: str
) -> bytes | None:
    document = load_toml(path, content)
    if isinstance(document, Problem):
        return None
    spans = toml_spans(content)
    candidates: list[Path] = [("project", "dependencies")]
    if group:
        candidates = [
            ("project", "optional-dependencies", group),
            ("dependency-groups", group),
            ("tool", "pdm", "dev-dependencies", group),
        ]
    keys = next((found for found in candidates if found in spans), None)
    if keys is None:
        return None
    holder = document
    for key in keys[:-1]:
        holder = holder[str(key)]
    array: list[object] = holder[str(keys[-1])]
    values = [value for value in array if isinstance(value, str)]
    if len(values) != len(array):
        return None
    elements = [spans[(*keys, index)] for index in range(len(values))]
    names = [
        _normal(found[0].decode()) if (found := WORDS.match(value.encode())) else ""
        for value in values
    ]
    at = predecessor(names, _normal(requirement.name), neighbour)
    edited = _with_element(content, spans[keys], elements, at, requirement)
    after = load_toml(path, edited)
    array.insert(at + 1, worded(requirement).replace('"', "'"))
    if after == document:
        return edited
    array[at + 1] = worded(requirement)
    return edited if after == document else None


def _with_element(
    content: bytes, array: Span, elements: Sequence[Span], at: int, requirement: Requirement
) -> bytes:
    """Return ``content`` with a string behind element ``at`` (-1: in front) of an array."""
    text = worded(requirement).encode()
    quote = b'"'
    if elements and content[elements[0].start : elements[0].start + 1] == b"'":
        quote = b"'"
    other = b"'" if quote == b'"' else b'"'
    item = quote + text.replace(quote, other) + quote
    if not elements:
        start = array.start + 1
        return content[:start] + item + content[start:]
    if at < 0:
        start = elements[0].start
        gap = content[content.rfind(b"\n", 0, start) + 1 : start]
        own_line = not gap.strip()
        between = b"," + _line_ending(content) + gap if own_line else b", "
        return content[:start] + item + between + content[start:]
    end = elements[at].end
    comma = _comma(content, end, array.end)
    line_start = content.rfind(b"\n", 0, elements[at].start) + 1
    indent = content[line_start : elements[at].start]
    own_line = not indent.strip()
    line_end = _end_of_line(content, end)
    stop = line_end - (2 if content[:line_end].endswith(b"\r\n") else 1)
    following = elements[at + 1].start if at + 1 < len(elements) else array.end - 1
    if own_line and following >= line_end:
        line = _line_ending(content) + indent + item
        if comma is None:
            return content[:end] + b"," + content[end:stop] + line + content[stop:]
        if comma < stop:
            return content[:stop] + line + b"," + content[stop:]
    return content[:end] + b", " + item + content[end:]


def _comma(content: bytes, at: int, end: int) -> int | None:
    """Return where the comma behind an element stands, None where there is none."""
    while at < end:
        mark = content[at : at + 1]
        if mark == b",":
            return at
        if mark == b"#":
            at = _end_of_line(content, at)
        elif mark in b" \t\r\n":
            at += 1
        else:
            return None
    return None
