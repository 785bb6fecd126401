"""Remember what was read out of bytes, keyed by their hash, so that no snapshot is parsed twice."""

from __future__ import annotations

from collections import OrderedDict
from functools import wraps
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def content_hash(content: bytes) -> bytes:
    """Return a 16-byte digest of ``content``."""
    return blake2b(content, digest_size=16).digest()


def by_content(size: int) -> Callable[[Callable[[str, bytes], T]], Callable[[str, bytes], T]]:
    """Memoise a function of (path, content) for the ``size`` files used last."""

    def decorate(parse: Callable[[str, bytes], T]) -> Callable[[str, bytes], T]:
        results: OrderedDict[tuple[str, bytes], T] = OrderedDict()

        @wraps(parse)
        def remembered(path: str, content: bytes) -> T:
            key = (path, content_hash(content))
            if key in results:
                results.move_to_end(key)
                return results[key]
            result = results[key] = parse(path, content)
            if len(results) > size:
                results.popitem(last=False)
            return result

        return remembered

    return decorate
