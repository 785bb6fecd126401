"""The keyword that says in which number format weights are loaded: ``dtype``, once ``torch_dtype``.

Tried with both libraries before and after the change:

transformers took ``dtype`` with 4.56 and has only warned of ``torch_dtype`` since; before, it is a
TypeError. diffusers took it with 0.40 and deprecates ``torch_dtype``; before, its models raise
TypeError and **its pipelines warn and load float32** (``pipeline_utils.py`` of 0.39).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Skip
from mega_optimizer.codemods.keywords import keyword_of
from mega_optimizer.codemods.ml.loaders import model_loads, weights_library
from mega_optimizer.codemods.source import read_source
from mega_optimizer.codemods.versions import version_verdict
from mega_optimizer.repository.place import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.source import Source
    from mega_optimizer.repository.python import Call

OLD, NEW = "torch_dtype", "dtype"
TOOK_DTYPE = {"transformers": "4.56", "diffusers": "0.40"}
# Flax and TensorFlow classes have always called theirs ``dtype``; modular pipelines take the
# keyword when they load their components.
_OTHER_FRAMEWORKS = ("Flax", "TF", "Modular")


@dataclass(frozen=True, slots=True)
class Load:
    """A call that reads weights, as facts and as syntax."""

    path: str
    source: Source
    call: ast.Call
    fact: Call
    library: str
    owner: str

    @property
    def place(self) -> Place:
        """Where the call stands."""
        return Place(self.path, self.call.lineno, self.call.col_offset + 1)

    @property
    def is_pipeline_of_diffusers(self) -> bool:
        """Whether it loads a whole pipeline, not one model of it."""
        named = self.owner.endswith("Pipeline") or self.owner.startswith("AutoPipeline")
        return self.library == "diffusers" and named

    def given(self, *names: str) -> ast.keyword | None:
        """Return the first of the keyword arguments ``names`` that is given."""
        found = (keyword_of(self.call, name) for name in names)
        return next((each for each in found if each is not None), None)


def weight_loads(context: Context, *literals: bytes) -> Iterator[Load | Skip]:
    """Yield the calls of transformers and diffusers that read PyTorch weights in the product."""
    service = context.service
    if service.trait("transformers") is None and service.trait("diffusers") is None:
        return
    sources: dict[str, Source | Problem] = {}
    for facts, call in model_loads(context, *literals):
        library = weights_library(call)
        owner = _owner(call.name or "")
        if library is None or owner.startswith(_OTHER_FRAMEWORKS):
            continue
        if facts.path not in sources:
            content = context.read(facts.path)
            sources[facts.path] = (
                read_source(facts.path, content) if isinstance(content, bytes) else content
            )
        source = sources[facts.path]
        if isinstance(source, Problem):
            yield Skip(Place(facts.path, source.line), source.code, source.message)
            continue
        node = source.call(call)
        if node is not None:
            yield Load(facts.path, source, node, call, library, owner)


def _owner(name: str) -> str:
    """Return the class of a loader, or the name of a function."""
    owner, _, method = name.rpartition(".")
    return owner.rpartition(".")[2] if method.startswith("from_") else method


def keyword_now(context: Context, library: str) -> str | tuple[str, str]:
    """Return which keyword the library takes in every version allowed, or a skip's code and why."""
    version = TOOK_DTYPE[library]
    verdict = version_verdict(context, library, f">={version}")
    if verdict.answer == "holds":
        return NEW
    if version_verdict(context, library, f"<{version}").answer == "holds":
        return OLD
    reason = f"{library} takes {NEW} from {version} on: {verdict.why}"
    return "version-unknown", reason


def hides_keywords(call: ast.Call) -> bool:
    """Whether ``**…`` may hold a number format too; the components of a pipeline do not."""
    for each in call.keywords:
        if each.arg is not None:
            continue
        value = each.value
        if not (isinstance(value, ast.Attribute) and value.attr == "components"):
            return True
    return False
