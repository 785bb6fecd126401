"""What a codemod sees: one service in one snapshot, everything parsed at most once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from mega_optimizer.repository.files import UnreadableFile
from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import libcst as cst

    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.dependencies.model import Dependencies, LockedPackage
    from mega_optimizer.repository.dockerfile import Dockerfile
    from mega_optimizer.repository.files import Files
    from mega_optimizer.repository.python import PythonFacts
    from mega_optimizer.repository.service import LaunchSite, Service

T = TypeVar("T")


class AsksForWheels(Protocol):
    """What says which packages an index would give today; the engine's resolver does."""

    def wheels(
        self,
        dependencies: Dependencies,
        *,
        python: str,
        platform: str,
        add: Sequence[str] = (),
        bounds: Sequence[str] = (),
    ) -> tuple[Mapping[str, LockedPackage], tuple[str, ...]] | Problem:
        """Return what would be installed from wheels, and the packages that have none."""


class Context:
    """One service, the files of one snapshot, and the parameters of the rule.

    ``index`` answers which packages have wheels, None where no index is to be asked.

    What is read of a snapshot is kept in a memo that the contexts of all rules share.
    """

    def __init__(
        self,
        service: Service,
        files: Files,
        parameters: Mapping[str, Any] | None = None,
        index: AsksForWheels | None = None,
    ) -> None:
        self.service = service
        self.index = index
        self.files = files
        self.parameters: Mapping[str, Any] = parameters or {}
        self._memo: dict[str, Any] = {}

    def with_parameters(self, parameters: Mapping[str, Any]) -> Context:
        """Return the context of another rule on the same service and snapshot."""
        other = Context(self.service, self.files, parameters, self.index)
        other._memo = self._memo
        return other

    def once(self, question: str, answer: Callable[[Context], T]) -> T:
        """Return ``answer`` of this context, worked out once for the rules that ask the same."""
        if question not in self._memo:
            self._memo[question] = answer(self)
        return cast("T", self._memo[question])

    def read(self, path: str) -> bytes | Problem:
        """Return the bytes of ``path``, or why it cannot be read."""
        try:
            return self.files.read(path)
        except UnreadableFile as error:
            return Problem(path, error.code, error.message)

    def modules(self, *literals: bytes) -> Iterator[str]:
        """Yield the service's Python files in which at least one of ``literals`` occurs."""
        holding = [self.files.holding(literal) for literal in literals]
        for path in self.service.modules:
            if any(path in paths for paths in holding):
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

    @property
    def dependencies(self) -> Dependencies:
        """What the service depends on in this snapshot."""
        from mega_optimizer.repository.dependencies.read import read_dependencies

        if "dependencies" not in self._memo:
            self._memo["dependencies"] = read_dependencies(self.files, self.service)
        return cast("Dependencies", self._memo["dependencies"])

    @property
    def launch(self) -> tuple[LaunchSite, ...]:
        """The launch sites in this snapshot, with the ranges that their words have in it."""
        from mega_optimizer.repository.launches import launch_now

        if "launch" not in self._memo:
            self._memo["launch"] = launch_now(self.files, self.service)
        return cast("tuple[LaunchSite, ...]", self._memo["launch"])

    @property
    def program(self) -> Program:
        """The Python modules of the service as one program."""
        from mega_optimizer.codemods.program import Program

        if "program" not in self._memo:
            self._memo["program"] = Program(self)
        return cast("Program", self._memo["program"])

    @property
    def base_image(self) -> str | None:
        """The image that the stage which ships is made from in the end, as FROM names it."""
        from mega_optimizer.repository.dockerfile import root_image, shipping_stage

        parsed = self.dockerfile(self.service.dockerfile) if self.service.dockerfile else None
        if parsed is None or isinstance(parsed, Problem):
            return None
        stage = shipping_stage(parsed, self.service.stage)
        return root_image(parsed, stage) if stage else None

    @property
    def python_version(self) -> str | None:
        """The ``X.Y`` that the tag of an official python image names, else None."""
        found = re.search(r"(?:^|/)python:(3\.\d+)", self.base_image or "")
        return found[1] if found else None
