"""The text of what shares a model: locks, loaders, and what warms them up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.loaders import FOR_TEXT

if TYPE_CHECKING:
    from mega_optimizer.codemods.ml.loading import Loading
    from mega_optimizer.repository.python import PythonFacts

LOADING = "_loading"
VERBS = re.compile(r"^_*(?:load|get|build|make|create|init|setup|prepare)_")
ABOUT_LOADING = "Libraries change global defaults while they load a model: one thread at a time."
ABOUT_PIPELINES = "A run changes the scheduler of the pipeline: threads take turns."
ABOUT_TEXT = "A call changes how the {noun} pads and truncates: threads take turns."
ABOUT_OTHERS = "A call changes what it keeps: threads take turns."


def about(loading: Loading, noun: str) -> str:
    """Say why threads take turns with what ``loading`` gives."""
    name = (loading.call.name or "").rpartition(".")[0]
    if "pipeline" in noun.lower() or name.startswith("diffusers"):
        return ABOUT_PIPELINES if name.startswith("diffusers") else ABOUT_OTHERS
    if name.rpartition(".")[2].endswith(FOR_TEXT) or noun.endswith(("tokenizer", "processor")):
        return ABOUT_TEXT.format(noun=noun)
    return ABOUT_OTHERS


def locked_getter(name: str, loader: str, returns: str = "") -> str:
    """Return the function ``name`` that asks ``loader`` under the lock."""
    return f"def {name}(){returns}:\n    with {LOADING}:\n        return {loader}()"


def dedented(text: str, column: int) -> str:
    """Return lines that were indented by ``column`` as the body of a function."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(
        f"    {line[min(column, len(line) - len(line.lstrip())) :]}" if line.strip() else ""
        for line in lines
    )


def warmer_name(getters: list[str]) -> str:
    """Return a name for what loads the models that ``getters`` give."""
    noun = VERBS.sub("", getters[0]).strip("_") if len(getters) == 1 else "models"
    return f"warm_{noun or 'model'}"


def warmer(facts: PythonFacts, name: str, getters: list[str]) -> str:
    """Return the context manager ``name`` that loads what ``getters`` give."""
    log = "logger" if facts.bindings.get("logger") == ":logger" else "logging.getLogger(__name__)"
    call = getters[0] if len(getters) == 1 else "load"
    body = [
        "try:",
        f"    await asyncio.to_thread({call})",
        "except Exception:",
        f'    {log}.exception("could not load {"the" if len(getters) == 1 else "a"} model yet")',
    ]
    if len(getters) > 1:
        body = [f"for load in ({', '.join(getters)}):", *(f"    {each}" for each in body)]
    what = "the models" if len(getters) > 1 else "the model"
    them = "them" if len(getters) > 1 else "it"
    return "\n".join(
        [
            "@asynccontextmanager",
            f"async def {name}() -> AsyncIterator[None]:",
            f'    """Load {what} before the application serves: no request waits for {them}."""',
            *(f"    {each}" for each in body),
            "    yield",
        ]
    )
