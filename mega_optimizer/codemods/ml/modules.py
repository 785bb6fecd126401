"""Which variables hold a PyTorch module, and what calls run one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.origins import Origin, origins

if TYPE_CHECKING:
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts

# Methods that run a module, besides calling it. ``generate`` switches gradients off by itself.
RUN = frozenset(
    {"forward", "get_text_features", "get_image_features", "encode_image", "encode_text"}
)
# Modules that are a part of another one, as libraries name them.
PARTS = re.compile(
    r"(?:^|_)(?:model|projection|encoder|decoder|head|classifier|backbone|embeddings)$"
)
_THE_MODULE_ITSELF = frozenset(
    {"eval", "to", "cuda", "cpu", "half", "float", "bfloat16", "double", "requires_grad_"}
)
_LOADERS = frozenset({"torch.jit.load", "torch.hub.load", "torch.load", "timm.create_model"})
_MODELS = re.compile(
    r"torchvision\.models\.(?:\w+\.)*\w+|torch\.nn\.[A-Z]\w+"
    r"|transformers\.(?!TF|Flax)\w*(?:Model\w*|For[A-Z]\w+|Encoder|Decoder)\.from_pretrained"
)
_BASES = frozenset({"torch.nn.Module", "torch.nn.Sequential", "transformers.PreTrainedModel"})
BASES_DEEP = 4
Seen = frozenset[tuple[str, str, str]]


def module_that_runs(text: str) -> str:
    """Return what would have to be a module for a call of the dotted ``text`` to run one."""
    owner, _, last = text.rpartition(".")
    if owner and owner != "self" and (last in RUN or PARTS.search(last)):
        return owner
    return text


def is_module(program: Program, facts: PythonFacts, text: str, scope: str) -> bool:
    """Whether everything that the dotted ``text`` may hold is a module of PyTorch."""
    return _holds_module(program, facts, text, scope, frozenset()) is True


def _holds_module(
    program: Program, facts: PythonFacts, text: str, scope: str, seen: Seen
) -> bool | None:
    """Answer :func:`is_module`; None where a variable only gets what it holds already."""
    here = (facts.path, scope, text)
    if here in seen:
        return None
    found = origins(program, facts, text, scope)
    answers = {_makes_module(program, each, seen | {here}) for each in found}
    return True in answers and False not in answers


def _makes_module(program: Program, origin: Origin, seen: Seen) -> bool | None:
    value = origin.value
    if value.kind != "call":
        return False
    if value.name is not None:
        if value.name in _LOADERS or _MODELS.fullmatch(value.name):
            return True
        name = value.name.removesuffix(".from_pretrained")
        if _is_own_class(program, origin.facts, name, BASES_DEEP):
            return True
    owner, _, method = value.text.rpartition(".")
    if method not in _THE_MODULE_ITSELF:
        return False
    if owner:
        return _holds_module(program, origin.facts, owner, origin.scope, seen)
    inner = value.arguments[0].value if value.arguments else None
    if inner is None:
        return False
    return _makes_module(program, Origin(origin.facts, origin.scope, inner), seen)


def _is_own_class(program: Program, facts: PythonFacts, name: str | None, depth: int) -> bool:
    """Whether a class of the service is a module, and writes nothing to itself when it runs."""
    home = program.definition(facts.path, name)
    other = program.facts(home.path) if home is not None else None
    if home is None or other is None or depth == 0:
        return False
    found = [each for each in other.classes if each.path == home.name]
    if len(found) != 1 or _keeps_state(other, home.name):
        return False
    return any(
        base.name in _BASES or _is_own_class(program, other, base.name, depth - 1)
        for base in found[0].bases
    )


def _keeps_state(facts: PythonFacts, owner: str) -> bool:
    """Whether methods other than the constructor write to the object.

    What is kept from a run in inference mode cannot be changed in another mode.
    """
    return any(
        each.target.startswith("self.")
        and each.scope.startswith(f"{owner}.")
        and each.scope != f"{owner}.__init__"
        for each in facts.assignments
    )
