"""What configures installers: files that they read by themselves, and variables."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.repository.dockerfile import Copy

FILES = ("pip.conf", ".pip", ".netrc", ".pydistutils.cfg", "uv.toml", ".pypirc")


def configures_installer(copy: Copy) -> bool:
    """Whether ``copy`` brings a file that pip or uv reads by itself."""
    names = (posixpath.basename(path) for path in (*copy.sources, copy.destination))
    return any(name in FILES for name in names)
