"""Calls that load a model, and which of what they load may be shared by threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mega_optimizer.repository.python import Call

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


def is_loader(call: Call) -> bool:
    """Whether ``call`` loads a model from a file or a hub."""
    name = call.name or ""
    if name in SHAREABLE or name in NEEDS_A_LOCK:
        return True
    package = name.partition(".")[0]
    return package in ("transformers", "diffusers") and name.endswith(".from_pretrained")


def needs_a_lock(call: Call) -> bool:
    """Whether threads that share what ``call`` loads disturb each other."""
    name = call.name or ""
    if name in SHAREABLE:
        return False
    owner = name.removesuffix(".from_pretrained").rpartition(".")[2]
    return name in NEEDS_A_LOCK or name.startswith("diffusers.") or owner.endswith(FOR_TEXT)
