"""Remember what was read out of bytes, keyed by their hash, so that no snapshot is parsed twice."""

from __future__ import annotations

from collections import OrderedDict
from functools import wraps
from hashlib import blake2b
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
P = ParamSpec("P")


def content_hash(content: bytes) -> bytes:
    """Return a 16-byte digest of ``content``."""
    return blake2b(content, digest_size=16).digest()


def by_content(
    size: int,
) -> Callable[[Callable[Concatenate[str, bytes, P], T]], Callable[Concatenate[str, bytes, P], T]]:
    """Memoise a function of (path, content, …) for what it was asked last, ``size`` times."""

    def decorate(
        parse: Callable[Concatenate[str, bytes, P], T],
    ) -> Callable[Concatenate[str, bytes, P], T]:
        results: OrderedDict[tuple[object, ...], T] = OrderedDict()

        @wraps(parse)
        def remembered(path: str, content: bytes, /, *others: P.args, **named: P.kwargs) -> T:
            key = (path, content_hash(content), *others, *named.items())
            if key in results:
                results.move_to_end(key)
                return results[key]
            result = results[key] = parse(path, content, *others, **named)
            if len(results) > size:
                results.popitem(last=False)
            return result

        return remembered

    return decorate
