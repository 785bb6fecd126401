"""Rewrite Python with libcst: a screened parse, nodes found again by facts, minimal byte edits.

libcst costs a quarter of a second to import, so this module is itself only imported where the
facts already promise a finding.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import libcst as cst

from mega_optimizer.codemods.finding import Edit, Skip
from mega_optimizer.repository.memo import by_content
from mega_optimizer.repository.place import Place, Problem
from mega_optimizer.repository.python import python_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mega_optimizer.repository.python import Call

LINE_LENGTH = 88


@by_content(size=16)
def parse_module(path: str, content: bytes) -> cst.Module | Problem:
    """Return the libcst tree of a file that ``ast`` accepts, or why there is none.

    Codes: those of :func:`python_facts`, ``syntax-error``, ``too-deep`` and ``not-lossless``.
    """
    facts = python_facts(path, content)
    if isinstance(facts, Problem):
        return facts
    try:
        module = cst.parse_module(content)
        same = module.bytes == content
    except cst.ParserSyntaxError as error:
        return Problem(path, "syntax-error", f"libcst cannot read it: {error.message}")
    except SyntaxError as error:
        return Problem(path, "syntax-error", f"libcst cannot read it: {error.msg}")
    except RecursionError:
        return Problem(path, "too-deep", "is nested too deeply to be rewritten safely")
    if not same:
        return Problem(path, "not-lossless", "would not survive a rewrite byte for byte")
    return module


def skipped(problem: Problem) -> Skip:
    """Return the skip of a file that cannot be understood."""
    return Skip(Place(problem.path, problem.line), problem.code, problem.message)


def edits_between(path: str, old: bytes, new: bytes | cst.Module) -> tuple[Edit, ...]:
    """Return the smallest byte-range edits that turn ``old`` into ``new``.

    Lines are matched first, then what starts and ends alike is cut away, so that fixes made from
    one snapshot of a file can land together.
    """
    target = new if isinstance(new, bytes) else new.bytes
    before, after = old.splitlines(keepends=True), target.splitlines(keepends=True)
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    offsets = [0]
    for line in before:
        offsets.append(offsets[-1] + len(line))
    old_lines = before[head : len(before) - tail]
    new_lines = after[head : len(after) - tail]
    matcher = SequenceMatcher(None, old_lines, new_lines, autojunk=False)
    edits: list[Edit] = []
    for tag, low, high, start, end in matcher.get_opcodes():
        if tag == "equal":
            continue
        position = offsets[head + low]
        for old_part, new_part in _aligned(old_lines[low:high], new_lines[start:end]):
            if old_part != new_part:
                _append(edits, _trimmed(path, position, old_part, new_part))
            position += len(old_part)
    return tuple(edits)


def _append(edits: list[Edit], edit: Edit) -> None:
    """Add ``edit``, joined to the one before where both touch: their order would be lost."""
    if edits and edits[-1].end == edit.start:
        last = edits.pop()
        edit = Edit(edit.path, last.start, edit.end, last.replacement + edit.replacement)
    edits.append(edit)


def _aligned(old: list[bytes], new: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Pair changed lines one by one; lines that are too many stand before or behind the pairs."""
    common, surplus = min(len(old), len(new)), abs(len(old) - len(new))
    if not common:
        return [(b"".join(old), b"".join(new))]

    def pairs(old_start: int, new_start: int) -> list[tuple[bytes, bytes]]:
        return [(old[old_start + i], new[new_start + i]) for i in range(common)]

    shift = (surplus, 0) if len(old) > len(new) else (0, surplus)
    behind, before = pairs(0, 0), pairs(*shift)
    alike = sum(len(a) + len(b) - _distance(a, b) for a, b in before)
    if alike > sum(len(a) + len(b) - _distance(a, b) for a, b in behind):
        return [(b"".join(old[: shift[0]]), b"".join(new[: shift[1]])), *before]
    return [*behind, (b"".join(old[common:]), b"".join(new[common:]))]


def _distance(old: bytes, new: bytes) -> int:
    edit = _trimmed("", 0, old, new)
    return edit.end - edit.start + len(edit.replacement)


