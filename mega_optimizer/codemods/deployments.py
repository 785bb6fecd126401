"""Edit what deploys a service, by range: compose entries, Kubernetes containers, ``.env.example``.

Nothing is rendered anew. What is added takes the indentation and the style of its neighbours; what
is written in a way that cannot be extended in place (aliases, merged mappings) is a skip.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mega_optimizer.repository.compose import ComposeService
    from mega_optimizer.repository.kubernetes import Container
    from mega_optimizer.repository.yaml import Node

INDENT = "  "


def compose_variable(
    content: bytes, service: ComposeService, name: str, value: str
) -> Edit | Skip | None:
    """Return the edit that sets an environment variable of a compose service; None if it is set."""
    if name in service.environment:
        return None
    entry = _own(service.node, "environment")
    if entry is None:
        if _own(service.node, "<<") is not None:
            return _skip(service.place, "its environment may come from a merged mapping")
        lines = ["environment:", f"{_step(content, service.node)}{name}: {value}"]
        return _key(service.place.path, content, service.node, lines, before="depends_on")
    if entry.kind == "sequence":
        return _element(service.place, content, service.node, entry, [f"{name}={value}"])
    return _entry(service.place, content, service.node, entry, [f"{name}: {value}"])


def compose_dependency(content: bytes, service: ComposeService, other: str) -> Edit | Skip | None:
    """Return the edit that starts compose service ``other`` before ``service``."""
    entry = _own(service.node, "depends_on")
    if entry is None:
        if _own(service.node, "<<") is not None:
            return _skip(service.place, "its depends_on may come from a merged mapping")
        lines = ["depends_on:", f"{_step(content, service.node)}- {other}"]
        return _key(service.place.path, content, service.node, lines)
    if entry.kind == "sequence":
        if any(each.text == other for each in entry.elements):
            return None
        return _element(service.place, content, service.node, entry, [other])
    if entry.get(other) is not None:
        return None
    lines = [f"{other}:", f"{_step(content, service.node)}condition: service_started"]
    return _entry(service.place, content, service.node, entry, lines)


def compose_service(
    path: str, content: bytes, services: Node, name: str, lines: Sequence[str]
) -> Edit | Skip:
    """Return the edit that adds service ``name``, described by ``lines``, below the others."""
    place = Place(path, services.line)
    if services.kind != "mapping" or not services.entries or _is_flow(content, services):
        return _skip(place, "its services are not a block of mappings")
    step = " " * (_column(content, services.entries[0][0].start) or len(INDENT))
    described = [f"{name}:", *(f"{step}{line}" for line in lines)]
    edit = _key(path, content, services, described)
    if len(services.entries) > 1:
        second = services.entries[1][0].start
        above = content[: content.rfind(b"\n", 0, second) + 1]
        apart = re.search(rb"(?:^|\n)[ \t]*\r?\n(?:[ \t]*#[^\n]*\n)*$", above) is not None
    else:
        apart = False
    return Edit(path, edit.start, edit.end, _newline(content) + edit.replacement) if apart else edit


def compose_networks(service: ComposeService) -> tuple[str, ...] | None:
    """Return the networks that a compose service names; None where it uses those of its host."""
    if service.node.get("network_mode") is not None:
        return None
    networks = service.node.get("networks")
    if networks is None:
        return ()
    if networks.kind == "mapping":
        return tuple(key.text for key, _ in networks.items())
    return tuple(each.text for each in networks.elements)


def container_variable(
    content: bytes, container: Container, name: str, value: str
) -> Edit | Skip | None:
    """Return the edit that sets an environment variable of a container; None if it is set."""
    place, node = container.place, container.node
    entry = _own(node, "env")
    written = f"'{value}'" if re.search(r"[#{}\[\],&*!|>%@`]|: ", value) else value
    if entry is None or entry.is_null or (entry.kind == "sequence" and not entry.elements):
        if entry is not None or _is_flow(content, node) or _own(node, "<<") is not None:
            return _skip(place, "its environment cannot be extended in place")
        step = _list_step(content, node)
        lines = ["env:", f"{step}- name: {name}", f"{step}  value: {written}"]
        return _key(place.path, content, node, lines, behind=("ports", "args", "command", "image"))
    if entry.kind != "sequence":
        return _skip(place, "its environment is not a list")
    known = (each.get("name") for each in entry.elements if each.kind == "mapping")
    if any(each is not None and each.text == name for each in known):
        return None
    return _element(place, content, node, entry, [f"name: {name}", f"value: {written}"])


def environment_line(path: str, content: bytes, name: str, value: str) -> Edit | None:
    """Return the edit that adds a variable to an example of a ``.env`` file; None if it has it."""
    if re.search(rb"(?m)^#?[ \t]*(?:export[ \t]+)?" + name.encode() + rb"[ \t]*=", content):
        return None
    newline = _newline(content)
    gap = b"" if not content or content.endswith(b"\n") else newline
    return Edit(path, len(content), len(content), gap + f"{name}={value}".encode() + newline)


def _step(content: bytes, service: Node) -> str:
    """Return the indentation of one level in a compose file, where services are two levels deep."""
    return " " * (_column(content, service.entries[0][0].start) // 2) or INDENT


def _list_step(content: bytes, container: Node) -> str:
    """Return how far the lists of a container are indented below their keys."""
    for key, value in container.entries:
        if value.kind == "sequence" and value.elements and not _is_flow(content, value):
            return " " * (_column(content, value.start) - _column(content, key.start))
    return INDENT


def _own(node: Node, key: str) -> Node | None:
    """Return what a mapping itself holds at ``key``; ``<<`` is not followed."""
    return next((value for name, value in node.entries if name.text == key), None)


def _skip(place: Place, reason: str) -> Skip:
    return Skip(place, "manifest-shape", f"{place.path}: {reason}")


def _newline(content: bytes) -> bytes:
    return b"\r\n" if b"\r\n" in content else b"\n"


def _is_flow(content: bytes, node: Node) -> bool:
    return content[node.start : node.start + 1] in (b"{", b"[")


def _column(content: bytes, at: int) -> int:
    return at - (content.rfind(b"\n", 0, at) + 1)


def _inside(outer: Node, inner: Node) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def line_end(content: bytes, at: int) -> int:
    """Return where the line that ends at or behind ``at`` ends, its line ending included."""
    if at and content[at - 1 : at] == b"\n":
        return at
    end = content.find(b"\n", at)
    return len(content) if end < 0 else end + 1


def _lines(content: bytes, at: int, texts: Sequence[str]) -> bytes:
    newline = _newline(content)
    gap = b"" if not at or content[at - 1 : at] == b"\n" else newline
    return gap + b"".join(text.encode() + newline for text in texts)


def _key(
    path: str,
    content: bytes,
    mapping: Node,
    lines: Sequence[str],
    before: str = "",
    behind: Sequence[str] = (),
) -> Edit:
    """Return the edit that adds a key of its own to a block mapping, at its end by default."""
    indent = " " * _column(content, mapping.entries[0][0].start)
    texts = [f"{indent}{line}" for line in lines]
    for key, _ in mapping.entries[1:]:
        if key.text == before:
            at = _above_comments(content, content.rfind(b"\n", 0, key.start) + 1)
            return Edit(path, at, at, _lines(content, at, texts))
    after = next(
        (value for name in behind for key, value in mapping.entries if key.text == name), None
    )
    end = line_end(content, value_end(content, after if after is not None else mapping))
    return Edit(path, end, end, _lines(content, end, texts))


def _above_comments(content: bytes, at: int) -> int:
    """Return the start of the comment lines that stand directly above the line at ``at``."""
    while at:
        start = content.rfind(b"\n", 0, at - 1) + 1
        if not content[start:at].lstrip().startswith(b"#"):
            return at
        at = start
    return at


def value_end(content: bytes, node: Node) -> int:
    """Return where a node ends, without the empty lines that a block scalar ends with."""
    end = node.end
    while content[:end].endswith((b"\n\n", b"\n\r\n")):
        end = content.rfind(b"\n", 0, end - 1) + 1
        if content[:end].endswith(b"\r\n\r\n"):
            end -= 2
    return end


def _entry(
    place: Place, content: bytes, owner: Node, mapping: Node, lines: Sequence[str]
) -> Edit | Skip:
    """Return the edit that adds a key and its value to a mapping within ``owner``."""
    if not _inside(owner, mapping):
        return _skip(place, "an alias stands where it would have to be extended")
    if mapping.kind != "mapping" or not mapping.entries or _own(mapping, "<<") is not None:
        return _skip(place, "what would have to be extended is not a plain mapping")
    if not _is_flow(content, mapping):
        return _key(place.path, content, mapping, lines)
    if len(lines) > 1:
        return _skip(place, "what would have to be extended stands on one line")
    at = mapping.entries[-1][1].end
    return Edit(place.path, at, at, f", {lines[0]}".encode())


def _element(
    place: Place, content: bytes, owner: Node, sequence: Node, lines: Sequence[str]
) -> Edit | Skip:
    """Return the edit that adds an element to a sequence within ``owner``."""
    if not _inside(owner, sequence):
        return _skip(place, "an alias stands where it would have to be extended")
    if not sequence.elements:
        return _skip(place, "what would have to be extended is an empty list")
    last = sequence.elements[-1]
    if _is_flow(content, sequence):
        if len(lines) > 1:
            return _skip(place, "what would have to be extended stands on one line")
        quote = content[last.start : last.start + 1].decode() if last.style in ("'", '"') else ""
        return Edit(place.path, last.end, last.end, f", {quote}{lines[0]}{quote}".encode())
    start = content.rfind(b"\n", 0, last.start) + 1
    lead = content[start : last.start].decode()
    if not re.fullmatch(r" *- +", lead):
        return _skip(place, "the list is not written one element a line")
    quote = last.style if last.style in ("'", '"') and last.kind == "scalar" else ""
    texts = [f"{lead}{quote}{lines[0]}{quote}"]
    texts += [" " * len(lead) + line for line in lines[1:]]
    end = line_end(content, value_end(content, last))
    return Edit(place.path, end, end, _lines(content, end, texts))
