"""What a codemod sees: one service in one snapshot, everything parsed at most once."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import libcst as cst

    from mega_optimizer.repository.dependencies.model import Dependencies
    from mega_optimizer.repository.dockerfile import Dockerfile
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.python import PythonFacts
    from mega_optimizer.repository.service import Service


class Context:
    """One service, the files of one snapshot, and the parameters of the rule."""

    def __init__(
        self, service: Service, files: Files, parameters: Mapping[str, Any] | None = None
    ) -> None:
        self.service = service
        self.files = files
        self.parameters: Mapping[str, Any] = parameters or {}

    def read(self, path: str) -> bytes | Problem:
        """Return the bytes of ``path``, or why it cannot be read."""
        try:
            return self.files.read(path)
        except UnreadableFile as error:
            return Problem(path, error.code, error.message)

    def modules(self, *literals: bytes) -> Iterator[str]:
        """Yield the service's Python files in which at least one of ``literals`` occurs."""
        for path in self.service.modules:
            content = self.read(path)
            if isinstance(content, bytes) and any(literal in content for literal in literals):
                yield path

    def python(self, path: str) -> PythonFacts | Problem:
        """Return the facts of a Python file (one ``ast`` walk, memoised by content)."""
        from mega_optimizer.repository.python import python_facts

        content = self.read(path)
        return python_facts(path, content) if isinstance(content, bytes) else content

    def tree(self, path: str) -> cst.Module | Problem:
        """Return the libcst tree of a Python file that ``ast`` accepts."""
        from mega_optimizer.codemods.python import parse_module

        content = self.read(path)
        return parse_module(path, content) if isinstance(content, bytes) else content

    def dockerfile(self, path: str) -> Dockerfile | Problem:
        """Return the parsed Dockerfile at ``path``."""
        from mega_optimizer.repository.dockerfile import parse_dockerfile

        content = self.read(path)
        return parse_dockerfile(path, content) if isinstance(content, bytes) else content

    @cached_property
    def dependencies(self) -> Dependencies:
        """What the service depends on in this snapshot."""
        from mega_optimizer.repository.dependencies.read import read_dependencies

        return read_dependencies(self.files, self.service)

    @cached_property
    def python_version(self) -> str | None:
        """The ``X.Y`` that the tag of an official python image names, else None."""
        from mega_optimizer.repository.dockerfile import root_image, shipping_stage

        parsed = self.dockerfile(self.service.dockerfile) if self.service.dockerfile else None
        if parsed is None or isinstance(parsed, Problem):
            return None
        stage = shipping_stage(parsed, self.service.stage)
        image = root_image(parsed, stage) if stage else None
        found = re.search(r"(?:^|/)python:(3\.\d+)", image or "")
        return found[1] if found else None