def _common(left: list[bytes], right: list[bytes]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def _trimmed(path: str, start: int, old: bytes, new: bytes) -> Edit:
    limit = min(len(old), len(new))
    head = next((i for i in range(limit) if old[i] != new[i]), limit)
    limit -= head
    tail = next((i for i in range(limit) if old[-1 - i] != new[-1 - i]), limit)
    return Edit(path, start + head, start + len(old) - tail, new[head : len(new) - tail])


def dotted_name(node: cst.BaseExpression) -> str | None:
    """Return ``a.b.c`` for a name or a chain of attributes of a name, else None."""
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    if not isinstance(node, cst.Name):
        return None
    return ".".join([node.value, *reversed(parts)])


class ScopedVisitor(cst.CSTTransformer):
    """Knows the dotted path of the functions and classes around the node being visited."""

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []

    # Decorators, parameters and bases stand outside of the scope that they introduce.
    def visit_FunctionDef_body(self, node: cst.FunctionDef) -> None:
        """Enter a function."""
        self.path.append(node.name.value)

    def leave_FunctionDef_body(self, node: cst.FunctionDef) -> None:
        """Leave a function."""
        self.path.pop()

    def visit_ClassDef_body(self, node: cst.ClassDef) -> None:
        """Enter a class."""
        self.path.append(node.name.value)

    def leave_ClassDef_body(self, node: cst.ClassDef) -> None:
        """Leave a class."""
        self.path.pop()

    @property
    def scope(self) -> str:
        """The dotted path of the enclosing scope, as :class:`Call` gives it."""
        return ".".join(self.path)


class _ReplaceCalls(ScopedVisitor):
    def __init__(
        self, replacements: dict[tuple[str, str, int], Callable[[cst.Call], cst.BaseExpression]]
    ) -> None:
        super().__init__()
        self.replacements = replacements
        self.wanted = {text for _, text, _ in replacements}
        self.counts: dict[tuple[str, str], int] = {}
        self.keys: list[tuple[str, str, int] | None] = []  # of the calls being visited
        self.done = 0

    def visit_Call(self, node: cst.Call) -> None:
        text = dotted_name(node.func)
        if text is None or text not in self.wanted:
            self.keys.append(None)
            return
        counted = (self.scope, text)
        ordinal = self.counts.get(counted, 0)
        self.counts[counted] = ordinal + 1
        self.keys.append((*counted, ordinal))

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        key = self.keys.pop()
        if key is None or key not in self.replacements:
            return updated_node
        self.done += 1
        return self.replacements[key](updated_node)


def replace_calls(
    module: cst.Module,
    calls: Mapping[Call, Callable[[cst.Call], cst.BaseExpression]],
) -> cst.Module | None:
    """Return ``module`` with each of ``calls`` replaced; None where one was not found again."""
    replacements = {(call.scope, call.text, call.ordinal): new for call, new in calls.items()}
    visitor = _ReplaceCalls(replacements)
    result = module.visit(visitor)
    return result if visitor.done == len(replacements) else None


def with_keyword(
    call: cst.Call, keyword: str, value: cst.BaseExpression, column: int = 1
) -> cst.Call:
    """Return ``call`` with ``keyword=value`` added at the end, laid out like its neighbours.

    A call on one line, beginning at ``column``, that would pass 88 characters (Black's and ruff's
    limit) is broken into one argument per line, as both would do it.
    """
    return fitted(_with_last(call, keyword, value), column)


def fitted(call: cst.Call, column: int) -> cst.Call:
    """Return ``call``, one argument a line where one line is too short for it."""
    code = cst.Module([]).code_for_node(call)
    if "\n" in code or column - 1 + len(code) <= LINE_LENGTH:
        return call
    return one_per_line(call)


def with_argument_replaced(
    call: cst.Call, keyword: str, other: str, value: cst.BaseExpression
) -> cst.Call:
    """Return ``call`` with ``other=value`` in the place of the argument ``keyword=``."""
    args = [
        each.with_changes(keyword=cst.Name(other), value=value)
        if each.keyword and each.keyword.value == keyword
        else each
        for each in call.args
    ]
    return call.with_changes(args=args)


def one_per_line(call: cst.Call, depth: int = 0) -> cst.Call:
    """Return ``call`` with each argument on a line of its own.

    ``depth`` counts the calls around it that are laid out in the same manner.
    """

    def indented(by: int) -> cst.ParenthesizedWhitespace:
        return cst.ParenthesizedWhitespace(indent=True, last_line=cst.SimpleWhitespace(" " * by))

    inner, closing = indented(4 * depth + 4), indented(4 * depth)
    args = [
        arg.with_changes(
            comma=cst.Comma(whitespace_after=closing if arg is call.args[-1] else inner),
            whitespace_after_arg=cst.SimpleWhitespace(""),
        )
        for arg in call.args
    ]
    return call.with_changes(args=args, whitespace_before_args=inner)


def _with_last(call: cst.Call, keyword: str, value: cst.BaseExpression) -> cst.Call:
    plain = cst.AssignEqual(
        whitespace_before=cst.SimpleWhitespace(""), whitespace_after=cst.SimpleWhitespace("")
    )
    added = cst.Arg(value=value, keyword=cst.Name(keyword), equal=plain)
    if not call.args:
        return _first_argument(call, added)
    *others, last = call.args
    between = _separator(call)
    if isinstance(last.comma, cst.Comma):
        # the whitespace of a trailing comma leads to the bracket: the new argument inherits it
        comma = last.comma.with_changes(
            whitespace_after=_commented_as(between, last.comma.whitespace_after)
        )
        closing = last.comma.with_changes(whitespace_after=_plain(last.comma.whitespace_after))
        added = added.with_changes(comma=closing)
    else:
        comma = cst.Comma(whitespace_after=_commented_as(between, last.whitespace_after_arg))
        added = added.with_changes(whitespace_after_arg=_plain(last.whitespace_after_arg))
        last = last.with_changes(whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(args=[*others, last.with_changes(comma=comma), added])


def _first_argument(call: cst.Call, added: cst.Arg) -> cst.Call:
    space = call.whitespace_before_args
    if not isinstance(space, cst.ParenthesizedWhitespace):
        return call.with_changes(args=[added])
    # only comments stand between the brackets
    inner = space.with_changes(last_line=cst.SimpleWhitespace(space.last_line.value + " " * 4))
    closing = cst.ParenthesizedWhitespace(
        cst.TrailingWhitespace(), indent=space.indent, last_line=space.last_line
    )
    added = added.with_changes(comma=cst.Comma(whitespace_after=closing))
    return call.with_changes(args=[added], whitespace_before_args=inner)


def _separator(call: cst.Call) -> cst.BaseParenthesizableWhitespace:
    """Return what stands between the last two arguments, without the comments there."""
    space = call.whitespace_before_args
    if len(call.args) > 1 and isinstance(call.args[-2].comma, cst.Comma):
        space = call.args[-2].comma.whitespace_after
    if isinstance(space, cst.ParenthesizedWhitespace):
        return _plain(space.with_changes(empty_lines=[]))
    return cst.SimpleWhitespace(" ")


def _plain(space: cst.BaseParenthesizableWhitespace) -> cst.BaseParenthesizableWhitespace:
    """Return ``space`` without the comment that belongs to the argument before it."""
    if not isinstance(space, cst.ParenthesizedWhitespace):
        return space
    first = cst.TrailingWhitespace(
        whitespace=cst.SimpleWhitespace(""), newline=space.first_line.newline
    )
    return space.with_changes(first_line=first)


def _commented_as(
    space: cst.BaseParenthesizableWhitespace, model: cst.BaseParenthesizableWhitespace
) -> cst.BaseParenthesizableWhitespace:
    """Return ``space`` with the comment that ends the first line of ``model``."""
    if not isinstance(model, cst.ParenthesizedWhitespace) or model.first_line.comment is None:
        return space
    if isinstance(space, cst.ParenthesizedWhitespace):
        return space.with_changes(first_line=model.first_line)
    return model


def without_keyword(call: cst.Call, keyword: str) -> cst.Call:
    """Return ``call`` without the argument ``keyword=``; the layout of the others stays."""
    kept = list(call.args)
    position = next(i for i, arg in enumerate(kept) if arg.keyword and arg.keyword.value == keyword)
    removed = kept.pop(position)
    if not kept:
        return call.with_changes(args=[], whitespace_before_args=cst.SimpleWhitespace(""))
    if position == len(kept):
        # the last one went: its predecessor closes the list the way it did
        before = kept[-1].comma
        comment = (
            before.whitespace_after if isinstance(before, cst.Comma) else cst.SimpleWhitespace("")
        )
        closing = removed.comma
        if isinstance(closing, cst.Comma):
            space = _commented_as(_plain(closing.whitespace_after), comment)
            kept[-1] = kept[-1].with_changes(comma=closing.with_changes(whitespace_after=space))
        else:
            space = _commented_as(_plain(removed.whitespace_after_arg), comment)
            kept[-1] = kept[-1].with_changes(comma=closing, whitespace_after_arg=space)
    return call.with_changes(args=kept)
