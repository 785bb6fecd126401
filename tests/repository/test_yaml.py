from __future__ import annotations

import time

import pytest

from mega_optimizer.repository.place import Problem
from mega_optimizer.repository.yaml import MAX_BYTES, Node, documents


def only(content: bytes) -> Node:
    roots = documents("a.yaml", content)
    assert isinstance(roots, tuple), roots
    (root,) = roots
    return root


def problem(content: bytes) -> Problem:
    found = documents("a.yaml", content)
    assert isinstance(found, Problem), found
    return found


def written(content: bytes, node: Node | None) -> bytes:
    assert node is not None
    return content[node.start : node.end]


def test_values_are_found_by_their_keys() -> None:
    root = only(b"services:\n  web:\n    ports: ['80:80', 443]\n")
    ports = root.get("services", "web", "ports")
    assert ports is not None
    assert [port.text for port in ports.elements] == ["80:80", "443"]
    assert ports.get(1) is not None
    assert ports.get(2) is None
    assert root.get("services", "db", "ports") is None
    assert root.get("services", "web", "ports", "deeper") is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: value # comment\n", b"value"),
        (b"a: 'it''s'\nb: 1\n", b"'it''s'"),
        (b'a: "x\\ty"\n', b'"x\\ty"'),
        (b"a: [1, 2]\nb: 1\n", b"[1, 2]"),
        (b"a:\n  - 1\n  - 2\n# about b\nb: 1\n", b"- 1\n  - 2"),
        (b"a:\n  x: 1\n\n# about b\nb: 1\n", b"x: 1"),
        (b"a: |\n  one\n  two\nb: 1\n", b"|\n  one\n  two\n"),
        (b"\xef\xbb\xbfa: value\n", b"value"),
        ("# größe\nz: ä\na: über # €\n".encode(), "über".encode()),
        (b"z: 1\r\na: value\r\nb: 2\r\n", b"value"),
        (b"a:\nb: 1\n", b""),
        (b"{a: {x: 1}, b: 2}\n", b"{x: 1}"),
    ],
)
def test_ranges_are_bytes_of_the_file(content: bytes, expected: bytes) -> None:
    assert written(content, only(content).get("a")) == expected


def test_keys_have_ranges_and_lines_too() -> None:
    content = "ä: 1\nservices:\n  wéb: {}\n".encode()
    services = only(content).get("services")
    assert services is not None
    ((key, _),) = services.items()
    assert key.line == 3
    assert written(content, key) == "wéb".encode()


def test_a_folded_scalar_is_one_line() -> None:
    command = only(b"command: >\n  uvicorn\n  app:app\n").get("command")
    assert command is not None
    assert command.text == "uvicorn app:app\n"
    assert command.style == ">"


def test_documents_that_are_empty_are_left_out() -> None:
    roots = documents("a.yaml", b"---\n# nothing\n---\na: 1\n---\nb: 2\n...\n")
    assert isinstance(roots, tuple)
    assert [root.line for root in roots if root.kind == "mapping"] == [4, 6]


def test_anchors_and_merges_are_looked_through() -> None:
    root = only(
        b"x: &base\n  image: a\n  restart: always\nweb:\n  <<: *base\n  image: b\nw: *base\n"
    )
    assert getattr(root.get("web", "restart"), "text", None) == "always"
    assert getattr(root.get("web", "image"), "text", None) == "b"
    assert root.get("w") is root.get("x")


def test_a_list_of_merges_takes_the_first_that_has_the_key() -> None:
    root = only(b"a: &a {k: 1}\nb: &b {k: 2, l: 3}\nc:\n  <<: [*a, *b]\n")
    assert getattr(root.get("c", "k"), "text", None) == "1"
    assert getattr(root.get("c", "l"), "text", None) == "3"


def test_nothing_is_constructed() -> None:
    root = only(b"a: !!python/object/apply:os.system ['true']\nb: 2001-01-01\nc: yes\n")
    assert [value.text for _, value in root.items()][1:] == ["2001-01-01", "yes"]


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"a: 1\nb: {{ .Values.b }}\n", "templated", 2),
        (b"{% if x %}\na: 1\n{% endif %}\n", "templated", 1),
        (b"a: 1\nb: [1\nc: 2\n", "yaml-syntax", 3),
        (b"a: 1\n\tb: 2\n", "yaml-syntax", 2),
        (b"a: *nowhere\n", "yaml-syntax", 1),
        (b"a: \x00\n", "yaml-syntax", 1),
        (b"a: \xe9\n", "encoding", 1),
        (b"a: &a [*a]\n", "yaml-aliases", 1),
        (b"a: x\n" * (MAX_BYTES // 8), "too-large", 1),
        (b"a: " + b"x" * MAX_BYTES, "too-large", 1),
    ],
)
def test_what_cannot_be_read_says_why_and_where(content: bytes, code: str, line: int) -> None:
    found = problem(content)
    assert (found.path, found.code, found.line) == ("a.yaml", code, line)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 20_000,
        b"{a: " * 20_000,
        b"a: " + b"[" * 200 + b"]" * 200,
        b"- " * 20_000,
        b"? " * 20_000,
        b"".join(b" " * depth + b"a:\n" for depth in range(700)),
    ],
)
def test_deep_nesting_is_refused_before_it_costs_time(content: bytes) -> None:
    started = time.process_time()
    assert problem(content).code == "yaml-nesting"
    assert time.process_time() - started < 2


def test_an_alias_bomb_is_refused_without_unfolding_it() -> None:
    lines = [b"a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 10):
        aliases = b", ".join([b"*a%d" % (level - 1)] * 9)
        lines.append(b"a%d: &a%d [%s]" % (level, level, aliases))
    assert problem(b"\n".join(lines)).code == "yaml-aliases"


def test_rulers_of_dashes_do_not_nest() -> None:
    assert isinstance(documents("a.yaml", b"# " + b"-" * 80 + b"\na: 1\n"), tuple)
