"""gunicorn imports the application once, before it forks, where that loads a model.

The pages of the model are then shared between the processes until somebody writes to them
(https://docs.gunicorn.org/en/stable/settings.html#preload-app).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Fix, Skip
from mega_optimizer.codemods.launch_sites import with_words
from mega_optimizer.codemods.serving.hazard_names import MODEL_LOADERS, WORKING
from mega_optimizer.codemods.serving.hazards import Hazard, reached_modules
from mega_optimizer.codemods.serving.process_count import worker_count
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome
    from mega_optimizer.repository.python import Call

# Their thread pools and devices do not survive a fork.
NOT_FORK_SAFE = ("torch", "tensorflow", "keras", "onnxruntime", "lightgbm", "xgboost", "jax")
CONNECTING = frozenset(
    {
        "pymongo.MongoClient", "grpc.insecure_channel", "grpc.secure_channel", "boto3.client",
        "boto3.resource", "kafka.KafkaProducer", "kafka.KafkaConsumer", "pika.BlockingConnection",
        "elasticsearch.Elasticsearch", "cassandra.cluster.Cluster",
    }
)  # fmt: skip
CONNECTS = (".connect", ".create_all", ".ping", ".execute")


def find(context: Context) -> Iterator[Outcome]:
    """Yield a fix for each gunicorn of several processes that all load the same model."""
    sites = [
        site
        for site in context.launch
        if site.server == "gunicorn"
        and site.application
        and site.source != "python"
        and site.option("--preload", "--preload-app") is None
    ]
    if not sites or context.service.trait("preload"):
        return
    model, obstacle = _at_import(context)
    if model is None:
        return
    count = worker_count(context)
    if count == 1:
        return
    for site in sites:
        if "--reload" in [word.text for word in site.words]:
            yield Skip(site.place, "reloads", "gunicorn cannot reload what it has preloaded")
            continue
        library = next((each for each in NOT_FORK_SAFE if each in context.dependencies), None)
        if library is not None or context.service.trait("gpu"):
            reason = f"{library or 'the GPU'} is not safe to fork once it is loaded"
            yield Skip(site.place, "not-fork-safe", reason)
            continue
        if obstacle is not None:
            yield Skip(obstacle.place, "opened-at-import", obstacle.sentence)
            continue
        yield Fix(
            site.place,
            f"Load the model once for all processes ({model})",
            partial(with_words, context, site, 1, 1, ("--preload",)),
        )


def _at_import(context: Context) -> tuple[Place | None, Hazard | None]:
    """Return where importing the application loads a model, and what else it opens."""
    program = context.program
    model: Place | None = None
    obstacle: Hazard | None = None
    for path in reached_modules(context, program):
        facts = program.facts(path)
        for call in facts.calls if facts is not None else ():
            if call.scope:
                continue
            place = Place(path, call.line)
            if call.name in MODEL_LOADERS:
                model = model or place
            elif _opens(call):
                sentence = f"{call.text} opens at import what must not be shared by a fork"
                obstacle = obstacle or Hazard("opened-at-import", place, sentence)
    return model, obstacle


def _opens(call: Call) -> bool:
    return call.name in WORKING or call.name in CONNECTING or call.text.endswith(CONNECTS)
