"""Calls that load a model, and which of what they load may be shared by threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.repository.place import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.repository.python import Call, PythonFacts

# One of these occurs in every module that loads a model.
LITERALS = (
    b"joblib", b"pickle", b"dill", b"skops", b"from_pretrained", b"from_single_file", b"load_model",
    b"pipeline", b"whisper",
    b"InferenceSession", b"SentenceTransformer", b"spacy", b"torch.jit", b"Booster", b"gensim",
)  # fmt: skip

# Predicting with these changes nothing in them.
SHAREABLE = frozenset(
    {
        "joblib.load", "pickle.load", "cloudpickle.load", "dill.load", "skops.io.load",
        "torch.jit.load", "onnxruntime.InferenceSession", "spacy.load",
        "sentence_transformers.SentenceTransformer", "lightgbm.Booster", "xgboost.Booster",
        "keras.models.load_model", "keras.saving.load_model", "tensorflow.keras.models.load_model",
        "gensim.models.KeyedVectors.load", "gensim.models.Word2Vec.load", "fasttext.load_model",
    }
)  # fmt: skip
# Diffusers pipelines keep the state of a run in their scheduler, fast tokenizers the padding and
# truncation of a call: without a lock, threads get each other's (measured: wrong images).
NEEDS_A_LOCK = frozenset({"transformers.pipeline", "whisper.load_model"})
FOR_TEXT = ("Tokenizer", "TokenizerFast", "Processor", "FeatureExtractor")
_WITHOUT_WEIGHTS = (*FOR_TEXT, "Config", "Scheduler", "Criteria", "ModelCard")
_READS = (".from_pretrained", ".from_single_file")


def is_loader(call: Call) -> bool:
    """Whether ``call`` loads a model from a file or a hub."""
    name = call.name or ""
    if name in SHAREABLE or name in NEEDS_A_LOCK:
        return True
    package = name.partition(".")[0]
    return package in ("transformers", "diffusers") and name.endswith(_READS)


def is_slow_to_load(name: str) -> bool:
    """Whether ``name`` is a loader that takes seconds, and that only one thread may call at a time.

    While transformers and diffusers load, they replace the default dtype and the initialisers of
    all modules in the process (``local_torch_dtype``, ``no_init_weights``, ``init_empty_weights``).
    """
    hub = name.startswith(("transformers.", "diffusers.")) and name.endswith(_READS)
    return hub or name in NEEDS_A_LOCK


def needs_a_lock(name: str) -> bool:
    """Whether threads that share what ``name`` loads disturb each other."""
    if name in SHAREABLE:
        return False
    owner = name.rpartition(".")[0].rpartition(".")[2]
    return name in NEEDS_A_LOCK or name.startswith("diffusers.") or owner.endswith(FOR_TEXT)


def model_loads(context: Context, *literals: bytes) -> Iterator[tuple[PythonFacts, Call]]:
    """Yield the calls of the product that load a model, with the facts of their module.

    ``literals`` are bytes of which one must occur in the module; by default those of all loaders.
    """
    for path in context.modules(*(literals or LITERALS)):
        facts = context.python(path) if path in context.program.product else None
        if facts is not None and not isinstance(facts, Problem):
            yield from ((facts, call) for call in facts.calls if is_loader(call))


def weights_library(call: Call) -> str | None:
    """Return ``transformers`` or ``diffusers`` for a call of theirs that reads weights, else None.

    Tokenizers, processors, configurations and schedulers have none.
    """
    name = call.name or ""
    package = name.partition(".")[0]
    if name in ("transformers.pipeline", "transformers.pipelines.pipeline"):
        return package
    if package not in ("transformers", "diffusers") or not name.endswith(_READS):
        return None
    owner = name.rpartition(".")[0].rpartition(".")[2]
    return None if owner.endswith(_WITHOUT_WEIGHTS) else package
